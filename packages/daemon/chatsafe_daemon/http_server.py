"""The HTTP server: uvicorn's h11 protocol with deadlines for slow clients, and an orderly end.

The stock protocol never closes a connection whose head or body stays half sent, and never gives
up on a client that does not read its answer. Sockets are bound by the caller.
"""

import asyncio
import logging
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from chatsafe_common.errors import (
    ChatSafeError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    Unavailable,
)
from chatsafe_local_api.app import Application
from chatsafe_local_api.errors import error_reply
from chatsafe_local_api.guard import one_host_needed
from chatsafe_local_api.shutdown import Shutdown

_logger = logging.getLogger("chatsafe.daemon")

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
    """All open connections, and a way to wait until they have closed."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def note_change(self) -> None:
        self._changed.set()

    async def wait_until_closed(
        self, seconds: float, is_enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Returns when no connection is open, when that is enough, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections and not is_enough():
                    self._changed.clear()
                    await self._changed.wait()

    async def wait_for_tasks(self, seconds: float) -> None:
        """A request ends a moment after the connection that it lost."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)


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
        self.server_state.note_change()

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
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            refusal: ChatSafeError = RequestTooLarge(
                f"The request's head is over {MAX_HEAD_BYTES} bytes."
            )
        elif "Host: header" in str(error):  # h11 tells a missing and a second one by text alone
            refusal = one_host_needed()
        else:
            refusal = InvalidRequest("This is not an HTTP request.")
        self._write_refusal(refusal)
        self.transport.close()

    def _follow(self) -> None:
        """Set the deadline that fits what the client owes now."""
        if self.transport.is_closing():
            self._set_deadline("", 0)
        elif self.conn.their_state is h11.SEND_BODY:
            self._set_deadline("body", self._limits.body_timeout_s + _BODY_SLACK_S)
        elif self.conn.their_state is not h11.IDLE:
            self._set_deadline("", 0)
        elif self.conn.trailing_data[0]:
            self._set_deadline("head", self._limits.head_timeout_s)
        elif self._deadline_of == "body":
            self._set_deadline("", 0)  # between requests uvicorn's keep-alive timer runs

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
        # Half a head gets an answer. Silence gets none: it may be a browser's spare connection,
        # which would take the answer for that of its next request.
        if self._deadline_of == "head" and self.conn.trailing_data[0]:
            self._write_refusal(
                RequestTimeout(
                    "The request's head did not arrive within "
                    f"{self._limits.head_timeout_s:g} s. Send it faster."
                )
            )
            self.transport.close()
        else:
            self.transport.abort()

    def _refuse(self) -> None:
        self._is_refused = True
        self.connections.discard(self)
        self._write_refusal(
            Unavailable(
                f"{self._limits.max_connections} connections are open, which is the limit. "
                "Try again in a second (setting: server.max_connections)."
            )
        )
        self.transport.write_eof()
        self._set_deadline("linger", _LINGER_S)

    def _write_refusal(self, error: ChatSafeError) -> None:
        """A reply to what never became a request; the connection closes after it."""
        request_id = str(uuid.uuid4())
        status, headers, body = error_reply(error, request_id)
        headers += [
            (b"connection", b"close"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", request_id.encode()),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        phrase = HTTPStatus(status).phrase.encode()
        self.transport.write(b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, phrase, head, body))


class HttpServer:
    """Answers on `listeners` while its context is open; leaving it drains.

    Draining: no new connections, idle ones close, running answers get `shutdown_grace_s` (or until
    `shutdown.cut()`), then their streams end with an error event.
    """

    def __init__(
        self,
        app: Application,
        listeners: Sequence[socket.socket],
        limits: ServerLimits,
        shutdown: Shutdown,
    ) -> None:
        self._listeners = listeners
        self._limits = limits
        self._shutdown = shutdown
        self._state = _Connections()
        self._servers: list[asyncio.Server] = []
        self._config = Config(
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

    def __repr__(self) -> str:
        return f"HttpServer({len(self._state.connections)} connections)"

    async def __aenter__(self) -> Self:
        self._config.load()
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            server = await loop.create_server(self._protocol, sock=listener, backlog=_BACKLOG)
            self._servers.append(server)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shutdown.begin()
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if num_running := len(self._state.tasks):
            _logger.info(
                "stopping: %d answers still run, at most %g s; a second signal ends them at once",
                num_running,
                self._limits.shutdown_grace_s,
            )
        with self._shutdown.on_cut(self._state.note_change):
            await self._state.wait_until_closed(
                self._limits.shutdown_grace_s, lambda: self._shutdown.is_cut
            )
        self._shutdown.cut()
        await self._state.wait_until_closed(_CUT_S)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self._state.wait_for_tasks(_CUT_S)

    def _protocol(self) -> SlowClientProtocol:
        return SlowClientProtocol(self._config, self._state, self._limits)
