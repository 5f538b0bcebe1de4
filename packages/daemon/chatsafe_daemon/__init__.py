"""ChatSafe: the chatsafe-server command: plugs the packages together."""
