"""LabelFilter."""


class LabelFilter:
    def __init__(self) -> None:
        self.is_ended = False

    def push(self, text: str) -> str:
        return text

    def flush(self) -> str:
        return ""
