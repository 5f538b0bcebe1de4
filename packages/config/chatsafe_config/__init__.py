"""ChatSafe: settings, model registry, GGUF header check."""
