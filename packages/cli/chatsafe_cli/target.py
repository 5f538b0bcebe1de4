"""Which daemon a command talks to, and with which keys.

An address given by hand (`--url`, then `CHATSAFE_URL`) wins; otherwise it is the one that the
settings make `chatsafe-server` listen on. Keys from the settings and the admin key are for the
daemon of this machine and go nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_client.connection import Connection, is_this_machine
from chatsafe_common.errors import InvalidRequest
from chatsafe_config.admin_key import read_admin_key
from chatsafe_config.errors import ConfigError
from chatsafe_config.loading import load_settings
from chatsafe_config.paths import admin_key_file

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}


@dataclass(frozen=True, slots=True)
class Target:
    """An address and what opens it."""

    url: str
    api_key: str = field(repr=False, default="")
    admin_key: str = field(repr=False, default="")


def find_target(given_url: str | None, environ: Mapping[str, str], cwd: Path) -> Target:
    """The daemon that is meant. Raises ConfigError when only the settings could tell."""
    api_key = environ.get("CHATSAFE_API_KEY", "")
    url = given_url or environ.get("CHATSAFE_URL", "")
    if url:
        return Target(url, api_key, _admin_key(environ))
    server = load_settings({}, environ, config_file=None, cwd=cwd).settings.server
    host = _EVERY_ADDRESS.get(server.host, server.host)
    # A settings file found in a folder must not be able to send what is typed elsewhere.
    if not is_this_machine(host):
        raise Failure(
            f"server.host = {server.host} is no address of this machine",
            why="without --url, commands talk to the daemon of this machine only",
            fix=f"correct server.host, or say --url http://{server.host}:{server.port}",
        )
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    api_key = api_key or server.api_key or ""
    return Target(f"http://{host}:{server.port}", api_key, _admin_key(environ))


def connect(target: Target) -> Connection:
    """A connection to `target`, for the caller to close. Raises Failure."""
    try:
        return Connection(target.url, api_key=target.api_key)
    except InvalidRequest as error:
        raise Failure(
            error.message,
            fix="correct CHATSAFE_API_KEY"
            if error.param == "api_key"
            else "give an address like http://127.0.0.1:8081",
            exit_code=ExitCode.USAGE,
        ) from error


def _admin_key(environ: Mapping[str, str]) -> str:
    """The key, or "" when there is none that is fit for use; `doctor` says what is wrong."""
    try:
        return read_admin_key(admin_key_file(environ)) or ""
    except ConfigError:
        return ""
