"""`chatsafe serve`: become `chatsafe-server`."""

import os
import shutil
import sys
from pathlib import Path

import click

from chatsafe_cli.failure import Failure


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve(flags: tuple[str, ...]) -> None:
    """Start the daemon in the foreground, with the flags of chatsafe-server."""
    # The one installed beside this command comes first: it is the same version.
    beside = Path(sys.argv[0]).absolute().parent
    program = shutil.which("chatsafe-server", path=str(beside)) or shutil.which("chatsafe-server")
    if program is None:
        raise Failure(
            "chatsafe-server is not installed",
            why="this environment holds the client only",
            fix="scripts/start in a checkout, or install the wheel of chatsafe-daemon too",
        )
    os.execv(program, [program, *flags])
