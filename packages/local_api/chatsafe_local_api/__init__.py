"""ChatSafe: the OpenAI-compatible HTTP API on localhost."""
