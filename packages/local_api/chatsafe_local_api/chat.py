"""`POST /v1/chat/completions`: from a body to an answer, streamed or whole.

Everything that can refuse a request comes before the first byte of the reply: limits, validation
and the backend's admission (its first event). After that, errors are events of the stream.
"""

import asyncio
import hashlib
import ipaddress
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from starlette.types import Receive, Scope, Send

from chatsafe_common import strict_json
from chatsafe_common.backend import Backend
from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.errors import ChatSafeError
from chatsafe_common.events import Started
from chatsafe_common.openai import ChatCall, parse_chat
from chatsafe_common.openai_result import Envelope
from chatsafe_local_api.answers import Answers
from chatsafe_local_api.boundary import ClientLeft, RequestFacts, request_facts
from chatsafe_local_api.guard import read_body
from chatsafe_local_api.inbox import Arrival, Inbox, open_inbox
from chatsafe_local_api.keys import Headers, Keys, Right
from chatsafe_local_api.limiter import Limiter
from chatsafe_local_api.metrics import Metrics, Outcome
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown
from chatsafe_local_api.streaming import SseReply

# A body of 64 KiB parses within 30 ms; larger ones do so beside the event loop.
INLINE_BODY_BYTES = 64 * 1024
_MAX_IGNORED_NAMES = 32
_MAX_NAME_CHARS = 64
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.\[\]-]")
_SEED_MASK = 2**63 - 1

_logger = logging.getLogger("chatsafe.api")


class Chat:
    """The endpoint, as an ASGI application of its own: a stream is no request-response function."""

    def __init__(
        self,
        backend: Backend,
        keys: Keys,
        options: ApiOptions,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> None:
        self._backend = backend
        self._keys = keys
        self._options = options
        self._metrics = metrics
        self._shutdown = shutdown
        self._limiter = Limiter(
            per_caller_per_minute=options.per_ip_per_minute,
            max_concurrent_per_caller=options.max_concurrent_per_ip,
            global_per_minute=options.global_per_minute,
            now=metrics.now(),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts = request_facts(scope)
        self._metrics.count_request()
        self._shutdown.check()
        body = await read_body(receive)
        with self._place(scope):
            cards = await self._backend.models()
            call = await self._parse(body, cards, scope["headers"], facts)
            del body
            if call.ignored:
                facts.headers.append((b"x-chatsafe-ignored", _header_text(call.ignored)))
            await self._answer(call, cards, facts, receive, send)

    @contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        """A place among the chats that run, where this caller is limited at all."""
        caller = self._limited_caller(scope)
        if caller is None:
            yield
            return
        refusal = self._limiter.admit(caller, self._metrics.now())
        if refusal is not None:
            raise refusal
        try:
            yield
        finally:
            self._limiter.release(caller, self._metrics.now())

    def _limited_caller(self, scope: Scope) -> str | None:
        """Whom to count: not the owner, who is on loopback without a key, or has the admin's."""
        address: str = scope["client"][0]
        if not self._keys.has_api_key and ipaddress.ip_address(address).is_loopback:
            return None
        return None if self._keys.right(scope["headers"]) is Right.ADMIN else address

    async def _parse(
        self, body: bytes, cards: Sequence[ModelCard], headers: Headers, facts: RequestFacts
    ) -> ChatCall:
        if len(body) > INLINE_BODY_BYTES:
            document = await asyncio.to_thread(strict_json.parse, body)
        else:
            document = strict_json.parse(body)
        windows = {card.id: card.context_window for card in cards}
        windows[""] = next((card.context_window for card in cards if card.is_default), 0)
        return parse_chat(
            document,
            request_id=facts.request_id,
            context_windows=windows,
            max_choices=self._options.max_choices,
            stream_when_absent=_prefers_stream(headers, self._options.stream_default),
            is_strict=self._options.strict or (b"x-chatsafe-strict", b"1") in headers,
        )

    async def _answer(
        self,
        call: ChatCall,
        cards: Sequence[ModelCard],
        facts: RequestFacts,
        receive: Receive,
        send: Send,
    ) -> None:
        began_at = self._metrics.now()
        streams = [self._backend.generate(request) for request in _choices(call)]
        answers = Answers(call.num_choices, keeps_text=not call.stream)
        reply: SseReply | None = None
        outcome: Outcome = "refused"
        code: str | None = None
        self._metrics.begin_answer(is_stream=call.stream)
        try:
            async with open_inbox(streams, receive, self._shutdown) as inbox:
                early = await _admission(inbox, call.num_choices)
                outcome = "failed"
                envelope = self._envelope(call, facts, early, cards)
                if call.stream:
                    reply = SseReply(
                        send, envelope, self._metrics, self._options.keep_alive_comment_s
                    )
                    await reply.run(inbox, answers, early)
                else:
                    await _fold(inbox, answers, early)
                    result = envelope.result(answers.choices, answers.usage, answers.timings)
                    await _send_json(send, msgspec.json.encode(result))
            outcome = "completed"
        except (ClientLeft, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        except ChatSafeError as error:
            code = error.code
            if reply is None:
                raise
            self._metrics.count_error(error.code)
            await reply.fail(error, facts.request_id)
        finally:
            duration_s = self._metrics.now() - began_at
            self._metrics.end_answer(is_stream=call.stream, outcome=outcome, duration_s=duration_s)
            _log_end(facts, call, answers, outcome, code, duration_s)

    def _envelope(
        self,
        call: ChatCall,
        facts: RequestFacts,
        early: Sequence[Arrival],
        cards: Sequence[ModelCard],
    ) -> Envelope:
        model = next(event.model for _, event in early if isinstance(event, Started))
        card = next((card for card in cards if card.id == model), None)
        fingerprint = None
        if self._options.system_fingerprint and card is not None:
            fingerprint = _fingerprint(card, self._options.version)
        return Envelope(
            id=f"chatcmpl-{facts.request_id}",
            created=int(time.time()),
            model=model,
            fingerprint=fingerprint,
            has_usage=call.include_usage,
        )


async def _admission(inbox: Inbox, number: int) -> list[Arrival]:
    """Waits until all answers are admitted; what has arrived by then. Raises the refusal."""
    early: list[Arrival] = []
    while sum(isinstance(event, Started) for _, event in early) < number:
        early += await inbox.take()
    return early


async def _fold(inbox: Inbox, answers: Answers, early: Sequence[Arrival]) -> None:
    arrivals = early
    while True:
        for index, event in arrivals:
            answers.add(index, event)
        if answers.are_complete:
            return
        arrivals = await inbox.take()


async def _send_json(send: Send, body: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _choices(call: ChatCall) -> list[ChatRequest]:
    """One request per answer, each with a seed of its own where the caller gave one."""
    requests = [call.request]
    sampling = call.request.sampling
    for index in range(1, call.num_choices):
        seed = None
        if sampling.seed is not None:
            digest = hashlib.blake2b(f"{sampling.seed} {index}".encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "big") & _SEED_MASK
        own = msgspec.structs.replace(sampling, seed=seed)
        requests.append(msgspec.structs.replace(call.request, sampling=own))
    return requests


def _prefers_stream(headers: Headers, default: bool) -> bool:
    """What an absent `stream` means: the Accept header decides, then the setting."""
    accept = b",".join(value for name, value in headers if name == b"accept").lower()
    if b"text/event-stream" in accept:
        return True
    return False if b"application/json" in accept else default


def _header_text(names: Sequence[str]) -> bytes:
    """Names of fields as a header value: a stranger chose them, so only plain ones are kept."""
    # Cut first: a name may be as long as the body.
    kept = list(dict.fromkeys(names))[:_MAX_IGNORED_NAMES]
    return ",".join(_NOT_PLAIN.sub("?", name[:_MAX_NAME_CHARS]) for name in kept).encode()


def _fingerprint(card: ModelCard, version: str) -> str:
    """Changes when weights, program or defaults change, so that answers may differ."""
    facts = (version, card.id, card.sha256, card.size_bytes, card.context_window, card.sampling)
    return "fp_" + hashlib.sha256(repr(facts).encode()).hexdigest()[:10]


def _log_end(
    facts: RequestFacts,
    call: ChatCall,
    answers: Answers,
    outcome: Outcome,
    code: str | None,
    duration_s: float,
) -> None:
    if outcome == "refused":
        return  # the boundary logs refusals
    _logger.info(
        "chat",
        extra={
            "request_id": facts.request_id,
            "model": answers.model,
            "outcome": outcome,
            "code": code,
            "stream": call.stream,
            "prompt_tokens": answers.usage.prompt_tokens,
            "completion_tokens": answers.usage.completion_tokens,
            "duration_ms": round(duration_s * 1000),
        },
    )
