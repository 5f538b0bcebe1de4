"""What `/set` can set, and within which bounds: the API's own, checked before anything is sent."""

import math
from dataclasses import dataclass

import msgspec

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.session import ChatSession

UNSET = "default"


@dataclass(frozen=True, slots=True)
class _Bounds:
    minimum: float
    maximum: float
    is_whole: bool = False


_BOUNDS = {
    "temperature": _Bounds(0, 2),
    "top_p": _Bounds(0, 1),
    "top_k": _Bounds(0, 1000, is_whole=True),
    "min_p": _Bounds(0, 1),
    "typical_p": _Bounds(0, 1),
    "repeat_penalty": _Bounds(0.1, 2),
    "presence_penalty": _Bounds(-2, 2),
    "frequency_penalty": _Bounds(-2, 2),
    "seed": _Bounds(-(2**63), 2**63 - 1, is_whole=True),
    "max_tokens": _Bounds(1, 2**31 - 1, is_whole=True),
}
NAMES = tuple(_BOUNDS)


def set_option(session: ChatSession, name: str, text: str) -> None:
    """Sets `name`, or gives it back to the model with "default". Raises Failure."""
    if name not in _BOUNDS:
        raise Failure(
            f"there is nothing called {name!r} to set",
            why="there are " + ", ".join(NAMES),
            fix="/set temperature 0.2",
            exit_code=ExitCode.USAGE,
        )
    if not text:
        raise Failure(f"{name} needs a value", fix=f"/set {name} {UNSET}", exit_code=ExitCode.USAGE)
    value = None if text == UNSET else _number(name, text)
    if name == "max_tokens":
        session.max_tokens = None if value is None else int(value)
    else:
        session.sampling = msgspec.structs.replace(session.sampling, **{name: value})


def _number(name: str, text: str) -> float | int:
    bounds = _BOUNDS[name]
    try:
        value = int(text) if bounds.is_whole else float(text)
    except ValueError:
        value = math.nan
    # Written so that NaN fails it too.
    if not bounds.minimum <= value <= bounds.maximum:
        kind = "a whole number" if bounds.is_whole else "a number"
        low, high = bounds.minimum, bounds.maximum
        raise Failure(
            f"{name} must be {kind} between {low} and {high}",
            why=f"{text!r} is not",
            fix=f"/set {name} {UNSET} gives the choice back to the model",
            exit_code=ExitCode.USAGE,
        )
    return value


def chosen_options(session: ChatSession) -> list[tuple[str, str]]:
    """What was set, as names and values."""
    values = msgspec.structs.asdict(session.sampling) | {"max_tokens": session.max_tokens}
    return [(name, f"{values[name]}") for name in NAMES if values[name] is not None]
