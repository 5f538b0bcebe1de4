"""ChatSafe: the chatsafe command."""
