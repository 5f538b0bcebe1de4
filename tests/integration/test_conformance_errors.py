"""Sections 10 and 12 of the API's conformance table: the list of models, and errors."""

import re

import pytest
from tests.support.conformance import refusal
from tests.support.daemon import DaemonProcess
from tests.support.guide import GUIDE

from chatsafe_config.gguf import read_header

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is ChatSafe?"}]


def test_10_list(daemon: DaemonProcess) -> None:
    listed = daemon.client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["chatsafe-guide"]
    assert daemon.client.get("/v1/models").json() == listed
    for card in daemon.client.get("/models").json()["data"]:
        assert card.keys() == {"id", "object", "created", "owned_by", "chatsafe"}
        assert (card["object"], card["owned_by"]) == ("model", "local")
        assert isinstance(card["created"], int)
        extra = card["chatsafe"]
        assert extra["state"] in ("loaded", "available", "missing")
        assert extra["context_length"] > 0
        assert (extra["route"], extra["privacy"]) == ("local", "local")
        assert {"capabilities", "size_bytes", "sha256", "quantization"} <= extra.keys()


def test_10_one(daemon: DaemonProcess) -> None:
    (listed,) = daemon.client.get("/v1/models").json()["data"]
    for path in ("/v1/models/chatsafe-guide", "/v1/models/chatsafe%2Dguide"):
        assert daemon.client.get(path).json()["id"] == listed["id"]
    assert listed["chatsafe"]["context_length"] == read_header(GUIDE).context_length


@pytest.mark.parametrize(
    "model",
    [
        "nope",
        "owner/name:tag",
        "a%2Fb%3Ac",
        "..%2F..%2Fetc%2Fpasswd",
        "%FF%00",
        "",
        "a/",
        "A" * 900,
    ],
)
def test_10_unknown(daemon: DaemonProcess, model: str) -> None:
    reply = daemon.client.get(f"/v1/models/{model}")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["details"]["available"] == ["chatsafe-guide"]


def test_10_every_listed_id_is_found(daemon: DaemonProcess) -> None:
    for card in daemon.client.get("/models").json()["data"]:
        assert daemon.client.get(f"/v1/models/{card['id']}").json() == card


def test_12_every_error_has_four_keys_and_a_request_id(daemon: DaemonProcess) -> None:
    for reply in (
        daemon.post({}),
        daemon.post([]),
        daemon.post({"messages": QUESTION, "model": "nope"}),
        daemon.client.get("/nothing"),
        daemon.client.put("/healthz"),
        daemon.client.get("/healthz", headers={"origin": "null"}),
        daemon.client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}),
    ):
        refusal(reply)
        assert reply.headers["content-type"] == "application/json"
        assert isinstance(reply.json()["error"]["code"], str)
        assert reply.json()["error"]["status"] == reply.status_code
        assert not re.search(r"Traceback|\.py|/home|/tmp|0x[0-9a-f]", reply.text)


def test_12_context_length_exceeded(daemon: DaemonProcess) -> None:
    window = read_header(GUIDE).context_length
    for stream in (False, True):
        messages = [{"role": "user", "content": "long " * window}]
        reply = daemon.post({"messages": messages, "stream": stream})
        error = reply.json()["error"]
        assert reply.status_code == 400
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert f"this model's maximum context length is {window} tokens" in error["message"]
        assert "too long" in error["message"]
        assert error["n_ctx"] == window
        assert error["n_prompt_tokens"] > window


def test_12_max_tokens_above_the_context(daemon: DaemonProcess) -> None:
    window = read_header(GUIDE).context_length
    assert daemon.post({"messages": QUESTION, "max_tokens": window}).json()["choices"]
    reply = daemon.post({"messages": QUESTION, "max_tokens": window + 1})
    message = reply.json()["error"]["message"]
    assert message == f"max_tokens must be between 1 and {window}."


def test_12_model_not_found_lists_near_names(daemon: DaemonProcess) -> None:
    error = daemon.post({"messages": QUESTION, "model": "chatsafe-guid"}).json()["error"]
    assert "chatsafe-guide" in error["message"]
    assert "chatsafe-guide" in error["details"]["available"]


def test_12_model_without_its_file(daemon: DaemonProcess) -> None:
    cards = daemon.client.get("/models").json()["models"]
    missing = next(card["id"] for card in cards if not card["available"])
    reply = daemon.post({"messages": QUESTION, "model": missing})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, "model_load_failed")
    assert reply.headers["x-should-retry"] == "false"
    assert str(daemon.home) not in error["message"]
