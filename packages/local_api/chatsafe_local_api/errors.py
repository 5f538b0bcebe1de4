"""Error code to HTTP status, type and body: the one table.

The body has the keys of the OpenAI dialect and those that ChatSafe's own scripts read:
`{"error": {"message", "type", "param", "code", "status", "details"?}, "request_id"}`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from chatsafe_common.errors import ChatSafeError

Category = Literal["BadRequest", "RateLimited", "Timeout", "Cancelled", "Unavailable", "Internal"]

_REQUEST = "invalid_request_error"
_PERMISSION = "permission_error"
_RATE = "rate_limit_error"
_SERVER = "server_error"


@dataclass(frozen=True, slots=True)
class Row:
    """How one code looks in HTTP, and under which heading it is counted."""

    status: int
    type: str
    category: Category
    is_retry_useful: bool = False


TABLE: dict[str, Row] = {
    "invalid_json": Row(400, _REQUEST, "BadRequest"),
    "invalid_type": Row(400, _REQUEST, "BadRequest"),
    "invalid_value": Row(400, _REQUEST, "BadRequest"),
    "missing_required_parameter": Row(400, _REQUEST, "BadRequest"),
    "unsupported_parameter": Row(400, _REQUEST, "BadRequest"),
    "unknown_parameter": Row(400, _REQUEST, "BadRequest"),
    "unsupported_content": Row(400, _REQUEST, "BadRequest"),
    "context_length_exceeded": Row(400, _REQUEST, "BadRequest"),
    "invalid_api_key": Row(401, "authentication_error", "BadRequest"),
    "forbidden_host": Row(403, _PERMISSION, "BadRequest"),
    "forbidden_origin": Row(403, _PERMISSION, "BadRequest"),
    "insufficient_scope": Row(403, _PERMISSION, "BadRequest"),
    "model_not_found": Row(404, _REQUEST, "Unavailable"),
    "unknown_url": Row(404, _REQUEST, "BadRequest"),
    "method_not_allowed": Row(405, _REQUEST, "BadRequest"),
    "request_timeout": Row(408, _REQUEST, "Timeout"),
    "model_busy": Row(409, "conflict_error", "Unavailable", is_retry_useful=True),
    "request_too_large": Row(413, _REQUEST, "BadRequest"),
    "unsupported_media_type": Row(415, _REQUEST, "BadRequest"),
    "rate_limit_exceeded": Row(429, _RATE, "RateLimited", is_retry_useful=True),
    "concurrency_limit_exceeded": Row(429, _RATE, "RateLimited", is_retry_useful=True),
    "internal_error": Row(500, _SERVER, "Internal"),
    "worker_died": Row(500, _SERVER, "Internal", is_retry_useful=True),
    "peer_failed": Row(502, _SERVER, "Unavailable", is_retry_useful=True),
    "service_unavailable": Row(503, _SERVER, "Unavailable", is_retry_useful=True),
    "queue_full": Row(503, _SERVER, "Unavailable", is_retry_useful=True),
    "queue_timeout": Row(503, _SERVER, "Unavailable", is_retry_useful=True),
    "shutting_down": Row(503, _SERVER, "Unavailable", is_retry_useful=True),
    "model_load_failed": Row(503, _SERVER, "Unavailable"),
    "insufficient_memory": Row(503, _SERVER, "Unavailable"),
    "not_reachable": Row(503, _SERVER, "Unavailable", is_retry_useful=True),
    "timeout": Row(504, _SERVER, "Timeout", is_retry_useful=True),
}


def row(error: ChatSafeError) -> Row:
    return TABLE[error.code]


def error_json(error: ChatSafeError, request_id: str) -> dict[str, object]:
    """The body of a refusal, and the last event of a stream that breaks."""
    found = row(error)
    body: dict[str, object] = {
        "message": error.message,
        "type": found.type,
        "param": error.param,
        "code": error.code,
        "status": found.status,
    }
    if error.code == "context_length_exceeded":
        body |= error.details  # clients look for n_prompt_tokens and n_ctx at this place
    if error.details:
        body["details"] = error.details
    return {"error": body, "request_id": request_id}


def error_reply(
    error: ChatSafeError, request_id: str
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a refusal; what every reply has is not among the headers."""
    body = msgspec.json.encode(error_json(error, request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *_retry_headers(error),
    ]
    return row(error).status, headers, body


def _retry_headers(error: ChatSafeError) -> list[tuple[bytes, bytes]]:
    """What tells a client's retry logic when to come back, or not to."""
    found = row(error)
    headers = []
    if found.status in (429, 503):
        wait_s = max(1, math.ceil(error.retry_after_s or 1))
        headers.append((b"retry-after", str(wait_s).encode()))
        headers.append((b"retry-after-ms", str(wait_s * 1000).encode()))
    if found.status >= 500 and not found.is_retry_useful:
        headers.append((b"x-should-retry", b"false"))
    if found.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
