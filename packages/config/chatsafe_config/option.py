"""One option: everything about a setting that is not its value, and how a value is checked.

`Option` is made from a dataclass field of `settings.py`; the TOML key, the environment variable,
the flag, the help text and the commented `config.toml` all come from it.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chatsafe_config.errors import ConfigError

Kind = Literal["bool", "int", "float", "str", "path", "list"]

_KIND_WORDS: dict[Kind, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "path": "a path in quotes",
    "list": 'a list of texts, like ["a", "b"]',
}
_EXAMPLES: dict[Kind, str] = {
    "bool": "true",
    "int": "1",
    "float": "1",
    "str": '"text"',
    "path": '"/some/folder"',
    "list": '["a", "b"]',
}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def option(
    default: object,
    help: str,
    *,
    kind: Kind,
    unset: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    wanted: str = "",
    secret: bool = False,
    flag: str = "",
    alias: str = "",
) -> Any:
    """A dataclass field that carries its own documentation and rules.

    `default` None means "unset"; `unset` says what then holds. `pattern` is a regular expression
    that a text, or each text of a list, must match in full; `wanted` says so in words. `alias` is
    a second "section.key" for the same value.
    """
    described = {
        "help": help,
        "kind": kind,
        "unset": unset,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "pattern": pattern,
        "wanted": wanted,
        "secret": secret,
        "flag": flag,
        "alias": alias,
    }
    # A secret stays out of repr, so that no log line or traceback shows it.
    return dataclasses.field(default=default, repr=not secret, metadata={"option": described})


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. `name` is "section.key"."""

    section: str
    key: str
    kind: Kind
    default: object
    help: str
    unset: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    wanted: str = ""
    secret: bool = False
    flag: str = ""
    alias: str = ""

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def env(self) -> str:
        return variable(self.name)

    def parse(self, text: str, source: str, base: Path) -> object:
        """The value that a flag or variable spells. `base` is where relative paths start."""
        text = text.strip()
        match self.kind:
            case "bool":
                if text.lower() in _TRUE | _FALSE:
                    return text.lower() in _TRUE
                raise self._wrong_type(source, f"{text!r}")
            case "int":
                if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
                    return self.check(int(text), source, base)
                raise self._wrong_type(source, f"{text!r}")
            case "float":
                try:
                    return self.check(float(text), source, base)
                except ValueError:
                    raise self._wrong_type(source, f"{text!r}") from None
            case "list":
                items = [item.strip() for item in text.split(",") if item.strip()]
                return self.check(items, source, base)
            case "str" | "path":
                return self.check(text, source, base)

    def check(self, value: object, source: str, base: Path) -> object:
        """`value` as the setting's own type. Raises ConfigError naming `source` and the key."""
        match self.kind, value:
            case "bool", bool():
                return value
            case "int", int() if not isinstance(value, bool):
                return self._in_range(value, source)
            case "float", int() | float() if not isinstance(value, bool):
                if not math.isfinite(value):
                    raise self._refuse(source, f"is {value}, which is no number to count with")
                return self._in_range(float(value), source)
            case "str", str():
                return self._matching(value, source)
            case "path", (str() | Path()) if str(value).strip() and "\0" not in str(value):
                return (base / Path(value).expanduser()).absolute()
            case "list", list() | tuple() if all(isinstance(item, str) for item in value):
                return tuple(self._matching(str(item), source) for item in value)
            case _:
                raise self._wrong_type(source, _shown(value))

    def written(self, value: object) -> str:
        """`value` as TOML writes it."""
        match value:
            case bool():
                return "true" if value else "false"
            case int() | float():
                return f"{value:.10g}"
            case tuple() | list():
                return "[" + ", ".join(_quoted(str(item)) for item in value) + "]"
            case _:
                return _quoted(str(value))

    def shown(self, value: object) -> str:
        """`value` for people: secrets are not shown, an unset value says what then holds."""
        if value is None:
            return f"(unset: {self.unset})" if self.unset else "(unset)"
        return "(set)" if self.secret else self.written(value)

    def _in_range(self, value: float, source: str) -> float:
        too_low = self.minimum is not None and value < self.minimum
        too_high = self.maximum is not None and value > self.maximum
        if too_low or too_high:
            raise self._refuse(source, f"is {value:.10g}; it must be {self._range()}")
        return value

    def _range(self) -> str:
        if self.maximum is None:
            return f"at least {self.minimum:.10g}"
        return f"between {self.minimum or 0:.10g} and {self.maximum:.10g}"

    def _matching(self, value: str, source: str) -> str:
        if self.choices and value not in self.choices:
            raise self._refuse(source, f"is {value!r}; it must be one of {_listed(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            what = "has a value that is not" if self.secret else f"has {value!r}, which is not"
            raise self._refuse(source, f"{what} {self.wanted}")
        return value

    def _wrong_type(self, source: str, given: str) -> ConfigError:
        given = "something else" if self.secret else given
        wanted, example = _KIND_WORDS[self.kind], _EXAMPLES[self.kind]
        if self.kind in ("int", "float") and self.default is not None:
            example = self.written(self.default)
        written = f"{self.key} = {example}"
        if source == self.flag:
            written = f"{source} {example}"
        elif source.isupper():  # a variable
            written = f"{source}={example}"
        return self._refuse(source, f"must be {wanted}, not {given}. For example: {written}")

    def _refuse(self, source: str, reason: str) -> ConfigError:
        return ConfigError(f"{source}: {self.name} {reason}.")


def variable(name: str) -> str:
    """The environment variable of "section.key"."""
    return "CHATSAFE_" + name.replace(".", "_").upper()


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in escaped) + '"'


def _shown(value: object) -> str:
    match value:
        case str():
            return f"the text {value!r}"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case None:
            return "null"
        case _:
            return f"{type(value).__name__} {value}"
