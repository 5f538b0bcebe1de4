"""ChatSafe: a GGUF file becomes a chat backend, one worker process per model."""
