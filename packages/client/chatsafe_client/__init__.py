"""ChatSafe: other programs' way to a ChatSafe daemon."""
