"""The `chatsafe-server` command: the daemon in the foreground.

Exit codes: 0 stopped as asked, 1 the address cannot be used, 2 the configuration or the command
line is wrong.
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

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
            lambda: _greet(listeners[0], settings),
        )
    )
    return 0


def _greet(listener: socket.socket, settings: Settings) -> None:
    """Where the daemon is, one command to try it, one to point other programs at it."""
    url = url_of(listener)
    has_key = settings.server.api_key is not None
    key = """ -H "authorization: Bearer $CHATSAFE_API_KEY\"""" if has_key else ""
    promise = "nothing you type leaves this computer"
    if not is_loopback(settings.server.host):
        promise = "other computers may ask it; what they type crosses the network in the clear"
    print(f"ChatSafe listens on {url} - {promise}. Ctrl-C stops it.")
    print(
        f"curl -s {url}/v1/chat/completions -H 'content-type: application/json'{key} "
        f"-d '{_QUESTION}'"
    )
    name = '"$CHATSAFE_API_KEY"' if has_key else "any"
    print(f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={name}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
