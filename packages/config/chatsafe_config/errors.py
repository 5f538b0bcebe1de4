"""What a person reads when their configuration or a model file cannot be used."""


class ConfigError(Exception):
    """A file, variable, flag or registry entry is wrong; the message says which and what to do."""


class GgufError(Exception):
    """A model file is not what we load; the message is the reason, without the file's path."""
