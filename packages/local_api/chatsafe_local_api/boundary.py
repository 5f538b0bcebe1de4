"""The outermost wrapper: a request id, the headers of every reply, errors as bodies of our shape.

Plain ASGI: a wrapper that reads responses to change them would hold streams back.
"""

import logging
import uuid
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatsafe_common.errors import ChatSafeError, InternalError, MethodNotAllowed, UnknownUrl
from chatsafe_local_api.errors import error_reply, row
from chatsafe_local_api.keys import Headers
from chatsafe_local_api.metrics import Metrics

_SCOPE_KEY = "chatsafe.facts"
_MAX_REQUEST_ID_CHARS = 128
_EVERY_REPLY = [
    (b"x-chatsafe-route", b"local"),
    (b"x-chatsafe-privacy", b"local"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_logger = logging.getLogger("chatsafe.api")


class ClientLeft(Exception):
    """The other side hung up: there is nobody to answer."""


@dataclass(slots=True)
class RequestFacts:
    """What is known of a request beside its ASGI scope; `headers` go out with its reply."""

    request_id: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def request_facts(scope: Scope) -> RequestFacts:
    """The facts that `Boundary` put into the scope."""
    found = scope[_SCOPE_KEY]
    assert isinstance(found, RequestFacts)
    return found


class Boundary:
    """Wraps the whole API."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # No route speaks WebSocket; 1008 is "policy violation" (RFC 6455, 7.4.1).
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        if scope["client"] is None or scope["server"] is None:
            return  # reset before its addresses could be asked for: there is nobody to answer
        facts = RequestFacts(_request_id(scope["headers"]))
        scope[_SCOPE_KEY] = facts
        # Starlette's router raises on a wrong method, instead of answering in its own form, when
        # it finds an application here.
        scope["app"] = self
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", facts.request_id.encode()),
                    *_EVERY_REPLY,
                    *facts.headers,
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientLeft:
            return
        except Exception as error:
            refusal = _as_refusal(error)
            if isinstance(refusal, InternalError):
                _logger.error(
                    "request_failed", exc_info=error, extra={"request_id": facts.request_id}
                )
            if has_started:
                return  # the server closes a reply that is not complete
            self._metrics.count_error(refusal.code)
            found = row(refusal)
            _logger.info(
                "refused",
                extra={
                    "request_id": facts.request_id,
                    "status": found.status,
                    "code": refusal.code,
                },
            )
            if isinstance(error, HTTPException):
                facts.headers += [(b"allow", (error.headers or {}).get("Allow", "").encode())]
            if found.status == 408:
                # The rest of the late body would be read as the next request.
                facts.headers.append((b"connection", b"close"))
            await _send_refusal(send_with_headers, refusal, facts.request_id)


async def _send_refusal(send: Send, refusal: ChatSafeError, request_id: str) -> None:
    status, headers, body = error_reply(refusal, request_id)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _as_refusal(error: Exception) -> ChatSafeError:
    if isinstance(error, ChatSafeError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed(
            "This path does not take this method. The Allow header lists what it takes."
        )
    return InternalError(
        "Something broke inside ChatSafe. The log has a line with this request id."
    )


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Where the router ends when no route matches."""
    raise UnknownUrl("There is nothing at this path. GET /version says what this is.")


def _request_id(headers: Headers) -> str:
    """The caller's own id where it is printable ASCII of a sane length, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if 1 <= len(text) <= _MAX_REQUEST_ID_CHARS and text.isascii() and text.isprintable():
                return text
    return str(uuid.uuid4())
