"""`POST /v1/chat/completions` in memory: rows of the conformance table, by name."""

import asyncio
import json
from typing import Any

import pytest
from tests.support.asgi import ADMIN_KEY, Api, Gate

from chatsafe_common.backend import EventStream
from chatsafe_common.chat import ChatRequest
from chatsafe_common.errors import (
    ChatSafeError,
    ContextLengthExceeded,
    InsufficientMemory,
    QueueFull,
    Timeout,
    WorkerDied,
)
from chatsafe_common.events import FinishReason, Started, TextDelta
from chatsafe_common.testing import ScriptedBackend


def events(frames: list[str]) -> list[dict[str, Any]]:
    return [json.loads(frame[6:]) for frame in frames if frame.startswith("data: {")]


def streamed_text(frames: list[str], index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content", "")
        for event in events(frames)
        for choice in event["choices"]
        if choice["index"] == index
    )


def test_buffered_reply_has_every_field() -> None:
    reply = asyncio.run(Api().chat())
    assert reply.status == 200
    document = reply.json()
    assert document.pop("id") == f"chatcmpl-{reply.headers['x-request-id']}"
    assert isinstance(document.pop("created"), int)
    assert document == {
        "object": "chat.completion",
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
                "audio_tokens": 0,
            },
        },
        "service_tier": "default",
        "timings": {"queue_s": 0.0, "prompt_s": 0.0, "decode_s": 0.0, "tokens_per_second": 0.0},
    }
    assert b"system" not in reply.body


def test_length_is_told() -> None:
    api = Api(ScriptedBackend(reason=FinishReason.LENGTH))
    choices: Any = asyncio.run(api.chat()).json()["choices"]
    assert choices[0]["finish_reason"] == "length"
    frames = asyncio.run(api.chat(stream=True)).frames
    assert events(frames)[-1]["choices"][0]["finish_reason"] == "length"
    assert frames[-1] == "data: [DONE]"


def test_stream_headers() -> None:
    headers = asyncio.run(Api().chat(stream=True)).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


def test_stream_order_and_equal_envelope() -> None:
    reply = asyncio.run(Api().chat(stream=True))
    frames = reply.frames
    assert frames[0].startswith('data: {"id":"chatcmpl-')
    assert '"delta":{"role":"assistant","content":""}' in frames[0]
    assert frames[-1] == "data: [DONE]"
    assert frames.count("data: [DONE]") == 1
    found = events(frames)
    assert len({(e["id"], e["created"], e["model"], e["object"]) for e in found}) == 1
    assert found[0]["object"] == "chat.completion.chunk"
    assert found[-1]["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert all("usage" not in event for event in found)
    assert streamed_text(frames) == "Hello there."


def test_include_usage_adds_one_chunk_and_null_elsewhere() -> None:
    reply = asyncio.run(Api().chat(stream=True, stream_options={"include_usage": True}))
    found = events(reply.frames)
    assert all(event["usage"] is None for event in found[:-1])
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 10


def test_white_space_pieces_are_sent_unchanged() -> None:
    api = Api(ScriptedBackend([" ", "\n\n", "a", " "]))
    assert streamed_text(asyncio.run(api.chat(stream=True)).frames) == " \n\na "


@pytest.mark.parametrize(
    ("accept", "default", "is_stream"),
    [
        (None, False, False),
        (None, True, True),
        ("*/*", False, False),
        ("text/event-stream", False, True),
        ("application/json", True, False),
    ],
)
def test_absent_stream(accept: str | None, default: bool, is_stream: bool) -> None:
    headers = [("accept", accept)] if accept else []
    reply = asyncio.run(Api(stream_default=default).chat(headers=headers))
    assert reply.headers["content-type"].startswith("text/event-stream") is is_stream
    explicit = asyncio.run(Api(stream_default=default).chat(headers=headers, stream=not is_stream))
    assert explicit.headers["content-type"].startswith("text/event-stream") is not is_stream


def test_no_model_means_the_default_and_the_reply_names_it() -> None:
    api = Api()
    assert asyncio.run(api.chat(model="")).json()["model"] == "scripted"
    assert api.backend.requests[0].model == ""


def test_a_named_model_is_never_replaced() -> None:
    reply = asyncio.run(Api().chat(model="other"))
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )


def test_max_tokens_above_the_context() -> None:
    reply = asyncio.run(Api(ScriptedBackend(context_window=100)).chat(max_tokens=101))
    assert reply.status == 400
    assert reply.error["message"] == "max_tokens must be between 1 and 100."


class Echo(ScriptedBackend):
    """Says its seed, so that choices can be told apart."""

    async def generate(self, request: ChatRequest) -> EventStream:
        self.requests.append(request)
        async for event in ScriptedBackend([str(request.sampling.seed)]).generate(request):
            yield event


def test_n_choices_have_seeds_of_their_own_and_count_the_prompt_once() -> None:
    api = Api(Echo())
    document: Any = asyncio.run(api.chat(n=3, seed=5)).json()
    texts = [choice["message"]["content"] for choice in document["choices"]]
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2]
    assert texts[0] == "5"
    assert len(set(texts)) == 3
    assert all(0 <= int(text) < 2**63 for text in texts)
    assert (document["usage"]["prompt_tokens"], document["usage"]["completion_tokens"]) == (7, 3)
    again: Any = asyncio.run(api.chat(n=3, seed=5)).json()
    assert [choice["message"]["content"] for choice in again["choices"]] == texts
    unseeded = asyncio.run(api.chat(n=2))
    assert b'"content":"None"' in unseeded.body


def test_n_choices_interleave_in_a_stream() -> None:
    frames = asyncio.run(Api().chat(n=3, stream=True)).frames
    found = events(frames)
    assert [event["choices"][0]["index"] for event in found[:3]] == [0, 1, 2]
    assert [streamed_text(frames, index) for index in range(3)] == ["Hello there."] * 3
    ended = [e["choices"][0]["index"] for e in found if e["choices"][0]["finish_reason"]]
    assert sorted(ended) == [0, 1, 2]
    assert frames.count("data: [DONE]") == 1


def test_n_is_capped() -> None:
    reply = asyncio.run(Api(max_choices=2).chat(n=3))
    assert reply.error["message"] == "n must be between 1 and 2."


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (QueueFull("Full.", retry_after_s=2.2), 503, "3"),
        (ContextLengthExceeded(3000, 2048), 400, None),
        (InsufficientMemory("Too large."), 503, "1"),
        (WorkerDied("Died."), 500, None),
        (Timeout("Slow."), 504, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_admission_comes_before_the_status(
    error: ChatSafeError, status: int, retry: str | None, stream: bool
) -> None:
    reply = asyncio.run(Api(ScriptedBackend(error=error)).chat(stream=stream))
    assert reply.status == status
    assert reply.error["code"] == error.code
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers.get("retry-after") == retry
    if retry:
        assert reply.headers["retry-after-ms"] == f"{retry}000"


def test_context_overflow_tells_both_numbers() -> None:
    error = asyncio.run(Api(ScriptedBackend(error=ContextLengthExceeded(3000, 2048))).chat()).error
    assert "too long" in str(error["message"])
    assert "maximum context length is 2048 tokens" in str(error["message"])
    assert (error["n_prompt_tokens"], error["n_ctx"], error["param"]) == (3000, 2048, "messages")
    assert error["details"] == {"n_prompt_tokens": 3000, "n_ctx": 2048}


def test_error_after_headers_is_one_event_and_no_done() -> None:
    api = Api(ScriptedBackend(error=WorkerDied("The model ended."), error_after=2))
    reply = asyncio.run(api.chat(stream=True))
    assert reply.status == 200
    last = json.loads(reply.frames[-1][6:])
    assert last["error"] == {
        "message": "The model ended.",
        "type": "server_error",
        "param": None,
        "code": "worker_died",
        "status": 500,
    }
    assert "[DONE]" not in reply.body.decode()
    assert streamed_text(reply.frames[:-1]) == "Hello there"
    assert api.metrics.num_streams_by_outcome == {"failed": 1}
    assert asyncio.run(api.chat()).error["code"] == "worker_died"


class Broken(ScriptedBackend):
    """Breaks in a way that nobody foresaw."""

    async def generate(self, request: ChatRequest) -> EventStream:
        yield Started("scripted", 1)
        yield TextDelta("a")
        raise RuntimeError("secretword")


class Cut(ScriptedBackend):
    """Ends without its final event."""

    async def generate(self, request: ChatRequest) -> EventStream:
        yield Started("scripted", 1)
        yield TextDelta("a")


@pytest.mark.parametrize("backend", [Broken(), Cut()])
def test_an_answer_that_is_not_whole_is_never_reported_as_finished(
    backend: ScriptedBackend,
) -> None:
    buffered = asyncio.run(Api(backend).chat())
    assert (buffered.status, buffered.error["code"]) == (500, "internal_error")
    streamed = asyncio.run(Api(backend).chat(stream=True))
    assert '"internal_error"' in streamed.frames[-1]
    assert b"[DONE]" not in streamed.body
    assert b"secretword" not in streamed.body + buffered.body


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_cancels(stream: bool) -> None:
    async def main() -> None:
        gate = Gate()
        backend = ScriptedBackend(gate=gate)
        api = Api(backend)
        async with api.open_chat(stream=stream) as client:
            await gate.has_seen(1)
            client.leave()
        assert backend.num_open == 0
        assert api.metrics.num_cancelled == 1
        assert api.metrics.active_requests == 0
        assert not client.is_done

    asyncio.run(main())


class Waiting(ScriptedBackend):
    """Never admits: the request stays in the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.has_two = asyncio.Event()

    async def generate(self, request: ChatRequest) -> EventStream:
        self.num_open += 1
        if self.num_open == 2:
            self.has_two.set()
        try:
            await asyncio.Event().wait()
            yield Started("scripted", 1)
        finally:
            self.num_open -= 1


def test_client_that_leaves_while_queued_leaves_the_queue() -> None:
    async def main() -> None:
        backend = Waiting()
        api = Api(backend)
        async with api.open_chat(n=2) as client:
            await backend.has_two.wait()
            client.leave()
        assert backend.num_open == 0
        assert client.reply.status == 0

    asyncio.run(main())


def test_keep_alive_comments_come_after_the_role_frame_only() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        api = Api(ScriptedBackend(gate=gate), keep_alive_comment_s=0.001)
        async with api.open_chat(stream=True) as client:
            await client.wait_for_parts(4)
            gate.set()
        assert '"role":"assistant"' in client.reply.frames[0]
        assert client.reply.frames[1:4] == [": keep-alive"] * 3
        assert client.reply.frames[-1] == "data: [DONE]"

    asyncio.run(main())


def test_first_text_leaves_before_the_second_is_made() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        api = Api(ScriptedBackend(["a", "b"], gate=gate))
        async with api.open_chat(stream=True) as client:
            await client.wait_for_parts(1)
            assert '"role":"assistant"' in client.reply.frames[0]
            gate.set()
        assert client.is_done

    asyncio.run(main())


def test_shutdown_refuses_new_chats_and_cuts_running_ones() -> None:
    async def main() -> None:
        api = Api(ScriptedBackend(gate=asyncio.Event()))
        async with api.open_chat(stream=True) as client:
            await client.wait_for_parts(1)
            api.shutdown.begin()
            refused = await api.chat()
            assert (refused.status, refused.error["code"]) == (503, "shutting_down")
            assert "retry-after" in refused.headers
            assert not client.is_done
            api.shutdown.cut()
        assert '"shutting_down"' in client.reply.frames[-1]
        assert api.backend.num_open == 0

    asyncio.run(main())


def test_ignored_fields_are_listed_with_plain_names() -> None:
    fields: dict[str, Any] = {"top_a": 1, "verbosity": "low", "x\r\nset-cookie: a,b": 1}
    fields["k" * 100] = 1
    reply = asyncio.run(Api().chat(**fields))
    assert reply.status == 200
    plain = f"verbosity,top_a,x??set-cookie??a?b,{'k' * 64}"
    assert reply.headers["x-chatsafe-ignored"] == plain
    assert "x-chatsafe-ignored" not in asyncio.run(Api().chat()).headers


def test_strict_by_setting_and_by_header() -> None:
    by_setting = asyncio.run(Api(strict=True).chat(top_a=1))
    by_header = asyncio.run(Api().chat(headers=[("x-chatsafe-strict", "1")], top_a=1))
    for reply in (by_setting, by_header):
        assert (reply.status, reply.error["code"]) == (400, "unknown_parameter")
        assert reply.error["param"] == "top_a"


def test_fingerprint_only_with_the_setting() -> None:
    api = Api(system_fingerprint=True)
    first, second = asyncio.run(api.chat()).json(), asyncio.run(api.chat()).json()
    assert str(first["system_fingerprint"]).startswith("fp_")
    assert first["system_fingerprint"] == second["system_fingerprint"]
    other = Api(ScriptedBackend(context_window=4096), system_fingerprint=True)
    changed = asyncio.run(other.chat()).json()
    assert first["system_fingerprint"] != changed["system_fingerprint"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"messages":[],"messages":[]}', b"\xff", b"[NaN]"])
def test_bodies_that_are_no_json(body: bytes) -> None:
    reply = asyncio.run(Api().ask("POST", "/v1/chat/completions", body=body))
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


def test_alias_without_v1() -> None:
    body = b'{"messages":[{"role":"user","content":"Hi"}]}'
    assert asyncio.run(Api().ask("POST", "/chat/completions", body=body)).status == 200


def test_large_body_is_parsed_beside_the_loop() -> None:
    text = "word " * 100_000
    api = Api()
    reply = asyncio.run(api.chat(messages=[{"role": "user", "content": text}]))
    assert reply.status == 200
    assert api.backend.requests[0].messages[0].content == text


def test_limits_are_off_for_the_owner_on_loopback() -> None:
    api = Api(per_ip_per_minute=1, global_per_minute=1)
    assert [asyncio.run(api.chat()).status for _ in range(3)] == [200, 200, 200]


def test_limits_apply_to_callers_with_a_key() -> None:
    api = Api(api_key="k", per_ip_per_minute=1)
    key = [("authorization", "Bearer k")]
    assert asyncio.run(api.chat(headers=key)).status == 200
    refused = asyncio.run(api.chat(headers=key))
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.error["type"] == "rate_limit_error"
    assert asyncio.run(api.chat(headers=key, client="192.0.2.1")).status == 200
    admin = [("authorization", f"Bearer {ADMIN_KEY}")]
    assert [asyncio.run(api.chat(headers=admin)).status for _ in range(2)] == [200, 200]


def test_invalid_requests_cost_a_token_and_places_come_back() -> None:
    api = Api(api_key="k", per_ip_per_minute=3, max_concurrent_per_ip=1)
    key = [("x-api-key", "k")]
    codes = [asyncio.run(api.chat(headers=key, temperature=9)).status for _ in range(4)]
    assert codes == [400, 400, 400, 429]


def test_concurrency_limit_holds_while_a_stream_runs() -> None:
    async def main() -> None:
        gate = Gate()
        api = Api(ScriptedBackend(gate=gate), api_key=None, max_concurrent_per_ip=1)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(api.chat(client="192.0.2.1"))
            await gate.has_seen(1)
            second = await api.chat(client="192.0.2.1")
            assert (second.status, second.error["code"]) == (429, "concurrency_limit_exceeded")
            gate.set()
        assert first.result().status == 200
        assert (await api.chat(client="192.0.2.1")).status == 200

    asyncio.run(main())
