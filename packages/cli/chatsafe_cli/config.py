"""`chatsafe config show`: every setting, its value, and who said so."""

import os
from pathlib import Path

import click

from chatsafe_cli.group import json_option
from chatsafe_cli.render import print_json, print_table
from chatsafe_config.loading import Loaded, load_settings
from chatsafe_config.settings import options


@click.group()
def config() -> None:
    """Show the settings."""


@config.command()
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@json_option
def show(origin: bool, as_json: bool) -> None:
    """Show every setting with its value.

    These are the values chatsafe-server would start with in this folder; --origin says which
    flag, variable or file set each. Secrets are not shown.
    """
    loaded = load_settings({}, os.environ, config_file=None, cwd=Path.cwd())
    if as_json:
        print_json({option.name: _described(loaded, option.name) for option in options()})
        return
    rows = [
        [option.name, option.shown(loaded.settings.value(option.name)), loaded.origins[option.name]]
        for option in options()
    ]
    if origin:
        print_table(("SETTING", "VALUE", "ORIGIN"), rows)
    else:
        print_table(("SETTING", "VALUE"), [row[:2] for row in rows])


def _described(loaded: Loaded, name: str) -> dict[str, object]:
    option = next(option for option in options() if option.name == name)
    value = loaded.settings.value(name)
    if option.secret and value is not None:
        value = "(set)"
    return {
        "value": str(value) if isinstance(value, Path) else value,
        "origin": loaded.origins[name],
    }
