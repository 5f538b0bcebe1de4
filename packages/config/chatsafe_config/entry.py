"""One JSON object that is being read: every field is asked for by name, type and range.

What was never asked for is unknown; it is kept, and a warning says so.
"""

import math
import re
from collections.abc import Mapping

from chatsafe_config.errors import ConfigError

_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Entry:
    """A view of one object; `where` names it in messages, as "FILE: models[2] (some-id)"."""

    def __init__(self, table: Mapping[str, object], where: str, warnings: list[str]) -> None:
        self._table = table
        self._where = where
        self._warnings = warnings
        self._asked: set[str] = set()

    def refuse(self, reason: str, near: str = "") -> ConfigError:
        """The error to raise about this entry."""
        return ConfigError(f"{self._where}: {reason}.{near}")

    def identifier(self) -> str:
        """The `id`; from here on messages name it."""
        found = self.text("id")
        if not _ID.fullmatch(found):
            raise self.refuse(f"id {found!r} may hold letters, digits, '.', '_' and '-' only")
        self._where = f"{self._where} ({found})"
        return found

    def text(self, *names: str, default: str | None = None, may_be_empty: bool = False) -> str:
        """A text under the first of `names` that is there; required when `default` is None."""
        for name in names:
            if name in self._table:
                self._asked.update(names)
                value = self._table[name]
                if not isinstance(value, str):
                    raise self._wrong(name, "a text", value)
                if not value and not may_be_empty:
                    raise self.refuse(f"{name} must not be empty")
                return value
        if default is None:
            raise self.refuse(f"{names[0]} is missing")
        return default

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of one or more texts, none empty; None when absent."""
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts", value)
        if not value or not all(value):
            raise self.refuse(f"{name} must hold at least one text, and no empty one")
        return tuple(value)

    def flag(self, name: str) -> bool:
        """true or false; false when absent."""
        value = self._take(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def whole(self, name: str, *, default: int | None, low: int, high: int) -> int:
        """A whole number in low..high; required when `default` is None."""
        found = self.optional_whole(name, low=low, high=high)
        if found is None and default is None:
            raise self.refuse(f"{name} is missing")
        return default if found is None and default is not None else found or 0

    def optional_whole(self, name: str, *, low: int, high: int) -> int | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number", value)
        if not low <= value <= high:
            raise self.refuse(f"{name} is {value}; it must be between {low} and {high}")
        return value

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        found = self.optional_number(name, low=low, high=high)
        return default if found is None else found

    def optional_number(self, name: str, *, low: float, high: float) -> float | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number", value)
        if not (math.isfinite(value) and low <= value <= high):
            raise self.refuse(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
        return float(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        """An object taken as it is; empty when absent."""
        value = self._take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return value

    def table(self, name: str) -> "Entry":
        """An object to be read field by field; empty when absent."""
        return Entry(self.mapping(name), f"{self._where}, {name}", self._warnings)

    def entries(self, name: str) -> list["Entry"]:
        """A list of objects; required."""
        value = self._take(name)
        if value is None:
            raise self.refuse(f"{name} is missing")
        if not isinstance(value, list):
            raise self._wrong(name, "a list of objects", value)
        found = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise self._wrong(f"{name}[{index}]", "an object", item)
            found.append(Entry(item, f"{self._where}: {name}[{index}]", self._warnings))
        return found

    def rest(self) -> dict[str, object]:
        """The fields nobody asked for, with one warning about them."""
        unknown = {key: value for key, value in self._table.items() if key not in self._asked}
        if unknown:
            names = ", ".join(unknown)
            self._warnings.append(f"{self._where}: unknown fields are kept but unused: {names}.")
        return unknown

    def _take(self, name: str) -> object:
        self._asked.add(name)
        return self._table.get(name)

    def _wrong(self, name: str, wanted: str, value: object) -> ConfigError:
        given = {str: "a text", bool: "true or false", list: "a list", dict: "an object"}.get(
            type(value), "null" if value is None else f"the number {value}"
        )
        return self.refuse(f"{name} must be {wanted}, not {given}")
