"""What `chatsafe doctor` asks the daemon: is it ours, is it this version, is it locked in?"""

import socket
from collections.abc import Iterator
from shlex import quote
from urllib.parse import urlsplit

from chatsafe_cli.finding import Finding, ok, problem, warning
from chatsafe_cli.render import duration
from chatsafe_cli.target import Target, connect
from chatsafe_client.connection import Connection
from chatsafe_client.daemon import Daemon, DaemonStatus
from chatsafe_common.backend import ModelStatus
from chatsafe_common.errors import ChatSafeError, InvalidApiKey, NotReachable

_SUBJECT = "daemon"


async def check_daemon(target: Target, our_version: str) -> list[Finding]:
    """Everything that the daemon at `target` tells, or why it tells nothing."""
    async with connect(target) as connection:
        try:
            status = await Daemon(connection).status()
        except NotReachable:
            return [_check_port(connection)]
        except InvalidApiKey:
            return [
                problem(
                    _SUBJECT,
                    f"{connection.address} wants an access key",
                    "export CHATSAFE_API_KEY=... with the daemon's server.api_key",
                )
            ]
        except ChatSafeError as error:
            return [
                problem(
                    _SUBJECT,
                    f"{connection.address} is answered by another program ({error.code})",
                    "chatsafe serve --port 8082, or stop the other program",
                )
            ]
        return [*_check_status(status, connection, our_version)]


def _check_status(
    status: DaemonStatus, connection: Connection, our_version: str
) -> Iterator[Finding]:
    text = f"{status.status} at {connection.address}, up for {duration(status.uptime_seconds)}"
    if status.status == "healthy":
        yield ok(_SUBJECT, text)
    else:
        yield warning(_SUBJECT, text, "chatsafe ps")
    if status.version != our_version:
        yield warning(
            "version",
            f"the daemon is {status.version}, this command is {our_version}",
            "stop the daemon and start it again",
        )
    if not connection.is_local:
        yield warning(
            "privacy",
            f"questions go to {connection.address}, another computer",
            "unset CHATSAFE_URL to use the daemon of this machine",
        )
    if not status.models:
        yield ok("isolation", "is known once a model is in memory")
    for model in status.models:
        yield from _check_model(model)


def _check_model(model: ModelStatus) -> Iterator[Finding]:
    if model.state == "failed":
        yield problem(
            "model",
            f"{model.id} does not load: {model.error or 'no reason is known'}",
            f"replace its file, then: chatsafe stop {quote(model.id)}",
        )
        return
    if model.isolation:
        yield ok("isolation", f"{model.id}: {', '.join(model.isolation)}")
    if model.missing_isolation:
        yield warning(
            "isolation",
            f"{model.id} runs without: {', '.join(model.missing_isolation)}",
            "a newer Linux kernel (5.13 or later) offers more; the model works all the same",
        )


def _check_port(connection: Connection) -> Finding:
    """Nobody answers: because nobody is there, or because somebody is who does not speak?"""
    parts = urlsplit(connection.address)
    host, port = parts.hostname or "", parts.port or 80
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_free = True
    if connection.is_local:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # As the daemon binds, so that a port just left by one counts as free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError:
            is_free = False
    if not connection.is_local:
        return warning(
            _SUBJECT,
            f"nothing answers at {connection.address}, another computer",
            "correct --url or CHATSAFE_URL; without them: the daemon of this machine",
        )
    if is_free:
        return warning(_SUBJECT, f"is not running at {connection.address}", "chatsafe serve")
    return problem(
        _SUBJECT,
        f"port {port} is taken by a program that does not answer",
        f"chatsafe serve --port {port + 1}",
    )
