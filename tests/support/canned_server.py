"""An ASGI application that gives prepared replies, whatever a real server would never say too."""

import json
from collections.abc import Sequence
from typing import Any


class CannedServer:
    """Replies to each path with (status, headers, pieces of the body); keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, dict[str, str], Sequence[bytes]]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    def reply(
        self,
        path: str,
        body: object,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`body`: bytes as they are, a list of bytes sent one by one, anything else as JSON."""
        sent = {"content-type": "application/json"} | (headers or {})
        match body:
            case bytes():
                self.replies[path] = (status, sent, [body])
            case list() if all(isinstance(piece, bytes) for piece in body):
                self.replies[path] = (status, sent, body)
            case _:
                self.replies[path] = (status, sent, [json.dumps(body).encode()])

    def stream(self, path: str, *pieces: bytes) -> None:
        """An event stream in these pieces."""
        self.reply(path, list(pieces), headers={"content-type": "text/event-stream"})

    @property
    def last_json(self) -> dict[str, Any]:
        """The body of the newest request that had one."""
        body = next(body for *_, body in reversed(self.requests) if body)
        parsed: dict[str, Any] = json.loads(body)
        return parsed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["method"], scope["path"], headers, body))
        error = {"error": {"message": "no such path", "code": "unknown_url"}}
        status, given, pieces = self.replies.get(
            scope["path"],
            (404, {"content-type": "application/json"}, [json.dumps(error).encode()]),
        )
        sent = [(name.encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
