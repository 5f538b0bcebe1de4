"""Sections 1 and 4 of the API's conformance table: the fields of a chat request.

Each row's id is its section and name. A refusal is a status, a code and a path; what is accepted
is held against the plain answer, because the guide model answers the same to the same.
"""

from typing import Any

import httpx
import pytest
from tests.support.conformance import (
    Fields,
    Refusal,
    missing,
    refusal,
    rows,
    unsupported,
    wrong,
)
from tests.support.daemon import DaemonProcess

MAX_SEED = 2**63 - 1
USER: Fields = {"role": "user", "content": "Hello"}
PLAIN: Fields = {"messages": [USER], "max_tokens": 8, "temperature": 0}


def post(daemon: DaemonProcess, **fields: Any) -> httpx.Response:
    return daemon.post({**PLAIN, **fields})


@pytest.mark.parametrize(
    ("fields", "wanted"),
    rows(
        ("1 wrong type", {"temperature": "1"}, wrong("type", "temperature")),
        ("1 true is no number", {"temperature": True}, wrong("type", "temperature")),
        ("1 string is no integer", {"max_tokens": "5"}, wrong("type", "max_tokens")),
        ("1 fraction is no integer", {"max_tokens": 5.5}, wrong("type", "max_tokens")),
        ("4 model type", {"model": 3}, wrong("type", "model")),
        ("4 model too long", {"model": "m" * 257}, wrong("value", "model")),
        ("4 model unknown", {"model": "nope"}, (404, "model_not_found", "model")),
        ("4 messages absent", {"messages": None}, missing("messages")),
        ("4 messages type", {"messages": "Hello"}, wrong("type", "messages")),
        ("4 messages empty", {"messages": []}, wrong("value", "messages")),
        ("4 messages 513", {"messages": [USER] * 513}, wrong("value", "messages")),
        ("4 stream type", {"stream": 1}, wrong("type", "stream")),
        ("4 stream_options alone", {"stream_options": {}}, wrong("value", "stream_options")),
        (
            "4 stream_options without stream",
            {"stream": False, "stream_options": {"include_usage": True}},
            wrong("value", "stream_options"),
        ),
        (
            "4 include_usage type",
            {"stream": True, "stream_options": {"include_usage": 1}},
            wrong("type", "stream_options.include_usage"),
        ),
        ("4 max_tokens 0", {"max_tokens": 0}, wrong("value", "max_tokens")),
        ("4 max_tokens above context", {"max_tokens": 10**6}, wrong("value", "max_tokens")),
        ("4 max_tokens of 400 digits", {"max_tokens": 10**400}, wrong("value", "max_tokens")),
        ("4 max_tokens 1e300", {"max_tokens": 1e300}, wrong("value", "max_tokens")),
        (
            "4 max_completion_tokens 0",
            {"max_completion_tokens": 0},
            wrong("value", "max_completion_tokens"),
        ),
        (
            "4 max_tokens given twice and different",
            {"max_tokens": 7, "max_completion_tokens": 8},
            wrong("value", "max_tokens"),
        ),
        ("4 temperature above", {"temperature": 2.01}, wrong("value", "temperature")),
        ("4 temperature below", {"temperature": -0.01}, wrong("value", "temperature")),
        ("4 top_p above", {"top_p": 1.01}, wrong("value", "top_p")),
        ("4 top_p below", {"top_p": -0.01}, wrong("value", "top_p")),
        ("4 n 0", {"n": 0}, wrong("value", "n")),
        ("4 n above the configured cap", {"n": 9}, wrong("value", "n")),
        ("4 seed too large", {"seed": MAX_SEED + 1}, wrong("value", "seed")),
        ("4 seed too small", {"seed": -MAX_SEED - 2}, wrong("value", "seed")),
        ("4 stop empty string", {"stop": ""}, wrong("value", "stop")),
        ("4 stop empty string in array", {"stop": ["a", ""]}, wrong("value", "stop[1]")),
        ("4 stop item type", {"stop": ["a", 1]}, wrong("type", "stop[1]")),
        ("4 stop type", {"stop": {}}, wrong("type", "stop")),
        ("4 stop 33", {"stop": ["x"] * 33}, wrong("value", "stop")),
        ("4 stop 257 bytes", {"stop": "x" * 257}, wrong("value", "stop")),
        ("4 presence_penalty", {"presence_penalty": 2.1}, wrong("value", "presence_penalty")),
        ("4 frequency_penalty", {"frequency_penalty": -2.1}, wrong("value", "frequency_penalty")),
        ("4 logit_bias type", {"logit_bias": [1]}, wrong("type", "logit_bias")),
        ("4 logit_bias key", {"logit_bias": {"Hello": 1}}, wrong("value", "logit_bias")),
        ("4 logit_bias other digits", {"logit_bias": {"\u0665": 1}}, wrong("value", "logit_bias")),
        ("4 logit_bias negative id", {"logit_bias": {"-1": 1}}, wrong("value", "logit_bias")),
        ("4 logit_bias value", {"logit_bias": {"5": 101}}, wrong("value", "logit_bias.5")),
        ("4 logprobs type", {"logprobs": 1}, wrong("type", "logprobs")),
        ("4 logprobs", {"logprobs": True}, unsupported("logprobs")),
        ("4 top_logprobs alone", {"top_logprobs": 2}, wrong("value", "top_logprobs")),
        ("4 top_logprobs above", {"top_logprobs": 21}, wrong("value", "top_logprobs")),
        ("4 response_format type", {"response_format": "text"}, wrong("type", "response_format")),
        (
            "4.1 json_object",
            {"response_format": {"type": "json_object"}},
            unsupported("response_format"),
        ),
        (
            "4.1 json_schema",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            unsupported("response_format"),
        ),
        (
            "4.1 other form",
            {"response_format": {"type": "xml"}},
            wrong("value", "response_format.type"),
        ),
        (
            "4.2 tools",
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            unsupported("tools"),
        ),
        ("4.2 tools type", {"tools": {}}, wrong("type", "tools")),
        ("4.2 tool_choice alone", {"tool_choice": "required"}, wrong("value", "tool_choice")),
        (
            "4.2 tool_choice named",
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            wrong("value", "tool_choice"),
        ),
        ("4.2 tool_choice type", {"tool_choice": 3}, wrong("type", "tool_choice")),
        (
            "4 parallel_tool_calls type",
            {"parallel_tool_calls": "no"},
            wrong("type", "parallel_tool_calls"),
        ),
        (
            "4 reasoning_effort value",
            {"reasoning_effort": "huge"},
            wrong("value", "reasoning_effort"),
        ),
        ("4 verbosity value", {"verbosity": "loud"}, wrong("value", "verbosity")),
        (
            "4 prediction",
            {"prediction": {"type": "content", "content": "x"}},
            unsupported("prediction"),
        ),
        ("4 prompt_cache_key type", {"prompt_cache_key": 1}, wrong("type", "prompt_cache_key")),
        ("4 store", {"store": True}, unsupported("store")),
        (
            "4 metadata 17 pairs",
            {"metadata": dict.fromkeys("abcdefghijklmnopq", "")},
            wrong("value", "metadata"),
        ),
        ("4 metadata key", {"metadata": {"k" * 65: ""}}, wrong("value", "metadata")),
        ("4 metadata value", {"metadata": {"k": "v" * 513}}, wrong("value", "metadata")),
        ("4 metadata value type", {"metadata": {"k": 1}}, wrong("type", "metadata")),
        ("4 user type", {"user": 1}, wrong("type", "user")),
        (
            "4 safety_identifier",
            {"safety_identifier": "x" * 65},
            wrong("value", "safety_identifier"),
        ),
        ("4 service_tier value", {"service_tier": "gold"}, wrong("value", "service_tier")),
        ("4 audio", {"audio": {"voice": "x", "format": "mp3"}}, unsupported("audio")),
        ("4 web_search_options", {"web_search_options": {}}, unsupported("web_search_options")),
        ("4 moderation", {"moderation": {}}, unsupported("moderation")),
        ("4 modalities", {"modalities": ["text", "audio"]}, unsupported("modalities")),
        ("4 functions", {"functions": [{"name": "f"}]}, unsupported("functions")),
        ("4 function_call", {"function_call": {"name": "f"}}, unsupported("function_call")),
        ("4 top_k", {"top_k": 1001}, wrong("value", "top_k")),
        ("4 min_p", {"min_p": 1.1}, wrong("value", "min_p")),
        ("4 typical_p", {"typical_p": -0.1}, wrong("value", "typical_p")),
        ("4 repeat_penalty", {"repeat_penalty": 2.1}, wrong("value", "repeat_penalty")),
        ("4 grammar", {"grammar": "root ::= x"}, unsupported("grammar")),
        (
            "4 chat_template_kwargs",
            {"chat_template_kwargs": {"a": 1}},
            unsupported("chat_template_kwargs"),
        ),
        ("4 keep_alive value", {"keep_alive": "soon"}, wrong("value", "keep_alive")),
        ("4 keep_alive type", {"keep_alive": True}, wrong("type", "keep_alive")),
        ("4 clean type", {"clean": "yes"}, wrong("type", "clean")),
    ),
)
def test_request_refused(daemon: DaemonProcess, fields: Fields, wanted: Refusal) -> None:
    reply = post(daemon, **fields)
    assert refusal(reply) == wanted
    assert reply.json()["error"]["type"] == "invalid_request_error"


ACCEPTED = rows(
    ("1 null is absent", dict.fromkeys(["stop", "seed", "tools", "stream", "foo"]), None),
    ("1 integral float", {"max_tokens": 8.0, "n": 1.0, "seed": 5e0}, None),
    ("1 unknown field", {"foo": 1, "best_of": {}}, "foo,best_of"),
    ("4 model null", {"model": None}, None),
    ("4 model named", {"model": "chatsafe-guide"}, None),
    ("4 max_completion_tokens", {"max_tokens": None, "max_completion_tokens": 8}, None),
    ("4 max_tokens twice the same", {"max_completion_tokens": 8}, None),
    ("4 temperature -0", {"temperature": -0.0}, None),
    ("4 top_p 0 is the best token", {"temperature": 2, "top_p": 0}, None),
    ("4 top_k 1", {"temperature": 2, "top_k": 1}, None),
    ("4 min_p 1", {"temperature": 2, "min_p": 1}, None),
    ("4 seed without effect on greedy", {"seed": -MAX_SEED - 1}, None),
    ("4 stop empty array", {"stop": []}, None),
    ("4 stop 32 that never come", {"stop": [f"never {n}" for n in range(32)]}, None),
    ("4 stop any character", {"stop": ["\U0001f600", "\0"]}, None),
    ("4 penalties 0", {"presence_penalty": 0, "frequency_penalty": 0.0}, None),
    ("4 logit_bias empty", {"logit_bias": {}}, None),
    ("4 logit_bias 0", {"logit_bias": {"5": 0, "6": None}}, None),
    ("4 logprobs false", {"logprobs": False}, None),
    ("4.1 text", {"response_format": {"type": "text"}}, None),
    ("4.2 tools empty", {"tools": [], "tool_choice": "auto", "functions": []}, None),
    ("4.2 tool_choice none", {"tool_choice": "none", "parallel_tool_calls": False}, None),
    (
        "4 reasoning_effort and verbosity",
        {"reasoning_effort": "none", "verbosity": "low"},
        "reasoning_effort,verbosity",
    ),
    ("4 prompt_cache_key", {"prompt_cache_key": "x"}, None),
    ("4 prompt_cache_options", {"prompt_cache_options": {}}, "prompt_cache_options"),
    ("4 store false", {"store": False}, None),
    ("4 metadata", {"metadata": {"k" * 64: "v" * 512}}, None),
    ("4 user", {"user": "u" * 1000, "safety_identifier": "x" * 64}, None),
    ("4 service_tier", {"service_tier": "flex"}, None),
    ("4 modalities", {"modalities": ["text"]}, None),
    ("4 keep_alive", {"keep_alive": "5m"}, None),
    ("4 return_progress", {"return_progress": True}, "return_progress"),
)


@pytest.mark.parametrize(("fields", "ignored"), ACCEPTED)
def test_request_accepted(daemon: DaemonProcess, fields: Fields, ignored: str | None) -> None:
    reply = post(daemon, **fields)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"] == post(daemon).json()["choices"]
    assert reply.json()["service_tier"] == "default"
    assert reply.headers.get("x-chatsafe-ignored") == ignored


def test_1_strict_header(daemon: DaemonProcess) -> None:
    reply = daemon.client.post(
        "/v1/chat/completions", json={**PLAIN, "foo": 1}, headers={"x-chatsafe-strict": "1"}
    )
    assert refusal(reply) == (400, "unknown_parameter", "foo")
