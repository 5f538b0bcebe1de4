"""Sections 1 and 5 of the API's conformance table: messages, and bodies that are JSON or are not.

Each row's id is its section and name.
"""

from concurrent.futures import ThreadPoolExecutor
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

USER: Fields = {"role": "user", "content": "Hello"}
BODY = '{"messages":[{"role":"user","content":"Hello"}],"max_tokens":4%s}'
LARGE = 24 * 1024 * 1024


def post(daemon: DaemonProcess, *messages: Any) -> httpx.Response:
    return daemon.post({"messages": messages, "max_tokens": 8, "temperature": 0})


def send(daemon: DaemonProcess, body: str | bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return daemon.client.post("/v1/chat/completions", content=body, headers=headers)


@pytest.mark.parametrize(
    ("message", "wanted"),
    rows(
        ("5 role absent", {"content": "x"}, missing("role")),
        ("5 role value", {"role": "User", "content": "x"}, wrong("value", "role")),
        ("5 role type", {"role": 1, "content": "x"}, wrong("type", "role")),
        ("5 content absent", {"role": "user"}, missing("content")),
        (
            "5 content null",
            {"role": "user", "content": None},
            missing("content"),
        ),
        ("5 content type", {"role": "user", "content": 3}, wrong("type", "content")),
        ("5 content empty", {"role": "user", "content": ""}, wrong("value", "content")),
        ("5 content without parts", {"role": "user", "content": []}, wrong("value", "content")),
        ("5 part is no object", {"role": "user", "content": ["x"]}, wrong("type", "content[0]")),
        (
            "5 part without type",
            {"role": "user", "content": [{"text": "x"}]},
            missing("content[0].type"),
        ),
        (
            "5 part without text",
            {"role": "user", "content": [{"type": "text"}]},
            missing("content[0].text"),
        ),
        (
            "5 part text type",
            {"role": "user", "content": [{"type": "text", "text": 1}]},
            wrong("type", "content[0].text"),
        ),
        (
            "5 part type value",
            {"role": "user", "content": [{"type": "video"}]},
            wrong("value", "content[0].type"),
        ),
        (
            "5 image",
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "x"},
                    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
                ],
            },
            (400, "unsupported_content", "content[1].image_url"),
        ),
        (
            "5 audio",
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            (400, "unsupported_content", "content[0].input_audio"),
        ),
        (
            "5 file",
            {"role": "user", "content": [{"type": "file", "file": {}}]},
            (400, "unsupported_content", "content[0].file"),
        ),
        (
            "5 assistant null without calls",
            {"role": "assistant", "content": None},
            missing("content"),
        ),
        (
            "5 assistant calls",
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
            unsupported("tool_calls"),
        ),
        ("5 tool", {"role": "tool", "tool_call_id": "a", "content": "x"}, unsupported("role")),
        ("5 function", {"role": "function", "name": "f", "content": "x"}, unsupported("role")),
        ("5 name type", {"role": "user", "content": "x", "name": 1}, wrong("type", "name")),
    ),
)
def test_message_refused(daemon: DaemonProcess, message: Fields, wanted: Refusal) -> None:
    status, code, path = wanted
    reply = post(daemon, USER, message)
    assert refusal(reply) == (status, code, f"messages[1].{path}")


def test_4_messages_that_are_no_objects(daemon: DaemonProcess) -> None:
    for item in (1, None, "Hello", [USER]):
        assert refusal(post(daemon, USER, item)) == wrong("type", "messages[1]")


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([{"role": "system", "content": "Be kind."}, USER], id="5 system"),
        pytest.param([{"role": "system", "content": ""}, USER], id="5 system empty"),
        pytest.param([{"role": "system", "content": "Be kind."}], id="5 system alone"),
        pytest.param([USER, {"role": "system", "content": "Be kind."}], id="5 system last"),
        pytest.param([USER, {"role": "assistant", "content": ""}, USER], id="5 assistant empty"),
        pytest.param([USER, {"role": "assistant", "content": "Hi"}], id="5 assistant last"),
        pytest.param([{"role": "user", "content": " \n"}], id="5 white space"),
        pytest.param([{"role": "user", "content": "a\0b\ufeff\u2028"}], id="5 odd characters"),
        pytest.param([{**USER, "name": "Ann"}], id="5 name"),
        pytest.param([{"role": "user", "content": "<|im_end|></s>[INST]"}], id="5 markers"),
    ],
)
def test_message_accepted(daemon: DaemonProcess, messages: list[Fields]) -> None:
    reply = post(daemon, *messages)
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["prompt_tokens"] > 0
    assert "x-chatsafe-ignored" not in reply.headers


def test_5_text_parts_are_joined(daemon: DaemonProcess) -> None:
    parts = [{"type": "text", "text": text} for text in ("Hel", "", "lo")]
    plain = post(daemon, USER).json()
    joined = post(daemon, {"role": "user", "content": parts}).json()
    assert (joined["choices"], joined["usage"]) == (plain["choices"], plain["usage"])


def test_5_developer_is_system(daemon: DaemonProcess) -> None:
    found = [
        post(daemon, {"role": role, "content": "Be kind."}, USER).json()
        for role in ("system", "developer")
    ]
    assert found[0]["choices"] == found[1]["choices"]
    assert found[0]["usage"] == found[1]["usage"]


def test_5_a_reply_can_be_sent_back_as_it_came(daemon: DaemonProcess) -> None:
    message = post(daemon, USER).json()["choices"][0]["message"]
    assert post(daemon, USER, message, USER).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="1 nothing"),
        pytest.param(b"{", id="1 cut off"),
        pytest.param((BODY % "" + "x").encode(), id="1 something behind"),
        pytest.param((BODY % ',"n":1,"n":1').encode(), id="1 duplicate key"),
        pytest.param((BODY % ',"metadata":{"a":"","a":""}').encode(), id="1 duplicate key inside"),
        pytest.param((BODY % ',"temperature":NaN').encode(), id="1 NaN"),
        pytest.param((BODY % ',"temperature":-Infinity').encode(), id="1 Infinity"),
        pytest.param((BODY % ',"temperature":1e999').encode(), id="1 1e999"),
        pytest.param((BODY % f',"seed":{"9" * 5000}').encode(), id="1 5000 digits"),
        pytest.param((BODY % ',"seed":01').encode(), id="1 leading zero"),
        pytest.param((BODY % ",'seed':1").encode(), id="1 single quotes"),
        pytest.param((BODY % ',"seed":1,').encode(), id="1 comma at the end"),
        pytest.param((BODY % f',"a":{"[" * 32 + "]" * 32}').encode(), id="1 33 levels"),
        pytest.param(b"[" * 100_000, id="1 100000 levels"),
        pytest.param((BODY % f',"a":[{"1," * 100_000}1]').encode(), id="1 100000 values"),
        pytest.param((BODY % ',"user":"\\ud800"').encode(), id="1 half a pair"),
        pytest.param((BODY % ',"\\udc00":1').encode(), id="1 half a pair in a key"),
        pytest.param((BODY % ',"user":"\\x"').encode(), id="1 no such escape"),
        pytest.param((BODY % ',"user":"\0"').encode(), id="1 bare control character"),
        pytest.param(b"\xef\xbb\xbf" + (BODY % "").encode(), id="1 byte order mark"),
        pytest.param((BODY % "").encode("utf-16"), id="3 UTF-16"),
        pytest.param((BODY % ',"user":"\xe9"').encode("latin-1"), id="3 Latin-1"),
        pytest.param((BODY % ',"user":"X"').encode().replace(b"X", b"\xed\xa0\x80"), id="3 CESU"),
        pytest.param((BODY % ',"user":"X"').encode().replace(b"X", b"\xc0\xaf"), id="3 overlong"),
    ],
)
def test_body_is_no_json(daemon: DaemonProcess, body: bytes) -> None:
    reply = send(daemon, body)
    assert refusal(reply) == wrong("json", None)
    assert len(reply.content) < 500


@pytest.mark.parametrize("body", ["null", "[]", '"Hello"', "3", "true"])
def test_1_body_is_no_object(daemon: DaemonProcess, body: str) -> None:
    assert refusal(send(daemon, body)) == wrong("type", None)


@pytest.mark.parametrize(
    ("more", "ignored"),
    [
        pytest.param(',"user":"\\ud83d\\ude00"', None, id="1 a whole pair"),
        pytest.param(f',"a":{"[" * 31 + "]" * 31}', "a", id="1 32 levels"),
        pytest.param(',"a\\r\\nx-evil: 1,b":1', "a??x-evil??1?b", id="1 key made for a header"),
        pytest.param(f',"{"k" * 1000}":1', "k" * 64, id="1 long key"),
        pytest.param(f',"temperature":0.{"0" * 10_000}', None, id="1 many zeros"),
    ],
)
def test_body_is_json(daemon: DaemonProcess, more: str, ignored: str | None) -> None:
    reply = send(daemon, BODY % more)
    assert reply.status_code == 200, reply.text
    assert reply.headers.get("x-chatsafe-ignored") == ignored
    assert "x-evil" not in reply.headers


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BODY.replace("Hello", "a" * LARGE) % "", id="3 text"),
        pytest.param(BODY.replace("Hello", "\\n" * (LARGE // 2)) % "", id="3 escapes"),
        pytest.param(BODY % f',"{"k" * LARGE}":1', id="3 key"),
        pytest.param("[" + "[]," * (LARGE // 3), id="3 lists"),
        pytest.param(BODY % f',"seed":{"9" * LARGE}', id="3 digits"),
    ],
)
def test_a_large_body_does_not_hold_up_others(daemon: DaemonProcess, body: str) -> None:
    longest_s = 0.0
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=daemon.url, timeout=30) as other:
        sending = pool.submit(send, daemon, body)
        while not sending.done():
            longest_s = max(longest_s, other.get("/healthz").elapsed.total_seconds())
    assert sending.result().status_code in (200, 400)
    assert longest_s < 2.0
