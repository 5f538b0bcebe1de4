"""The OpenAI dialect seen from the asker's side: `ChatRequest` to JSON, replies back to events.

Pure: bytes and strings in, values out. A reply is as hostile as any other input, so whatever does
not fit the dialect becomes `PeerFailed`; sizes are bounded by the caller, who does the reading.
Servers of other makers leave out what they like: every field that the answer can do without is
optional here.
"""

from collections.abc import Iterator, Sequence

import msgspec

from chatsafe_common import errors
from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.events import (
    ChatEvent,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)

END_OF_STREAM = "[DONE]"


def request_json(request: ChatRequest, *, stream: bool) -> bytes:
    """The body of `POST /v1/chat/completions`. What is `None` stays out of it."""
    body: dict[str, object] = {
        "messages": [
            {key: value for key, value in msgspec.structs.asdict(message).items() if value}
            | {"content": message.content}
            for message in request.messages
        ],
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if request.model:
        body["model"] = request.model
    for name, value in msgspec.structs.asdict(request.sampling).items():
        if name != "logit_bias" and value is not None:
            body[name] = value
    if request.sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in request.sampling.logit_bias}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.clean_labels is not None:
        body["clean"] = request.clean_labels
    if request.keep_alive_s is not None:
        body["keep_alive"] = request.keep_alive_s
    return msgspec.json.encode(body)


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None


class _Timings(msgspec.Struct):
    queue_s: float = 0.0
    prompt_s: float = 0.0
    decode_s: float = 0.0


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    param: str | None = None
    # A string in this dialect; other makers also put the HTTP status here.
    code: str | int | None = None
    details: dict[str, object] | None = None
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Reply(msgspec.Struct):
    """A chunk, a whole result, or an error: the three share one envelope."""

    model: str = ""
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: _Error | str | None = None


class _Facts(msgspec.Struct):
    """What `openai_result.model_json` adds to OpenAI's own fields."""

    name: str | None = None
    available: bool = True
    loaded: bool = False
    default: bool | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    quantization: str | None = None
    sha256: str | None = None
    parameters: str | None = None
    architecture: str | None = None
    license: str | None = None
    source: str | None = None
    template: str | None = None


class _Model(msgspec.Struct):
    id: str
    created: float = 0
    chatsafe: _Facts = msgspec.field(default_factory=_Facts)


class _ModelList(msgspec.Struct):
    data: list[_Model]


_reply_decoder = msgspec.json.Decoder(_Reply)
_models_decoder = msgspec.json.Decoder(_ModelList)


class ReplyReader:
    """The replies of one request in, its events out: `Started, TextDelta*, Finished`.

    Streamed chunks and one whole result are read by the same rules.
    """

    def __init__(self) -> None:
        self._has_started = False
        self._reason: FinishReason | None = None
        self._usage = Usage(0, 0)
        self._timings = Timings()

    def receive(self, data: str | bytes) -> Iterator[ChatEvent]:
        """The events in one JSON object. Raises what the server reports, or PeerFailed."""
        reply = _decode_reply(data)
        if reply.error is not None:
            raise _to_error(reply.error, status=0, retry_after_s=None)
        if not self._has_started and (reply.choices or reply.model):
            self._has_started = True
            yield Started(reply.model, prompt_tokens=0)
        for choice in reply.choices[:1]:
            text = choice.delta or choice.message
            if text is not None and text.content:
                yield TextDelta(text.content)
            if choice.finish_reason is not None:
                is_cut = choice.finish_reason == "length"
                self._reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
        if reply.usage is not None:
            details = reply.usage.prompt_tokens_details
            self._usage = Usage(
                reply.usage.prompt_tokens,
                reply.usage.completion_tokens,
                (details.cached_tokens or 0) if details is not None else 0,
            )
        if reply.timings is not None:
            timings = reply.timings
            self._timings = Timings(timings.queue_s, timings.prompt_s, timings.decode_s)

    def finish(self) -> Finished:
        """The last event. Raises PeerFailed when the answer had not ended."""
        if self._reason is None:
            raise errors.PeerFailed(
                "The answer is incomplete: the server closed the connection in the middle of it. "
                "Ask again."
            )
        return Finished(self._reason, self._usage, self._timings)


def _decode_reply(data: str | bytes) -> _Reply:
    try:
        return _reply_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_answer() from error


def _no_answer() -> errors.PeerFailed:
    return errors.PeerFailed(
        "The server's reply is not in the OpenAI format, so it is probably not an OpenAI-compatible"
        " server. Check the address."
    )


def model_cards(body: bytes) -> Sequence[ModelCard]:
    """The models in a `GET /v1/models` reply, in its order. Raises PeerFailed."""
    try:
        models = _models_decoder.decode(body).data
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_answer() from error
    return tuple(_card(model, is_first=index == 0) for index, model in enumerate(models))


def _card(model: _Model, *, is_first: bool) -> ModelCard:
    facts = model.chatsafe
    return ModelCard(
        id=model.id,
        name=facts.name or model.id,
        context_window=facts.context_length or 0,
        available=facts.available,
        is_default=is_first if facts.default is None else facts.default,
        loaded=facts.loaded,
        created=int(model.created),
        size_bytes=facts.size_bytes,
        quantization=facts.quantization,
        sha256=facts.sha256,
        parameters=facts.parameters,
        architecture=facts.architecture,
        license=facts.license,
        source=facts.source,
        template=facts.template,
    )


def error_from_reply(status: int, body: bytes, retry_after_s: float | None) -> errors.ChatSafeError:
    """The error that an HTTP reply with a failure `status` reports; never raises."""
    try:
        reply = _reply_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reply = _Reply()
    return _to_error(reply.error or _Error(), status, retry_after_s)


def _to_error(
    error: _Error | str, status: int, retry_after_s: float | None
) -> errors.ChatSafeError:
    if isinstance(error, str):
        error = _Error(message=error)
    message = error.message or f"The server refused with HTTP status {status} and gave no reason."
    if error.code == errors.ContextLengthExceeded.code:
        return _context_error(error, message)
    kind = _class_of(error, status)
    details = {
        key: value
        for key, value in (error.details or {}).items()
        if isinstance(value, str | int | float)
        or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    }
    return kind(message, param=error.param, details=details, retry_after_s=retry_after_s)


def _context_error(error: _Error, message: str) -> errors.ContextLengthExceeded:
    details = error.details or {}
    numbers = [
        value if isinstance(value, int) else 0
        for value in (
            error.n_prompt_tokens or details.get("n_prompt_tokens"),
            error.n_ctx or details.get("n_ctx"),
        )
    ]
    built = errors.ContextLengthExceeded(numbers[0], numbers[1])
    built.message = message
    return built


def _class_of(error: _Error, status: int) -> type[errors.ChatSafeError]:
    for name in (error.code, error.type):
        if isinstance(name, str) and name in _classes:
            return _classes[name]
    if status in _by_status:
        return _by_status[status]
    return errors.InvalidRequest if 400 <= status < 500 else errors.PeerFailed


def _with_subclasses(kind: type[errors.ChatSafeError]) -> Iterator[type[errors.ChatSafeError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _with_subclasses(below)


# Built from the classes themselves, so a new error is known here without being named again.
_classes = {
    kind.code: kind
    for kind in _with_subclasses(errors.ChatSafeError)
    if kind is not errors.ChatSafeError
}
# For servers that send no code of ours.
_by_status: dict[int, type[errors.ChatSafeError]] = {
    401: errors.InvalidApiKey,
    403: errors.Forbidden,
    404: errors.ModelNotFound,
    408: errors.RequestTimeout,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.RateLimitExceeded,
    500: errors.InternalError,
    502: errors.PeerFailed,
    503: errors.Unavailable,
    504: errors.Timeout,
}
