"""Reads one JSON object of a stranger field by field: type, range, path of what is wrong.

`null` is the same as absent, an integral `5.0` is an integer, `true` is no number, a wrong type is
an error and never a default. Messages name the field and what it must be; they never quote the
value, which may be a piece of a prompt.
"""

from collections.abc import Iterable, Mapping

from chatsafe_common.errors import InvalidRequest, InvalidType, MissingParameter


class Fields:
    """A JSON object that remembers which of its fields were asked for.

    `path` is where it stands in the document ("messages[2]"), "" for the document itself.
    """

    def __init__(self, values: Mapping[str, object], path: str = "") -> None:
        self._values = values
        self._path = path
        self._known: set[str] = set()

    def __repr__(self) -> str:
        return f"Fields({self._path or 'document'}, {len(self._values)} fields)"

    def at(self, name: str) -> str:
        """The path of one field."""
        return f"{self._path}.{name}" if self._path else name

    def raw(self, name: str) -> object:
        """The value as it stands, None when absent."""
        self._known.add(name)
        return self._values.get(name)

    def has(self, name: str) -> bool:
        return self.raw(name) is not None

    def unknown(self) -> list[str]:
        """Paths of fields that hold something and that nobody asked for."""
        return [
            self.at(name)
            for name, value in self._values.items()
            if name not in self._known and value is not None
        ]

    def boolean(self, name: str) -> bool | None:
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong_type(name, "true or false")

    def string(self, name: str, *, max_chars: int | None = None) -> str | None:
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong_type(name, "a string")
        if max_chars is not None and len(value) > max_chars:
            raise self.wrong_value(name, f"{name} may have at most {max_chars} characters.")
        return value

    def choice(self, name: str, allowed: Iterable[str]) -> str | None:
        value = self.string(name)
        if value is None or value in (words := tuple(allowed)):
            return value
        raise self.wrong_value(name, f"{name} must be one of {', '.join(words)}.")

    def number(self, name: str, low: float, high: float, label: str = "") -> float | None:
        """A number in `low`..`high`; `label` is how the message spells the name."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong_type(name, "a number")
        if not low <= value <= high:
            label = label or name
            raise self.wrong_value(name, f"{label} must be between {low:g} and {high:g}.")
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong_type(name, "an integer")
        if not low <= value <= high:
            raise self.wrong_value(name, f"{name} must be between {low} and {high}.")
        return value

    def array(self, name: str) -> list[object] | None:
        value = self.raw(name)
        if value is None or isinstance(value, list):
            return value
        raise self.wrong_type(name, "an array")

    def mapping(self, name: str) -> dict[str, object] | None:
        value = self.raw(name)
        if value is None or isinstance(value, dict):
            return value
        raise self.wrong_type(name, "an object")

    def missing(self, name: str) -> MissingParameter:
        path = self.at(name)
        return MissingParameter(f"{path} is missing and required.", param=path)

    def wrong_type(self, name: str, wanted: str) -> InvalidType:
        path = self.at(name)
        return InvalidType(f"{path} must be {wanted}.", param=path)

    def wrong_value(self, name: str, message: str) -> InvalidRequest:
        return InvalidRequest(message, param=self.at(name))


def as_fields(value: object, path: str) -> Fields:
    """`value` as an object. Raises InvalidType naming `path`."""
    if isinstance(value, dict):
        return Fields(value, path)
    raise InvalidType(f"{path or 'The body'} must be a JSON object.", param=path or None)
