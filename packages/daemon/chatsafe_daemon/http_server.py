"""The HTTP server: uvicorn's h11 protocol with deadlines for slow clients, and an orderly end.

The stock protocol never closes a connection whose head or body stays half sent, and never gives
up on a client that does not read its answer. Sockets are bound by the caller.
"""

import asyncio
import json
import socket
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from chatsafe_local_api.shutdown import Shutdown

MAX_HEAD_BYTES = 16 * 1024
# What the body has beyond its own deadline, so that the API can still say "408" itself.
_BODY_SLACK_S = 1.0
# A refused connection stays open this long, so that its end does not overtake the refusal.
_LINGER_S = 1.0
# After the grace time, what a cut stream has to send its last event.
_CUT_S = 1.0
_BACKLOG = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one connection may cost; seconds and counts."""

    max_connections: int = 256
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0  # between requests of one connection, as web servers do
    read_timeout_s: float = 60.0  # a client that takes nothing of its answer
    shutdown_grace_s: float = 30.0


class _Connections(ServerState):
    """All open connections, and the moment when the last one closes."""

    def __init__(self) -> None:
        super().__init__()
        self.all_closed = asyncio.Event()
        self.num_refused = 0

    def has_closed(self) -> None:
        if not self.connections and not self.tasks:
            self.all_closed.set()


class SlowClientProtocol(H11Protocol):
    """One connection. At each moment at most one deadline runs: head, body, or idle."""

    server_state: _Connections

    def __init__(self, config: Config, state: _Connections, limits: ServerLimits) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of = ""
        self._read_deadline: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse()
            return
        self._set_deadline("head", self._limits.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_deadline("", 0)
        self._set_read_deadline(0)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.server_state.has_closed()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_read_deadline(self._limits.read_timeout_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_read_deadline(0)

    def send_400_response(self, msg: str) -> None:
        """What h11 could not read: called while its error is being handled."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # rubbish behind a request that is being answered
            return
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            body = _error_body(
                431, "request_too_large", f"The request's head is over {MAX_HEAD_BYTES} bytes."
            )
        else:
            status = 400
            body = _error_body(400, "invalid_value", "This is not an HTTP request.")
        self._write_raw(status, body)
        self.transport.close()

    def _follow(self) -> None:
        """Set the deadline that fits what the client owes now."""
        if self.transport.is_closing():
            self._set_deadline("", 0)
        elif self.conn.their_state is h11.SEND_BODY:
            self._set_deadline("body", self._limits.body_timeout_s + _BODY_SLACK_S)
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._set_deadline("head", self._limits.head_timeout_s)
        elif self.conn.their_state is h11.IDLE and self._deadline_of != "head":
            self._set_deadline("", 0)  # idle between requests: the keep-alive timer runs
        elif self.conn.their_state is not h11.IDLE:
            self._set_deadline("", 0)

    def _set_deadline(self, name: str, seconds: float) -> None:
        """A deadline that runs already keeps running: more bytes do not buy more time."""
        if name == self._deadline_of:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._deadline_of = name
        if name:
            self._deadline = self.loop.call_later(seconds, self._give_up)

    def _set_read_deadline(self, seconds: float) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None
        if seconds:
            self._read_deadline = self.loop.call_later(seconds, self.transport.abort)

    def _give_up(self) -> None:
        if self._deadline_of == "head" and self.conn.our_state is h11.IDLE:
            self._write_raw(
                408,
                _error_body(
                    408,
                    "request_timeout",
                    "The request's head did not arrive within "
                    f"{self._limits.head_timeout_s:g} s.",
                ),
            )
            self.transport.close()
            return
        self.transport.abort()

    def _refuse(self) -> None:
        self._is_refused = True
        self.connections.discard(self)
        self.server_state.num_refused += 1
        self._write_raw(
            503,
            _error_body(
                503,
                "service_unavailable",
                f"{self._limits.max_connections} connections are open, which is the limit. "
                "Try again in a second (setting: server.max_connections).",
            ),
            b"retry-after: 1\r\nretry-after-ms: 1000\r\n",
        )
        self.transport.write_eof()
        self._set_deadline("linger", _LINGER_S)

    def _write_raw(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """A reply to what never became a request; the connection closes after it."""
        reason = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\nx-content-type-options: nosniff\r\n%s\r\n%s"
            % (
                status,
                reason.get(status, b"Request Header Fields Too Large"),
                len(body),
                headers,
                body,
            )
        )


def _error_body(status: int, code: str, message: str) -> bytes:
    error: dict[str, Any] = {
        "message": message,
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "param": None,
        "code": code,
        "status": status,
    }
    body = {"error": error, "request_id": str(uuid.uuid4())}
    return json.dumps(body, separators=(",", ":")).encode()


async def serve(
    app: ASGIApp,
    listeners: Sequence[socket.socket],
    limits: ServerLimits,
    shutdown: Shutdown,
    stop: asyncio.Event,
) -> None:
    """Answer on `listeners` until `stop` is set, then drain and return.

    Draining: no new connections, idle ones close, running answers get `shutdown_grace_s`, then
    their streams end with an error event.
    """
    config = Config(
        app,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.idle_timeout_s,  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    config.load()
    state = _Connections()
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            lambda: SlowClientProtocol(config, state, limits), sock=listener, backlog=_BACKLOG
        )
        for listener in listeners
    ]
    try:
        await stop.wait()
    finally:
        shutdown.begin()
        for server in servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
    await _drain(state, limits.shutdown_grace_s)
    shutdown.cut()
    await _drain(state, _CUT_S)
    for connection in list(state.connections):
        connection.transport.abort()


async def _drain(state: _Connections, seconds: float) -> None:
    state.all_closed.clear()
    state.has_closed()
    try:
        async with asyncio.timeout(seconds):
            await state.all_closed.wait()
    except TimeoutError:
        pass
