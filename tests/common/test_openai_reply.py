"""Both halves of the OpenAI dialect against each other, and replies of strangers."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsafe_common import errors, strict_json
from chatsafe_common.chat import ChatRequest, Message, ModelCard, Sampling
from chatsafe_common.events import (
    ChatEvent,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)
from chatsafe_common.openai import parse_chat
from chatsafe_common.openai_reply import (
    ReplyReader,
    error_from_reply,
    model_cards,
    request_json,
)
from chatsafe_common.openai_result import Envelope, model_json

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_requests = st.builds(
    ChatRequest,
    request_id=st.just("id"),
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), _texts),
        min_size=1,
        max_size=4,
    ).map(tuple),
    model=st.sampled_from(["", "some/model:latest"]),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.floats(0, 2),
        top_p=st.none() | st.floats(0, 1),
        top_k=st.none() | st.integers(0, 1000),
        min_p=st.none() | st.floats(0, 1),
        typical_p=st.none() | st.floats(0, 1),
        repeat_penalty=st.none() | st.floats(0.1, 2),
        presence_penalty=st.none() | st.floats(-2, 2),
        frequency_penalty=st.none() | st.floats(-2, 2),
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        logit_bias=st.lists(
            st.tuples(st.integers(0, 10**6), st.floats(-100, 100)),
            max_size=3,
            unique_by=lambda pair: pair[0],
        ).map(tuple),
    ),
    max_tokens=st.none() | st.integers(1, 4096),
    stop=st.lists(_texts, max_size=4).map(tuple),
    clean_labels=st.none() | st.booleans(),
    keep_alive_s=st.none() | st.floats(-1, 86400),
)


@settings(deadline=None)
@given(_requests, st.booleans())
def test_the_daemon_reads_what_the_client_writes(request: ChatRequest, stream: bool) -> None:
    call = parse_chat(
        strict_json.parse(request_json(request, stream=stream)),
        request_id="id",
        context_windows={},
        max_choices=1,
        stream_when_absent=not stream,
        is_strict=True,
    )
    assert call.request == request
    assert (call.stream, call.include_usage, call.ignored) == (stream, stream, ())


ENVELOPE = Envelope(id="x", created=1, model="m", has_usage=True)
USAGE = Usage(7, 3, cached_tokens=2)
TIMINGS = Timings(0.25, 0.5, 0.75)


@settings(deadline=None)
@given(st.lists(_texts), st.sampled_from(FinishReason))
def test_the_client_reads_what_the_daemon_streams(texts: list[str], reason: FinishReason) -> None:
    documents = [
        ENVELOPE.role(0),
        *(ENVELOPE.text(0, text) for text in texts),
        ENVELOPE.finish(0, reason),
        ENVELOPE.usage(USAGE, TIMINGS),
    ]
    assert read(documents) == [
        Started("m", 0),
        *(TextDelta(text) for text in texts),
        Finished(reason, USAGE, TIMINGS),
    ]


def test_the_client_reads_a_whole_result() -> None:
    result = ENVELOPE.result([("text", FinishReason.LENGTH)], USAGE, TIMINGS)
    assert read([result]) == [
        Started("m", 0),
        TextDelta("text"),
        Finished(FinishReason.LENGTH, USAGE, TIMINGS),
    ]


def read(documents: list[dict[str, object]]) -> list[ChatEvent]:
    reader = ReplyReader()
    events = [
        event for document in documents for event in reader.receive(msgspec.json.encode(document))
    ]
    return [*events, reader.finish()]


def test_a_model_card_survives_the_way_through_json() -> None:
    card = ModelCard(
        id="a/b:c",
        name="A",
        context_window=512,
        available=True,
        is_default=True,
        loaded=True,
        created=7,
        size_bytes=9,
        quantization="Q4_K_M",
        sha256="0" * 64,
        parameters="3B",
        architecture="llama",
        license="MIT",
        source="somewhere",
        template="chatml",
    )
    body = msgspec.json.encode({"object": "list", "data": [model_json(card)]})
    assert model_cards(body) == (card,)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_reply_is_too_strange_to_become_an_error(body: bytes, status: int) -> None:
    error = error_from_reply(status, body, None)
    assert isinstance(error, errors.ChatSafeError)
    assert error.message


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "error", "delta", "usage", "content", "code"]), inner
            )
        ),
    )
)
def test_no_chunk_is_too_strange_to_be_refused(document: object) -> None:
    try:
        for event in ReplyReader().receive(msgspec.json.encode(document)):
            assert isinstance(event, Started | TextDelta)
    except errors.ChatSafeError:
        pass


@pytest.mark.parametrize("code", ["not_reachable", "peer_failed", "invalid_api_key"])
def test_every_code_finds_its_class(code: str) -> None:
    body = msgspec.json.encode({"error": {"code": code, "message": "x"}})
    assert error_from_reply(500, body, None).code == code
