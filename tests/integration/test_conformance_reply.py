"""Sections 6 and 7 of the API's conformance table, and what sampling fields of section 4 do.

The guide model is greedy, so the same question gets the same answer, streamed or not.
"""

import json
from typing import Any

import httpx
import pytest
from tests.support.daemon import DaemonProcess
from tests.support.guide import GUIDE, endless_chat

from chatsafe_config.gguf import read_header

Fields = dict[str, Any]

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is ChatSafe?"}]


def ask(daemon: DaemonProcess, **fields: Any) -> Any:
    """The reply to a question whose answer is a sentence or two."""
    reply = daemon.post({"messages": QUESTION, "temperature": 0, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def text(daemon: DaemonProcess, **fields: Any) -> str:
    (choice,) = ask(daemon, **fields)["choices"]
    return str(choice["message"]["content"])


def events(daemon: DaemonProcess, **fields: Any) -> tuple[list[Any], httpx.Headers]:
    """The chunks of a stream, whose form is checked byte by byte, and its headers."""
    body = {"messages": QUESTION, "temperature": 0, **fields, "stream": True}
    reply = daemon.post(body)
    assert reply.status_code == 200, reply.text
    *frames, done, rest = reply.content.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    found = []
    for frame in frames:
        assert frame.startswith(b"data: {")
        assert b"\n" not in frame
        chunk = json.loads(frame[6:])
        compact = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
        assert frame[6:].decode() == compact
        found.append(chunk)
    return found, reply.headers


def joined(chunks: list[Any], index: int = 0) -> str:
    """The text that the deltas of one choice make."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(
        choice["delta"].get("content", "") for choice in choices if choice["index"] == index
    )


def test_6_every_field(daemon: DaemonProcess) -> None:
    reply = ask(daemon)
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert isinstance(reply["created"], int)
    assert reply["model"] == "chatsafe-guide"
    assert reply["service_tier"] == "default"
    assert "system_fingerprint" not in reply
    (choice,) = reply["choices"]
    assert choice.keys() == {"index", "message", "finish_reason", "logprobs"}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["message"].keys() == {"role", "content", "refusal"}
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["refusal"] is None
    assert choice["message"]["content"]
    assert reply["timings"].keys() == {"queue_s", "prompt_s", "decode_s", "tokens_per_second"}


def test_6_usage(daemon: DaemonProcess) -> None:
    one, two = ask(daemon)["usage"], ask(daemon, n=2)["usage"]
    for usage in (one, two):
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens_details"] == {
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
            "audio_tokens": 0,
        }
        assert set(usage["completion_tokens_details"].values()) == {0}
    assert two["prompt_tokens"] == one["prompt_tokens"]
    assert two["completion_tokens"] == 2 * one["completion_tokens"]


def test_6_model_names_the_one_that_answers(daemon: DaemonProcess) -> None:
    for model in (None, "", "chatsafe-guide"):
        assert ask(daemon, model=model, max_tokens=1)["model"] == "chatsafe-guide"


def test_6_finish_reason_length_at_the_limit(daemon: DaemonProcess) -> None:
    whole = ask(daemon)
    for limit in (1, 2, whole["usage"]["completion_tokens"] - 1):
        reply = ask(daemon, max_tokens=limit)
        (choice,) = reply["choices"]
        assert choice["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens"] == limit
        assert whole["choices"][0]["message"]["content"].startswith(choice["message"]["content"])


def test_6_finish_reason_length_at_the_end_of_the_context(daemon: DaemonProcess) -> None:
    window = read_header(GUIDE).context_length
    cost = ask(daemon, messages=[{"role": "user", "content": "a " * 100}], max_tokens=1)["usage"]
    # Room for a short answer only.
    filler = "a " * (100 * (window - 60) // cost["prompt_tokens"])
    messages = [{"role": "user", "content": filler}]
    reply = daemon.post(endless_chat(messages=messages, stream=False)).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["total_tokens"] == window


def test_4_stop_is_removed_and_ends_the_answer(daemon: DaemonProcess) -> None:
    whole = text(daemon)
    words = whole.split(" ")
    for stop in (words[2], f"{words[1]} {words[2]}", whole[5], whole[-3:]):
        for given in (stop, [stop], ["never there", stop]):
            reply = ask(daemon, stop=given)
            (choice,) = reply["choices"]
            assert choice["finish_reason"] == "stop"
            assert choice["message"]["content"] == whole[: whole.index(stop)]
            assert joined(events(daemon, stop=given)[0]) == choice["message"]["content"]


def test_4_stop_that_is_nearly_there_is_held_back_and_released(daemon: DaemonProcess) -> None:
    whole = text(daemon)
    near = [whole[at : at + 8] + "\x00" for at in range(0, len(whole) - 8, 8)]
    assert joined(events(daemon, stop=near[:32])[0]) == whole


def test_4_earliest_of_several_stops_counts(daemon: DaemonProcess) -> None:
    whole = text(daemon)
    assert text(daemon, stop=[whole[12:16], whole[6:10]]) == whole[: whole.index(whole[6:10])]


def test_4_temperature_0_is_greedy(daemon: DaemonProcess) -> None:
    assert len({text(daemon, seed=seed) for seed in (None, 1, 2)}) == 1


def test_4_seed(daemon: DaemonProcess) -> None:
    hot: Fields = {"temperature": 2, "top_p": 1, "top_k": 0, "max_tokens": 16}
    found = [text(daemon, seed=seed, **hot) for seed in range(4)]
    assert len(set(found)) > 1
    assert [text(daemon, seed=seed, **hot) for seed in range(4)] == found
    unseeded = {text(daemon, **hot) for _ in range(4)}
    assert len(unseeded) > 1


def test_4_logit_bias_forces_and_bans(daemon: DaemonProcess) -> None:
    size = read_header(GUIDE).vocab_size
    forced = text(daemon, logit_bias={"5": 100}, max_tokens=8)
    assert forced
    assert forced == forced[: len(forced) // 8] * 8
    others = {str(token): -100 for token in range(size) if token != 5}
    assert text(daemon, logit_bias=others, max_tokens=8) == forced
    assert forced[0] not in text(daemon, logit_bias={"5": -100}, max_tokens=8)


def test_4_logit_bias_unknown_id(daemon: DaemonProcess) -> None:
    size = read_header(GUIDE).vocab_size
    reply = daemon.post({"messages": QUESTION, "logit_bias": {str(size): 1}})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "invalid_value")
    assert "logit_bias" in error["message"]


def test_4_frequency_penalty_counts_what_was_written(daemon: DaemonProcess) -> None:
    forced: Fields = {"logit_bias": {"5": 100}, "max_tokens": 80}
    plain = text(daemon, **forced)
    assert len(set(plain)) == 1
    # 100 is used up after some fifty times.
    assert len(set(text(daemon, frequency_penalty=2, **forced))) > 1
    assert text(daemon, frequency_penalty=-2, **forced) == plain
    assert text(daemon, presence_penalty=2, **forced) == plain


@pytest.mark.parametrize("number", [2, 8])
def test_4_n(daemon: DaemonProcess, number: int) -> None:
    choices = ask(daemon, n=number, max_tokens=6)["choices"]
    assert [choice["index"] for choice in choices] == list(range(number))
    assert {choice["message"]["content"] for choice in choices} == {text(daemon, max_tokens=6)}
    hot = ask(daemon, n=number, max_tokens=16, temperature=2, top_k=0, top_p=1, seed=7)
    assert len({choice["message"]["content"] for choice in hot["choices"]}) > 1


def test_7_headers(daemon: DaemonProcess) -> None:
    _, headers = events(daemon, max_tokens=2)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert headers["x-request-id"]
    assert headers["x-chatsafe-route"] == "local"


def test_7_order_and_envelope(daemon: DaemonProcess) -> None:
    chunks, _ = events(daemon)
    first, *middle, last = chunks
    for chunk in chunks:
        assert chunk.keys() == {"id", "object", "created", "model", "choices"}
        assert chunk["object"] == "chat.completion.chunk"
        for name in ("id", "created", "model"):
            assert chunk[name] == first[name]
        (choice,) = chunk["choices"]
        assert choice.keys() == {"index", "delta", "logprobs", "finish_reason"}
        assert choice["logprobs"] is None
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert middle
    for chunk in middle:
        (choice,) = chunk["choices"]
        assert choice["delta"].keys() == {"content"}
        assert choice["delta"]["content"]
    assert last["choices"][0]["delta"] == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [*[None] * (len(chunks) - 1), "stop"]


def test_7_done_also_after_length(daemon: DaemonProcess) -> None:
    chunks, _ = events(daemon, max_tokens=1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_7_usage_chunk(daemon: DaemonProcess) -> None:
    chunks, _ = events(daemon, stream_options={"include_usage": True})
    *others, last = chunks
    assert [chunk["usage"] for chunk in others] == [None] * len(others)
    assert last["choices"] == []
    usage = ask(daemon)["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == usage[name]


def test_7_no_usage_when_not_asked_for(daemon: DaemonProcess) -> None:
    for options in (None, {}, {"include_usage": False}):
        chunks, _ = events(daemon, stream_options=options, max_tokens=2)
        assert not [chunk for chunk in chunks if "usage" in chunk or not chunk["choices"]]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="greedy"),
        pytest.param({"temperature": 2, "seed": 5, "max_tokens": 60}, id="seeded"),
        pytest.param({"messages": [{"role": "user", "content": "2+2"}]}, id="short"),
        pytest.param({"max_tokens": 7}, id="cut"),
        # Random bytes: many of them are no characters, and some are half of one.
        pytest.param(
            {"logit_bias": {str(token): 100 for token in range(100, 256)}, "max_tokens": 60}
            | {"temperature": 2, "top_k": 0, "top_p": 1, "seed": 3},
            id="bytes",
        ),
    ],
)
def test_7_equivalence(daemon: DaemonProcess, fields: Fields) -> None:
    chunks, _ = events(daemon, **fields)
    whole = ask(daemon, **fields)["choices"][0]
    assert joined(chunks) == whole["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


def test_7_n_choices_in_one_stream(daemon: DaemonProcess) -> None:
    chunks, _ = events(daemon, n=3, stream_options={"include_usage": True})
    *chunks, usage = chunks
    whole = ask(daemon, n=3)
    for index in range(3):
        own = [
            choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index
        ]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert (own[-1]["delta"], own[-1]["finish_reason"]) == ({}, "stop")
        assert all(choice["finish_reason"] is None for choice in own[:-1])
        assert joined(chunks, index) == whole["choices"][index]["message"]["content"]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:3]] == ["assistant"] * 3
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("application/json", False),
        ("*/*", False),
        ("text/html", False),
    ],
)
def test_7_stream_absent_follows_accept(
    daemon: DaemonProcess, accept: str, is_stream: bool
) -> None:
    body: Fields = {"messages": QUESTION, "max_tokens": 1}
    for stream, wanted in [(None, is_stream), (True, True), (False, False)]:
        reply = daemon.client.post(
            CHAT, json={**body, "stream": stream}, headers={"accept": accept}
        )
        assert reply.headers["content-type"].startswith("text/event-stream") is wanted
