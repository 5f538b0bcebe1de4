"""Strict JSON: bytes of a stranger to Python values, or `InvalidJson` with a reason.

Stricter than `json` and msgspec, which both keep the last of duplicate keys: two readers that
disagree on which one counts are how a check is passed by. A scan in front of the decoder bounds
depth and the number of values, because the decoder holds the interpreter while it runs: 32 MiB
of `[],[],[]...` would stop the daemon for a second.
"""

import json
import math
import re

from chatsafe_common.errors import InvalidJson

MAX_DEPTH = 32
# A chat of 512 messages with several parts each makes some thousand values; 100 000 decode in
# about 20 ms.
MAX_VALUES = 100_000

# Runs between what opens and closes, and runs of a string's characters.
_OUTSIDE = re.compile(rb'[^"\[\]{}]*+')
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
# A regular expression holds the interpreter while it runs: 1 MiB is about 5 ms.
_WINDOW_BYTES = 1024 * 1024
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> object:
    """The value that `body` spells. Raises InvalidJson; its message never quotes the body."""
    _scan(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidJson("The body is not valid UTF-8. Send JSON encoded as UTF-8.") from None
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise InvalidJson(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}. Send one JSON object."
        ) from None
    except ValueError:  # an integer of more than 4300 digits
        raise InvalidJson("A number in the body is too large.") from None
    # A lone surrogate is no character: it could not be written as UTF-8 again.
    if _SURROGATE.search(body) and not _is_encodable(value):
        raise InvalidJson("A string in the body holds half a surrogate pair (\\ud800 to \\udfff).")
    return value


def _scan(body: bytes) -> None:
    depth, num_values, position = 0, 1, 0
    while position < len(body):
        start, position = position, _run_end(_OUTSIDE, body, position)
        # Every value but the first of each list or object has a comma in front of it.
        num_values += 1 + body.count(b",", start, position)
        match body[position : position + 1]:
            case b'"':
                position = _run_end(_INSIDE, body, position + 1)
            case b"[" | b"{":
                depth += 1
            case _:
                depth -= 1
        position += 1
        if depth > MAX_DEPTH:
            raise InvalidJson(f"The body is nested more than {MAX_DEPTH} levels deep.")
        if num_values > MAX_VALUES:
            raise InvalidJson(f"The body holds more than {MAX_VALUES} values.")


def _run_end(run: "re.Pattern[bytes]", body: bytes, position: int) -> int:
    """Where the run that starts at `position` ends, found in windows."""
    while True:
        window_end = position + _WINDOW_BYTES
        found = run.match(body, position, window_end)
        end = found.end() if found else position
        # At a window's end the run may go on; one byte before it, it may be a cut escape.
        if end < window_end - 1 or end == position:
            return end
        position = end


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidJson("An object in the body has the same key twice.")
    return found


def _refuse_constant(name: str) -> object:
    raise InvalidJson(f"{name} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidJson("A number in the body is too large.")
    return number


def _is_encodable(value: object) -> bool:
    match value:
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return all(_is_encodable(item) for item in value)
        case dict():
            return all(_is_encodable(item) for pair in value.items() for item in pair)
        case _:
            return True
