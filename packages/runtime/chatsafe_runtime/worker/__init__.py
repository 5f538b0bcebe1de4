"""The worker process: the only code that ever touches a model file."""
