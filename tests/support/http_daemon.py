"""The real HTTP server over a scripted backend, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chatsafe_common.testing import ScriptedBackend
from chatsafe_daemon.http_server import HttpServer, ServerLimits
from chatsafe_daemon.listeners import bind
from chatsafe_local_api.app import create_app
from chatsafe_local_api.metrics import Metered, Metrics
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown


class Running:
    """A server that listens: its port and its parts."""

    def __init__(self, listener: socket.socket, backend: ScriptedBackend) -> None:
        self.port: int = listener.getsockname()[1]
        self.backend = backend
        self.shutdown = Shutdown()
        self.metrics = Metrics()

    async def connect(self) -> "Connection":
        return Connection(self.port, *await asyncio.open_connection("127.0.0.1", self.port))


class Connection:
    """One raw connection."""

    def __init__(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.port = port
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, path: str, body: bytes = b"", *headers: str) -> None:
        """A whole request."""
        lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", *headers]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, str]:
        """Status and header text of the next reply."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return int(head.split(" ")[1]), head.lower()

    async def reply(self) -> tuple[int, bytes]:
        """Status and body of the next reply that has a length."""
        status, head = await self.head()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return status, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


@asynccontextmanager
async def running_server(
    backend: ScriptedBackend, limits: ServerLimits | None = None, **options: object
) -> AsyncGenerator[Running, None]:
    """Serves while the context is open, at most ten seconds."""
    (listener,) = bind("127.0.0.1", 0, only_loopback=True)
    running = Running(listener, backend)
    app = create_app(
        Metered(backend, running.metrics),
        backend,
        ApiOptions(**{"version": "1.2.3", "admin_key": "a", **options}),  # type: ignore[arg-type]
        running.metrics,
        running.shutdown,
    )
    server = HttpServer(app, [listener], limits or ServerLimits(), running.shutdown)
    async with asyncio.timeout(10), server:
        yield running
