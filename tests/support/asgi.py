"""Speaks ASGI to an application in memory: a request in, a reply out, and a client that leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp, Message

from chatsafe_common.backend import EventStream
from chatsafe_common.chat import ChatRequest
from chatsafe_common.testing import ScriptedBackend
from chatsafe_local_api.app import create_app
from chatsafe_local_api.metrics import Metered, Metrics
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown

PORT = 8081
ADMIN_KEY = "admin-key-of-this-test"


@dataclass
class Reply:
    """What has come back so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts: list[bytes] = field(default_factory=list)

    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> dict[str, object]:
        error = self.json()["error"]
        assert isinstance(error, dict)
        return error

    @property
    def frames(self) -> list[str]:
        """The stream's events and comments, one string each."""
        text = self.body.decode()
        assert text.endswith("\n\n")
        return text[:-2].split("\n\n")


class Gate(asyncio.Event):
    """A gate that counts who has come to it."""

    def __init__(self) -> None:
        super().__init__()
        self._num_waits = 0
        self._changed = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self._num_waits += 1
        self._changed.set()
        return await super().wait()

    async def has_seen(self, number: int) -> None:
        """Returns when somebody has come to the gate `number` times."""
        while self._num_waits < number:
            self._changed.clear()
            await self._changed.wait()


class Noticing(ScriptedBackend):
    """Sets `closed` when an answer ends, however it does."""

    def __init__(self, pieces: Sequence[str] = ("Hello",), gate: Gate | None = None) -> None:
        super().__init__(pieces, gate=gate)
        self.closed = asyncio.Event()

    async def generate(self, request: ChatRequest) -> EventStream:
        try:
            async with aclosing(super().generate(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.closed.set()


class Client:
    """One request in flight: `leave()` hangs up, `seen` is set at each piece of the reply."""

    def __init__(self, body: Sequence[bytes]) -> None:
        self.reply = Reply()
        self.is_done = False
        self._body = list(body)
        self._left = asyncio.Event()
        self._seen = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def wait_for_parts(self, number: int) -> None:
        while len(self.reply.parts) < number:
            self._seen.clear()
            await self._seen.wait()

    async def receive(self) -> Message:
        if self._body:
            piece = self._body.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._body)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = {
                name.decode(): value.decode() for name, value in message["headers"]
            }
            return
        self.reply.body += message["body"]
        self.reply.parts.append(message["body"])
        self.is_done = not message.get("more_body", False)
        self._seen.set()


def scope(
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    client: str = "127.0.0.1",
    query: str = "",
) -> dict[str, object]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "server": ("127.0.0.1", PORT),
        "client": (client, 50000),
        "state": {},
    }


class Api:
    """The API over a scripted backend, asked in memory."""

    def __init__(self, backend: ScriptedBackend | None = None, **options: object) -> None:
        self.backend = backend or ScriptedBackend()
        self.metrics = Metrics()
        self.shutdown = Shutdown()
        self.options = ApiOptions(
            **{"version": "1.2.3", "admin_key": ADMIN_KEY, **options}  # type: ignore[arg-type]
        )
        self.app: ASGIApp = create_app(
            Metered(self.backend, self.metrics),
            self.backend,
            self.options,
            self.metrics,
            self.shutdown,
        )

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
        host: str = f"127.0.0.1:{PORT}",
        client: str = "127.0.0.1",
        query: str = "",
    ) -> Reply:
        """One whole reply."""
        sent = [("host", host), *headers] if host else list(headers)
        if body is not None:
            sent.append(("content-length", str(len(body))))
            if not any(name == "content-type" for name, _ in headers):
                sent.append(("content-type", "application/json"))
        caller = Client([body or b""])
        await self.app(scope(method, path, sent, client, query), caller.receive, caller.send)
        return caller.reply

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.ask("GET", path, headers=list(headers.items()))

    async def chat(
        self,
        *,
        headers: Sequence[tuple[str, str]] = (),
        client: str = "127.0.0.1",
        **fields: object,
    ) -> Reply:
        """One chat; `messages` defaults to a greeting."""
        document = {"messages": [{"role": "user", "content": "Hi"}], **fields}
        return await self.ask(
            "POST",
            "/v1/chat/completions",
            body=json.dumps(document).encode(),
            headers=headers,
            client=client,
        )

    @asynccontextmanager
    async def open_chat(self, **fields: object) -> AsyncGenerator[Client, None]:
        """A chat in flight; the context ends when the application has returned."""
        document = {"messages": [{"role": "user", "content": "Hi"}], **fields}
        headers = [("host", f"127.0.0.1:{PORT}"), ("content-type", "application/json")]
        caller = Client([json.dumps(document).encode()])
        asked = scope("POST", "/v1/chat/completions", [*headers, ("content-length", "1")])
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(self._run(asked, caller))
            yield caller

    async def _run(self, asked: dict[str, object], caller: Client) -> None:
        await self.app(asked, caller.receive, caller.send)
