"""Requests as bytes on a socket of their own, for what no well-behaved client sends."""

import io
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, cast

# A peer that neither answers nor closes is a failure, not a wait.
_TIMEOUT_S = 30


@dataclass(frozen=True)
class RawReply:
    """One reply, with its chunks joined."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> object:
        return self.json["error"]["code"]


class _Bytes(io.BytesIO):
    """What was received, as the socket that `HTTPResponse` wants to read from."""

    def makefile(self, mode: str) -> "_Bytes":
        del mode
        return self

    def close(self) -> None:
        """Replies are read one behind the other, and each would close the stream."""


def request(
    method: str,
    target: str,
    *headers: str,
    host: str | None,
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A whole request; a `body` is sent as JSON with its length unless `headers` say otherwise."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"Host: {host}"] if host is not None else []
    names = [header.split(":")[0].lower() for header in headers]
    if body is not None and "content-type" not in names:
        lines.append("Content-Type: application/json")
    if body is not None and not {"content-length", "transfer-encoding"} & set(names):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + (body or b"")


def chunked(body: bytes, size: int) -> bytes:
    """`body` in chunks of `size` bytes."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def exchange(port: int, data: bytes) -> bytes:
    """Everything that comes back for `data`, until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def replies(data: bytes, *methods: str) -> list[RawReply]:
    """The replies in `data`, one for each request method."""
    stream = _Bytes(data)
    found = []
    for method in methods or ("GET",):
        reply = HTTPResponse(cast(socket.socket, stream), method=method)
        reply.begin()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        found.append(RawReply(reply.status, headers, reply.read()))
    assert not stream.read(), "more came than the replies"
    return found


def ask(port: int, method: str, target: str, *headers: str, **more: Any) -> RawReply:
    """One request on a connection that closes after its reply. `host` defaults to our own."""
    more = {"host": f"127.0.0.1:{port}", **more}
    data = exchange(port, request(method, target, "Connection: close", *headers, **more))
    (reply,) = replies(data, method)
    return reply
