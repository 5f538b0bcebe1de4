"""Every error a user or a peer can meet, each with a stable code.

Four families: you asked wrongly (`InvalidRequest`), you may not (`Forbidden`), we are full or not
ready, come back later (`Unavailable`), and we broke (`InternalError`). Only the last is logged
with a trace. A message says what, why, and what to do; it never holds prompt or answer text,
keys, or file paths. The HTTP status of each code stands in `chatsafe_local_api.errors`.
"""

from typing import ClassVar


class ChatSafeError(Exception):
    """The base of all; never raised itself."""

    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: dict[str, str | int | float | list[str]] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details or {}
        self.retry_after_s = retry_after_s


class InvalidRequest(ChatSafeError):
    """You asked wrongly: asking the same again gives the same."""

    code = "invalid_value"


class InvalidJson(InvalidRequest):
    """The body is not JSON (UTF-8, no duplicate keys, no NaN, at most 32 levels deep)."""

    code = "invalid_json"


class InvalidType(InvalidRequest):
    """A field has the wrong type."""

    code = "invalid_type"


class MissingParameter(InvalidRequest):
    """A required field is absent."""

    code = "missing_required_parameter"


class UnsupportedParameter(InvalidRequest):
    """A field we know, cannot honour, and will not ignore."""

    code = "unsupported_parameter"


class UnknownParameter(InvalidRequest):
    """A field we do not know, in strict mode."""

    code = "unknown_parameter"


class UnsupportedContent(InvalidRequest):
    """A kind of content that this model cannot read."""

    code = "unsupported_content"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt and answer, do not fit into the model's context window."""

    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, context_window: int) -> None:
        super().__init__(
            f"The messages are too long: they make {prompt_tokens} tokens, and this model's "
            f"maximum context length is {context_window} tokens (the answer needs room too). "
            "Send fewer or shorter messages, or use a model with a larger context.",
            param="messages",
            details={"n_prompt_tokens": prompt_tokens, "n_ctx": context_window},
        )


class ModelNotFound(InvalidRequest):
    """No model has this id."""

    code = "model_not_found"


class UnknownUrl(InvalidRequest):
    """No route has this path."""

    code = "unknown_url"


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class RequestTooLarge(InvalidRequest):
    """The body is over the limit."""

    code = "request_too_large"


class RequestTimeout(InvalidRequest):
    """The request's head or body took too long to arrive."""

    code = "request_timeout"


class UnsupportedMediaType(InvalidRequest):
    """A body must be application/json."""

    code = "unsupported_media_type"


class Forbidden(ChatSafeError):
    """You may not."""

    code = "insufficient_scope"


class InvalidApiKey(Forbidden):
    """The key is missing or wrong."""

    code = "invalid_api_key"


class ForbiddenHost(Forbidden):
    """The Host header names neither loopback nor a configured host."""

    code = "forbidden_host"


class ForbiddenOrigin(Forbidden):
    """A web page of another origin asked."""

    code = "forbidden_origin"


class Unavailable(ChatSafeError):
    """Full, loading or leaving: the same request may work later."""

    code = "service_unavailable"


class ModelBusy(Unavailable):
    """The model is in use and cannot be unloaded now."""

    code = "model_busy"


class RateLimitExceeded(Unavailable):
    """Too many requests in a minute."""

    code = "rate_limit_exceeded"


class ConcurrencyLimitExceeded(Unavailable):
    """Too many requests at once from one caller."""

    code = "concurrency_limit_exceeded"


class QueueFull(Unavailable):
    """The bounded queue in front of the model is full."""

    code = "queue_full"


class QueueTimeout(Unavailable):
    """No slot came free in time."""

    code = "queue_timeout"


class ShuttingDown(Unavailable):
    """The daemon is stopping."""

    code = "shutting_down"


class ModelLoadFailed(Unavailable):
    """The model file is missing, refused or broken, or the engine gave up on it."""

    code = "model_load_failed"


class InsufficientMemory(ModelLoadFailed):
    """The model does not fit into this machine's memory."""

    code = "insufficient_memory"


class Timeout(ChatSafeError):
    """The engine made no progress for too long; the answer is incomplete."""

    code = "timeout"


class InternalError(ChatSafeError):
    """We broke; the request id finds the log line."""

    code = "internal_error"


class WorkerDied(InternalError):
    """The model's process ended in the middle of an answer; the next request starts a new one."""

    code = "worker_died"


class NotReachable(Unavailable):
    """Nothing answers at the address that was asked."""

    code = "not_reachable"


class PeerFailed(ChatSafeError):
    """The other side broke off, or said something that is no answer."""

    code = "peer_failed"
