"""The gate in front of every path: a web page, a stranger or a flood must not reach us.

Deny by default, in this order: size of the head, Host, Origin and Sec-Fetch-Site, key, media
type, size and time of the body. Every refusal is made before the body is read.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatsafe_common.errors import (
    ForbiddenHost,
    ForbiddenOrigin,
    RequestTimeout,
    RequestTooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from chatsafe_local_api.boundary import ClientLeft, request_facts
from chatsafe_local_api.keys import Headers, Keys
from chatsafe_local_api.options import ApiOptions

# The parser bounds a head that arrives in pieces, not one that arrives at once.
MAX_HEAD_BYTES = 16 * 1024
PREFLIGHT_AGE_S = 600
# So many bodies of the largest size may be held at once; many connections must not add up.
_MAX_LARGEST_BODIES = 4

_OPEN_PATHS = ("/healthz", "/health")
_READING_METHODS = ("GET", "HEAD", "OPTIONS")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_EXPOSED = (
    b"x-request-id, x-chatsafe-route, x-chatsafe-privacy, x-chatsafe-ignored, retry-after, "
    b"retry-after-ms"
)


class Guard:
    """Lets in what may come in; raises the refusal of everything else."""

    def __init__(self, app: ASGIApp, keys: Keys, options: ApiOptions) -> None:
        self._app = app
        self._keys = keys
        self._hosts = frozenset(name.lower() for name in options.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in options.allowed_origins)
        self._max_body_bytes = options.max_body_bytes
        self._bodies = _AllBodies(_MAX_LARGEST_BODIES * options.max_body_bytes)
        self._body_timeout_s = options.body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        _check_head_size(scope)
        host = self._check_host(scope)
        foreign = self._check_origin(headers, host)
        if foreign is not None:
            request_facts(scope).headers.extend(
                [
                    (b"access-control-allow-origin", foreign),
                    (b"access-control-expose-headers", _EXPOSED),
                    (b"vary", b"origin"),
                ]
            )
            if scope["method"] == "OPTIONS":
                await _answer_preflight(headers, send)
                return
        if scope["path"] not in _OPEN_PATHS:
            self._keys.check_chat(headers)
        if scope["method"] not in _READING_METHODS:
            _check_media_type(headers)
        self._check_length(headers)
        body = _BoundedBody(receive, self._bodies, self._max_body_bytes, self._body_timeout_s)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._bodies.num_bytes -= body.num_bytes

    def _check_host(self, scope: Scope) -> str:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1:
            raise one_host_needed()
        host: str = given[0].decode("latin-1").lower()
        address, port = scope["server"]
        own = [*_LOOPBACK_NAMES, f"[{address}]" if ":" in address else address]
        if host in {f"{name}:{port}" for name in own} or (port == 80 and host in own):
            return host
        name, _, tail = host.rpartition(":")
        without_port = name if name and tail.isdecimal() else host
        if host in self._hosts or without_port in self._hosts:
            return host
        raise ForbiddenHost(
            "This Host header is not allowed, so that no web page can reach this daemon under a "
            f"name of its own. Use http://127.0.0.1:{port}, or add the name to the setting "
            "server.allowed_hosts."
        )

    def _check_origin(self, headers: Headers, host: str) -> bytes | None:
        """The Origin to name in CORS headers: one that is configured, and not our own."""
        origins = _values(headers, b"origin")
        sites = _values(headers, b"sec-fetch-site")
        own = f"http://{host}"
        origin = origins[0].decode("latin-1").lower() if origins else None
        if len(origins) <= 1 and origin in self._origins:
            return origins[0]
        is_own_page = origin in (None, own) and len(origins) <= 1
        if is_own_page and all(site in (b"same-origin", b"none") for site in sites):
            return None
        raise ForbiddenOrigin(
            "A web page of another origin may not use this daemon. If the page is yours, add its "
            "origin to the setting server.allowed_origins."
        )

    def _check_length(self, headers: Headers) -> None:
        # h11 has made sure that a length is a number and stands there once.
        for value in _values(headers, b"content-length"):
            if int(value) > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)


@dataclass(slots=True)
class _AllBodies:
    """What the bodies of all open requests hold together."""

    max_bytes: int
    num_bytes: int = 0


class _BoundedBody:
    """The `receive` of a request whose body has a size and a time limit."""

    def __init__(
        self, receive: Receive, all_bodies: _AllBodies, max_bytes: int, timeout_s: float
    ) -> None:
        self.num_bytes = 0
        self._all_bodies = all_bodies
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(
                f"The body did not arrive within {self._timeout_s:g} s. Send it faster."
            ) from None
        num_bytes = len(message.get("body", b""))
        self.num_bytes += num_bytes
        self._all_bodies.num_bytes += num_bytes
        if self.num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        if self._all_bodies.num_bytes > self._all_bodies.max_bytes:
            raise Unavailable(
                "Too many large requests are open. Try again in a second.", retry_after_s=1
            )
        self._is_complete = not message.get("more_body", False)
        return message


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises ClientLeft when it never ends."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def one_host_needed() -> ForbiddenHost:
    """The refusal of a request that names no host, or more than one."""
    return ForbiddenHost("A request needs exactly one Host header.")


def _check_head_size(scope: Scope) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > MAX_HEAD_BYTES:
        raise RequestTooLarge(f"The request's head is over {MAX_HEAD_BYTES} bytes.")


def _check_media_type(headers: Headers) -> None:
    """A body must say that it is JSON, which no web page can do without a preflight."""
    has_body = bool(_values(headers, b"transfer-encoding")) or any(
        value != b"0" for value in _values(headers, b"content-length")
    )
    types = [value.split(b";")[0].strip().lower() for value in _values(headers, b"content-type")]
    if has_body and types != [b"application/json"]:
        raise UnsupportedMediaType(
            "The body must be JSON: send the header 'Content-Type: application/json'."
        )
    if any(value.lower() != b"identity" for value in _values(headers, b"content-encoding")):
        raise UnsupportedMediaType("Compressed bodies are not read. Send the JSON as it is.")


async def _answer_preflight(headers: Headers, send: Send) -> None:
    """What a page of a configured origin may send. Access to private networks is never granted."""
    wanted = b", ".join(_values(headers, b"access-control-request-headers"))
    await send(
        {
            "type": "http.response.start",
            "status": 204,
            "headers": [
                (b"access-control-allow-methods", b"GET, HEAD, POST"),
                (b"access-control-allow-headers", wanted or b"content-type, authorization"),
                (b"access-control-max-age", str(PREFLIGHT_AGE_S).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The body is over {max_bytes} bytes. Send less (setting: server.max_body_bytes)."
    )


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]
