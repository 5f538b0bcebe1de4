"""The `chatsafe` command: what there is, and what it does when nothing is asked."""

import io
import os
import sys
from importlib.metadata import version
from pathlib import Path

import click

from chatsafe_cli.group import CommandGroup, Entry, url_option

COMMANDS = {
    "serve": Entry("chatsafe_cli.serve", "serve", "Start the daemon in the foreground."),
    "chat": Entry("chatsafe_cli.chat", "chat", "Chat with a model."),
    "run": Entry("chatsafe_cli.chat", "run", "Get one answer: run [MODEL] [PROMPT]."),
    "list": Entry("chatsafe_cli.models", "list_models", "List the models there are (also: ls)."),
    "ps": Entry("chatsafe_cli.models", "ps", "List the models in memory now."),
    "show": Entry("chatsafe_cli.models", "show", "Show facts about one model."),
    "stop": Entry("chatsafe_cli.models", "stop", "Take a model out of memory."),
    "status": Entry("chatsafe_cli.status", "status", "Is the daemon up, and what is it doing?"),
    "doctor": Entry("chatsafe_cli.doctor", "doctor", "Check everything and say how to fix it."),
    "config": Entry("chatsafe_cli.config", "config", "Show the settings and their origin."),
    "completion": Entry("chatsafe_cli.completion", "completion", "Print a shell completion."),
}
# What bare `chatsafe` does.
_WELCOME = Entry("chatsafe_cli.status", "welcome", "")


@click.group(
    cls=CommandGroup,
    entries=COMMANDS,
    aliases={"ls": "list"},
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`chatsafe COMMAND --help` says more. Exit codes: 0 ok, 1 failed, 2 usage, "
    "3 daemon not reachable, 4 not found, 130 interrupted.",
)
@url_option
@click.version_option(version("chatsafe-cli"), prog_name="chatsafe")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A private AI on your own machine."""
    if os.environ.get("NO_COLOR"):  # no-color.org: set and not empty
        ctx.color = False
    if ctx.invoked_subcommand is None:
        ctx.invoke(_WELCOME.load())


def main() -> None:
    """The console script."""
    # What was closed by whoever started us (`<&-`) is empty, or takes everything.
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")
    sys.stdout = sys.stdout or nothing.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")
    # A character that this terminal's encoding lacks must not end the program.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli(prog_name="chatsafe")
