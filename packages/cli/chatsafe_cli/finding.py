"""What a check of `chatsafe doctor` found."""

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report; `fix` is a command or a sentence, "" when all is well."""

    level: Level
    subject: str
    text: str
    fix: str = ""


def ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def warning(subject: str, text: str, fix: str) -> Finding:
    """Works, but not as well or as safely as it could."""
    return Finding("warning", subject, text, fix)


def problem(subject: str, text: str, fix: str) -> Finding:
    """Does not work."""
    return Finding("problem", subject, text, fix)
