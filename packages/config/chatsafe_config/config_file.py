"""The configuration file: read it as raw tables, and write the commented one with all options."""

import json
import textwrap
from pathlib import Path

import tomli

from chatsafe_config.errors import ConfigError
from chatsafe_config.option import Option
from chatsafe_config.settings import options

# Our own file with every comment has 7 KB; whatever is a hundred times larger is something else.
MAX_CONFIG_BYTES = 1024 * 1024

_HEAD = """\
# ChatSafe settings: every option with its default. Remove the "#" in front of a line to change it.
#
# This file is read as ./config.toml (project file) and ~/.config/chatsafe/config.toml (user file);
# --config FILE or $CHATSAFE_CONFIG names another one, which is then the only one.
# Order, strongest first: flag, environment variable, project file, user file, default.
# `chatsafe config show --origin` says what holds and why.
"""


def read_config_file(path: Path) -> dict[str, object]:
    """The tables of a TOML file, or of a JSON file with the same keys when it ends in `.json`.

    Raises ConfigError naming the file, the line and what to do.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Create it or name another one with --config."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: is over {MAX_CONFIG_BYTES} bytes, so it is no settings file.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8. Save the file as UTF-8.") from None
    return _read_json(path, text) if path.suffix == ".json" else _read_toml(path, text)


def _read_toml(path: Path, text: str) -> dict[str, object]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: is not valid TOML: {error.msg} at column "
            f"{error.colno}. Texts need quotes, sections look like [server]."
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be a settings file.") from None


def _read_json(path: Path, text: str) -> dict[str, object]:
    try:
        tables = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: is not valid JSON: {error.msg}.") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{path}: is not a settings file.") from None
    if not isinstance(tables, dict):
        raise ConfigError(f'{path}: must hold an object like {{"server": {{"port": 8081}}}}.')
    # The old layout wrote null for "unset"; TOML has no null, so it means the same here.
    return {
        section: {key: value for key, value in table.items() if value is not None}
        if isinstance(table, dict)
        else table
        for section, table in tables.items()
    }


def render_config_toml() -> str:
    """The commented `config.toml` with every option and its default."""
    lines = [_HEAD]
    section = ""
    for option in options():
        if option.section != section:
            section = option.section
            lines.append(f"\n[{section}]\n")
        lines.append(_described(option))
    return "".join(lines)


def _described(option: Option) -> str:
    words = option.help + (f" Unset: {option.unset}." if option.default is None else "")
    comment = textwrap.fill(words, 98, initial_indent="# ", subsequent_indent="# ")
    value = "..." if option.default is None else option.written(option.default)
    return f"{comment}\n# {option.flag}, {option.env}\n#{option.key} = {value}\n\n"
