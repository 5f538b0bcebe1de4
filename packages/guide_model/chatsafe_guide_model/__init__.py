"""ChatSafe: the small built-in model, as data."""
