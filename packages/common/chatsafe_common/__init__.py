"""ChatSafe: the words every ChatSafe package shares."""
