"""The flags of `chatsafe-server`, made from the options."""

import argparse
from pathlib import Path

from chatsafe_config.option import Option
from chatsafe_config.settings import options

_PREFIX = "option:"
_METAVARS = {"int": "N", "float": "N", "path": "PATH", "list": "A,B", "str": "TEXT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and one flag per option, grouped by section."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings file to read instead of ./config.toml and the user's own",
    )
    # Made from the flags it would be 20 lines, in front of every word about a misspelt one.
    parser.usage = "%(prog)s [--port N] [--config FILE] [other options; --help lists them]"
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options():
        if option.section not in groups:
            groups[option.section] = parser.add_argument_group(option.section)
        _add(groups[option.section], option)


def overrides(namespace: argparse.Namespace) -> dict[str, object]:
    """What was given on the command line, as `load_settings` takes it."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in vars(namespace).items()
        if name.startswith(_PREFIX) and value is not None
    }


def _add(group: "argparse._ArgumentGroup", option: Option) -> None:
    default = f"(default: {option.shown(option.default).strip('()')})"
    text = f"{option.help} {default}".replace("%", "%%")
    if option.kind == "bool":
        group.add_argument(
            option.flag,
            dest=_PREFIX + option.name,
            action=argparse.BooleanOptionalAction,
            default=None,
            help=text,
        )
        return
    group.add_argument(
        option.flag,
        dest=_PREFIX + option.name,
        metavar="|".join(option.choices) or _METAVARS[option.kind],
        default=None,
        help=text,
    )
