"""HttpBackend against a real socket: streams, results, refusals, and servers that misbehave."""

import asyncio
import json
from contextlib import aclosing

import pytest
from tests.support.canned_server import CannedServer
from tests.support.http_server import unused_url

from chatsafe_client.connection import Connection
from chatsafe_client.http import HttpBackend
from chatsafe_common import errors
from chatsafe_common.chat import ChatRequest, Message, Sampling
from chatsafe_common.events import ChatEvent, Finished, FinishReason, Started, TextDelta, Usage

CHAT = "/v1/chat/completions"


def ask(url: str, request: ChatRequest | None = None, api_key: str = "") -> list[ChatEvent]:
    async def collect() -> list[ChatEvent]:
        async with Connection(url, api_key=api_key) as connection:
            backend = HttpBackend(connection)
            question = request or ChatRequest("id-1", (Message("user", "Hi"),))
            async with aclosing(backend.generate(question)) as events:
                return [event async for event in events]

    return asyncio.run(collect())


def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    body = {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def test_a_stream_becomes_events(server: CannedServer, url: str) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    server.stream(
        CHAT,
        chunk({"role": "assistant", "content": ""}),
        b": keep-alive\n\n",
        chunk({"content": "Grüß"})[:40],
        chunk({"content": "Grüß"})[40:] + chunk({"content": " dich"}),
        chunk({}, "stop"),
        b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    )
    assert ask(url) == [
        Started("m", 0),
        TextDelta("Grüß"),
        TextDelta(" dich"),
        Finished(FinishReason.STOP, Usage(5, 2)),
    ]


def test_the_request_says_what_was_chosen_and_nothing_else(server: CannedServer, url: str) -> None:
    server.stream(CHAT, chunk({"content": "x"}, "stop"))
    request = ChatRequest(
        "id-7",
        (Message("system", "be brief"), Message("user", 'a "b" $c `d` 😀')),
        model="some",
        sampling=Sampling(temperature=0.0, top_k=5, logit_bias=((7, -100.0),)),
        max_tokens=9,
        stop=("END",),
    )
    ask(url, request, api_key="key")
    assert server.last_json == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": 'a "b" $c `d` 😀'},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "model": "some",
        "temperature": 0.0,
        "top_k": 5,
        "logit_bias": {"7": -100.0},
        "max_tokens": 9,
        "stop": ["END"],
    }
    headers = server.requests[-1][2]
    assert headers["authorization"] == "Bearer key"
    assert headers["x-request-id"] == "id-7"


def test_a_server_that_does_not_stream_is_understood(server: CannedServer, url: str) -> None:
    server.reply(
        CHAT,
        {
            "model": "m",
            "choices": [{"message": {"content": "Whole"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        },
    )
    assert ask(url) == [
        Started("m", 0),
        TextDelta("Whole"),
        Finished(FinishReason.LENGTH, Usage(1, 1)),
    ]


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (404, {"code": "model_not_found", "message": "no"}, errors.ModelNotFound),
        (503, {"code": "queue_full", "message": "no"}, errors.QueueFull),
        (401, {"code": "invalid_api_key", "message": "no"}, errors.InvalidApiKey),
        (400, {"code": None, "message": "no"}, errors.InvalidRequest),
        (429, {"code": 429, "message": "no"}, errors.RateLimitExceeded),
        (418, {"type": "queue_timeout", "message": "no"}, errors.QueueTimeout),
        (500, "broken", errors.InternalError),
        (599, {}, errors.PeerFailed),
    ],
)
def test_refusals_come_back_as_the_class_of_their_code(
    server: CannedServer,
    url: str,
    status: int,
    error: object,
    expected: type[errors.ChatSafeError],
) -> None:
    server.reply(CHAT, {"error": error}, status=status, headers={"retry-after": "7"})
    with pytest.raises(errors.ChatSafeError) as caught:
        ask(url)
    assert type(caught.value) is expected
    assert caught.value.retry_after_s == 7


def test_the_numbers_of_a_context_refusal_survive(server: CannedServer, url: str) -> None:
    server.reply(
        CHAT,
        {
            "error": {
                "code": "context_length_exceeded",
                "message": "too long",
                "n_prompt_tokens": 99,
                "n_ctx": 50,
            }
        },
        status=400,
    )
    with pytest.raises(errors.ContextLengthExceeded, match="99 tokens") as caught:
        ask(url)
    assert caught.value.message == "too long"
    assert caught.value.details == {"n_prompt_tokens": 99, "n_ctx": 50}


def test_an_error_in_mid_stream_follows_the_text(server: CannedServer, url: str) -> None:
    server.stream(
        CHAT,
        chunk({"content": "Hal"}),
        b'data: {"error":{"message":"gone","code":"worker_died","type":"server_error"}}\n\n',
    )
    with pytest.raises(errors.WorkerDied, match="gone"):
        ask(url)


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk({"content": "Hal"})],  # the connection ends too early
        [b"data: {nonsense\n\n"],
        [b"data: []\n\n"],
        [b'data: {"choices":7}\n\n'],
        [b"data: \xff\xfe\n\n"],
        [b"data: [DONE]\n\n"],  # the end of nothing
    ],
)
def test_a_stream_that_is_no_answer_is_the_servers_fault(
    server: CannedServer, url: str, pieces: list[bytes]
) -> None:
    server.stream(CHAT, *pieces)
    with pytest.raises(errors.PeerFailed):
        ask(url)


def test_an_event_without_end_is_cut_off(
    server: CannedServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsafe_client.http.MAX_EVENT_BYTES", 1000)
    server.stream(CHAT, *[b"data: " + b"x" * 300] * 10)
    with pytest.raises(errors.PeerFailed, match="1000 bytes"):
        ask(url)


def test_a_redirect_is_refused_and_not_followed(server: CannedServer, url: str) -> None:
    server.reply(CHAT, b"", status=307, headers={"location": "/elsewhere"})
    with pytest.raises(errors.PeerFailed, match="redirects are not followed"):
        ask(url)
    assert [path for _, path, _, _ in server.requests] == [CHAT]


def test_a_page_instead_of_an_answer(server: CannedServer, url: str) -> None:
    server.reply(CHAT, b"<html>", headers={"content-type": "text/html"})
    with pytest.raises(errors.PeerFailed, match="not in the OpenAI format"):
        ask(url)


def test_nobody_there() -> None:
    url = unused_url()
    with pytest.raises(errors.NotReachable, match=url):
        ask(url)


def test_models(server: CannedServer, url: str) -> None:
    server.reply(
        "/v1/models",
        {
            "object": "list",
            "data": [
                {
                    "id": "a/b:c",
                    "object": "model",
                    "created": 7,
                    "owned_by": "local",
                    "chatsafe": {"context_length": 512, "size_bytes": 9, "loaded": True},
                },
                {"id": "plain", "object": "model"},
            ],
        },
    )

    async def models() -> list[tuple[str, int, bool, bool]]:
        async with Connection(url + "/v1/") as connection:
            cards = await HttpBackend(connection).models()
            return [(c.id, c.context_window, c.is_default, c.loaded) for c in cards]

    assert asyncio.run(models()) == [("a/b:c", 512, True, True), ("plain", 0, False, False)]
