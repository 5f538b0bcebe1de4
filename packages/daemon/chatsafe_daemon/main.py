"""The `chatsafe-server` command: the daemon in the foreground.

Exit codes: 0 stopped as asked, 1 the address cannot be used, 2 the configuration or the command
line is wrong.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from chatsafe_common.nearest import nearest
from chatsafe_config.command_line import add_arguments, overrides
from chatsafe_config.errors import ConfigError
from chatsafe_config.loading import is_loopback, load_settings
from chatsafe_config.settings import Settings
from chatsafe_daemon.compose import compose
from chatsafe_daemon.hardening import harden
from chatsafe_daemon.listeners import BindError, bind, url_of
from chatsafe_daemon.log import start_logging
from chatsafe_daemon.services import run_services

_QUESTION = '{"messages":[{"role":"user","content":"Hello, how are you?"}]}'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; the exit code."""
    given = _parser().parse_args(argv)
    try:
        return _run(given, os.environ)
    except ConfigError as error:
        print(f"chatsafe-server: {error}", file=sys.stderr)
        return 2
    except BindError as error:
        print(f"chatsafe-server: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = load_settings(
        overrides(given), environ, config_file=given.config, cwd=Path.cwd()
    ).settings
    harden()
    start_logging(settings.logging.level)
    daemon = compose(settings, environ, version("chatsafe-daemon"))
    host = settings.server.host
    listeners = bind(host, settings.server.port, only_loopback=is_loopback(host))
    asyncio.run(
        run_services(
            daemon.backend,
            daemon.app,
            listeners,
            daemon.limits,
            daemon.shutdown,
            lambda: _greet(_greeting(url_of(listeners[0]), settings)),
        )
    )
    return 0


def _greet(lines: Sequence[str]) -> None:
    # Nobody may be there to read it: a closed or full output is no reason not to serve.
    with contextlib.suppress(OSError):
        print("\n".join(lines), flush=True)


def _greeting(url: str, settings: Settings) -> list[str]:
    """Where the daemon is, one command to try it, one to point other programs at it."""
    has_key = settings.server.api_key is not None
    key = """ -H "authorization: Bearer $CHATSAFE_API_KEY\"""" if has_key else ""
    promise = "nothing you type leaves this computer"
    if not is_loopback(settings.server.host):
        promise = "other computers may ask it; what they type crosses the network in the clear"
    name = '"$CHATSAFE_API_KEY"' if has_key else "any"
    lines = [
        f"ChatSafe listens on {url} - {promise}. Ctrl-C stops it.",
        f"curl -s {url}/v1/chat/completions -H 'content-type: application/json'{key} "
        f"-d '{_QUESTION}'",
        f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={name}",
    ]
    if has_key:
        lines.append("CHATSAFE_API_KEY stands for your server.api_key: set it in that shell.")
    return lines


class _Parser(argparse.ArgumentParser):
    """Names the flag that was probably meant."""

    def error(self, message: str) -> NoReturn:
        if (unknown := message.partition("unrecognized arguments: ")[2]).startswith("--"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            message += "." + nearest(unknown.split("=")[0].split()[0], flags)
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="chatsafe-server",
        description="The ChatSafe daemon: answers chats on this machine, over HTTP.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"chatsafe-server {version('chatsafe-daemon')}"
    )
    add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
