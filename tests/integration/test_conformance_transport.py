"""Sections 2 and 3 of the API's conformance table: routes, bodies, ids, queue, on real sockets.

Tests are named after the rows; requests are bytes where a client library would not send them.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from tests.support.daemon import DaemonProcess, running_daemon
from tests.support.guide import endless_chat
from tests.support.raw_http import ask, chunked, exchange, replies, request

CHAT = "/v1/chat/completions"
HELLO = b'{"messages":[{"role":"user","content":"Hello"}],"max_tokens":2}'
GET_PATHS = [
    "/v1/models",
    "/v1/models/chatsafe-guide",
    "/models",
    "/models/chatsafe-guide",
    "/v1/status",
    "/healthz",
    "/health",
    "/version",
    "/metrics",
]
MAX_BODY_BYTES = 65536


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with one slot, one place to wait and a small limit for bodies."""
    flags = ["--parallel", "1", "--queue-size", "1", "--queue-timeout-s", "1"]
    flags += ["--max-body-bytes", str(MAX_BODY_BYTES)]
    with running_daemon(tmp_path_factory.mktemp("narrow"), *flags) as running:
        yield running


def test_2_chat_with_and_without_v1(daemon: DaemonProcess) -> None:
    for path in (CHAT, "/chat/completions"):
        reply = ask(daemon.port, "POST", path, body=HELLO)
        assert (reply.status, reply.json["object"]) == (200, "chat.completion")


@pytest.mark.parametrize("path", GET_PATHS)
def test_2_get_and_head(daemon: DaemonProcess, path: str) -> None:
    reply = ask(daemon.port, "GET", path)
    assert reply.status == 200
    assert isinstance(reply.json, dict)
    head = ask(daemon.port, "HEAD", path)
    assert head.status == 200
    assert head.body == b""
    assert int(head.headers["content-length"]) > 0
    assert head.headers["content-type"] == reply.headers["content-type"]


@pytest.mark.parametrize("path", [*GET_PATHS, CHAT])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_2_wrong_method(daemon: DaemonProcess, method: str, path: str) -> None:
    reply = ask(daemon.port, method, path)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    allowed = {name.strip() for name in reply.headers["allow"].split(",")}
    assert allowed == ({"POST"} if path == CHAT else {"GET", "HEAD"})


def test_2_reading_a_route_that_only_takes_posts(daemon: DaemonProcess) -> None:
    assert ask(daemon.port, "GET", CHAT).code == "method_not_allowed"
    head = ask(daemon.port, "HEAD", CHAT)
    assert (head.status, head.body, head.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/responses/compact",
        "/v1/moderations",
        "/v1/audio/speech",
        "/v1/images/generations",
        "/v1/files",
        "/v1/batches",
        "/v1/fine_tuning/jobs",
        "/v1/rerank",
        "/api/chat",
        "/nothing",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/",
    ],
)
def test_2_unknown_path_is_never_a_fake_success(daemon: DaemonProcess, path: str) -> None:
    reply = ask(daemon.port, "POST", path, body=HELLO)
    assert (reply.status, reply.code) == (404, "unknown_url")
    assert reply.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path", ["/healthz/", "//healthz", "/healthz;x", "/%", "/v1", "/..%2fhealthz"]
)
def test_2_paths_are_not_guessed(daemon: DaemonProcess, path: str) -> None:
    reply = ask(daemon.port, "GET", path)
    assert (reply.status, reply.code) == (404, "unknown_url")
    assert "location" not in reply.headers


def test_2_query_strings_do_not_matter(daemon: DaemonProcess) -> None:
    assert ask(daemon.port, "GET", "/healthz?x=%FF&y&=").status == 200
    assert ask(daemon.port, "POST", f"{CHAT}?stream=true", body=HELLO).json["choices"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("text/plain;application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json, text/plain", 415),
        ("", 415),
    ],
)
def test_3_request_type(daemon: DaemonProcess, content_type: str, status: int) -> None:
    reply = ask(daemon.port, "POST", CHAT, f"Content-Type: {content_type}", body=HELLO)
    assert reply.status == status
    if status == 415:
        assert reply.code == "unsupported_media_type"


def test_3_request_type_missing(daemon: DaemonProcess) -> None:
    length = f"Content-Length: {len(HELLO)}"
    head = request("POST", CHAT, length, "Connection: close", host=f"127.0.0.1:{daemon.port}")
    (reply,) = replies(exchange(daemon.port, head + HELLO), "POST")
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


def test_3_compressed_bodies_are_not_read(daemon: DaemonProcess) -> None:
    reply = ask(daemon.port, "POST", CHAT, "Content-Encoding: gzip", body=HELLO)
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


def test_3_body_size_declared(daemon: DaemonProcess) -> None:
    size = 32 * 1024 * 1024 + 1
    reply = ask(daemon.port, "POST", CHAT, f"Content-Length: {size}", body=b"")
    assert (reply.status, reply.code) == (413, "request_too_large")
    assert "server.max_body_bytes" in reply.json["error"]["message"]


@pytest.mark.parametrize("by_length", [True, False], ids=["declared", "chunked"])
def test_3_body_size_at_its_limit(narrow: DaemonProcess, by_length: bool) -> None:
    for size, status in [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)]:
        body = HELLO.ljust(size)
        if by_length:
            reply = ask(narrow.port, "POST", CHAT, body=body)
        else:
            coded = chunked(body, 4096)
            reply = ask(narrow.port, "POST", CHAT, "Transfer-Encoding: chunked", body=coded)
        assert reply.status == status


def test_3_body_in_chunks_of_one_byte(daemon: DaemonProcess) -> None:
    coded = chunked(HELLO, 1)
    reply = ask(daemon.port, "POST", CHAT, "Transfer-Encoding: chunked", body=coded)
    assert reply.json["choices"]


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: 0x10"],
        ["Content-Length: " + "9" * 5000],
        ["Transfer-Encoding: gzip, chunked"],
        ["Bad Name: x"],
        ["X-Split: a\rX-Evil: 1"],
        ["X-Null: \0"],
    ],
    ids=lambda headers: str(headers)[:30],
)
def test_3_broken_heads(daemon: DaemonProcess, headers: list[str]) -> None:
    reply = ask(daemon.port, "POST", CHAT, *headers, body=b"" if "Co" in headers[0] else None)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert reply.headers["connection"] == "close"


def test_3_broken_chunks(daemon: DaemonProcess) -> None:
    reply = ask(daemon.port, "POST", CHAT, "Transfer-Encoding: chunked", body=b"zz\r\n")
    assert reply.status == 400


def test_3_expect_continue(daemon: DaemonProcess) -> None:
    host = f"127.0.0.1:{daemon.port}"
    expect = ("Expect: 100-continue", "Connection: close")
    data = exchange(daemon.port, request("POST", CHAT, *expect, host=host, body=HELLO))
    assert data.startswith(b"HTTP/1.1 100 ")
    assert replies(data, "POST")[0].status == 200
    # A body that will be refused is not asked for.
    refused = request("POST", CHAT, *expect, "Content-Length: 99999999", host=host, body=b"")
    assert exchange(daemon.port, refused).startswith(b"HTTP/1.1 413 ")


def test_3_http_1_0(daemon: DaemonProcess) -> None:
    assert ask(daemon.port, "POST", CHAT, body=HELLO, version="1.0").json["choices"]
    stream = HELLO[:-1] + b',"stream":true}'
    reply = ask(daemon.port, "POST", CHAT, body=stream, version="1.0")
    assert "transfer-encoding" not in reply.headers
    assert reply.body.endswith(b"data: [DONE]\n\n")


def test_3_pipelined_requests(daemon: DaemonProcess) -> None:
    host = f"127.0.0.1:{daemon.port}"
    data = (
        request("GET", "/version", host=host)
        + request("POST", CHAT, host=host, body=HELLO)
        + request("POST", CHAT, host=host, body=b"{")
        + request("HEAD", "/v1/models", host=host)
        + request("GET", "/healthz", "Connection: close", host=host)
    )
    found = replies(exchange(daemon.port, data), "GET", "POST", "POST", "HEAD", "GET")
    assert [reply.status for reply in found] == [200, 200, 400, 200, 200]
    assert found[1].json["choices"]
    assert found[4].json["status"] == "healthy"


@pytest.mark.parametrize(
    ("given", "is_echoed"),
    [
        ("abc-123", True),
        ('quo"te\\back', True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("gr\u00fc\u00df", False),
        ("", False),
    ],
)
def test_3_x_request_id(daemon: DaemonProcess, given: str, is_echoed: bool) -> None:
    for body in (HELLO, b"{"):
        reply = ask(daemon.port, "POST", CHAT, f"x-request-id: {given}", body=body)
        found = reply.headers["x-request-id"]
        assert (found == given) is is_echoed
        assert found.isascii()
        assert found in json.dumps(reply.json, ensure_ascii=False) or '"' in found
        assert is_echoed or len(found) == 36


def test_3_x_request_id_cannot_carry_a_header(daemon: DaemonProcess) -> None:
    # A folded line is one value; a bare CR is no header at all.
    folded = ask(daemon.port, "GET", "/healthz", "x-request-id: a\r\n X-Evil: 1")
    assert "x-evil" not in folded.headers
    assert ask(daemon.port, "GET", "/healthz", "x-request-id: a\rX-Evil: 1").status == 400


def test_3_x_request_id_is_in_the_log(daemon: DaemonProcess) -> None:
    ask(daemon.port, "POST", CHAT, "x-request-id: find-me-in-the-log", body=HELLO)
    (line,) = [line for line in daemon.log().splitlines() if "find-me-in-the-log" in line]
    assert "Hello" not in line


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing", CHAT])
def test_3_headers_of_every_reply(daemon: DaemonProcess, path: str) -> None:
    reply = ask(daemon.port, "GET", path)
    assert reply.headers["x-chatsafe-route"] == "local"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert len(reply.headers["x-request-id"]) == 36


def test_3_queue_full_queue_timeout_and_leaving_the_queue(narrow: DaemonProcess) -> None:
    waiting_chat = request("POST", CHAT, host=f"127.0.0.1:{narrow.port}", body=HELLO)
    with narrow.client.stream("POST", CHAT, json=endless_chat()) as running:
        lines = running.iter_lines()  # kept: the stream would be closed with it
        assert '"role":"assistant"' in next(lines)
        with socket.create_connection(("127.0.0.1", narrow.port)) as waiting:
            waiting.sendall(waiting_chat)
            wait_until(narrow, "waiting", 1)
            full = narrow.chat("Hello")
        wait_until(narrow, "waiting", 0)
        late = narrow.chat("Hello")
    for reply, code in [(full, "queue_full"), (late, "queue_timeout")]:
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, code)
        assert int(reply.headers["retry-after"]) >= 1
        assert int(reply.headers["retry-after-ms"]) >= 1000
        assert "x-should-retry" not in reply.headers
    assert narrow.chat("Hello", max_tokens=2).status_code == 200


def test_3_disconnect_of_a_buffered_request(narrow: DaemonProcess) -> None:
    body = json.dumps(endless_chat(stream=False)).encode()
    head = request("POST", CHAT, host=f"127.0.0.1:{narrow.port}", body=body)
    before = narrow.client.get("/metrics").json()["cancelled_requests"]
    with socket.create_connection(("127.0.0.1", narrow.port)) as leaving:
        leaving.sendall(head)
        wait_until(narrow, "running", 1)
    wait_until(narrow, "running", 0)
    assert narrow.client.get("/metrics").json()["cancelled_requests"] == before + 1


def test_3_connections_reset_at_any_moment_leave_nothing(narrow: DaemonProcess) -> None:
    host = f"127.0.0.1:{narrow.port}"
    whole = request("POST", CHAT, host=host, body=json.dumps(endless_chat()).encode())
    for length in range(0, 60):
        with socket.create_connection(("127.0.0.1", narrow.port)) as resetting:
            # Lingering for 0 s makes the end a reset instead of an orderly one.
            resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            resetting.sendall(whole[: len(whole) - length // 2 * 10])
    wait_until(narrow, "waiting", 0)
    wait_until(narrow, "running", 0)
    assert narrow.client.get("/metrics").json()["active_requests"] == 0
    assert "level=error" not in narrow.log()
    assert narrow.chat("Hello", max_tokens=2).status_code == 200


def test_3_what_was_refused_unread_does_not_disturb_the_next_request(daemon: DaemonProcess) -> None:
    host = f"127.0.0.1:{daemon.port}"
    coded = chunked(b"x" * 50_000, 1000)
    data = (
        request("POST", CHAT, "Content-Type: text/plain", host=host, body=b"x" * 100_000)
        + request("POST", "/nothing", "Transfer-Encoding: chunked", host=host, body=coded)
        + request("GET", "/healthz", host=host, body=HELLO)
        + request("POST", CHAT, "Connection: close", host=host, body=HELLO)
    )
    found = replies(exchange(daemon.port, data), "POST", "POST", "GET", "POST")
    assert [reply.status for reply in found] == [415, 404, 200, 200]


def test_4_keep_alive_0_takes_the_model_out_of_memory(narrow: DaemonProcess) -> None:
    assert narrow.chat("Hello", max_tokens=2, keep_alive=0).status_code == 200
    deadline = time.monotonic() + 10
    while narrow.client.get("/v1/status").json()["models"]:
        assert time.monotonic() < deadline
    assert narrow.chat("Hello", max_tokens=2).status_code == 200


def wait_until(daemon: DaemonProcess, what: str, number: int) -> None:
    """Ask until so many chats run or wait."""
    deadline = time.monotonic() + 10
    while daemon.client.get("/v1/status").json()["queue"][what] != number:
        assert time.monotonic() < deadline, f"{what} does not become {number}"


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"model": "nope"}, 404), ({"n": 99}, 400), ({"messages": [{}]}, 400)],
    ids=["model", "range", "message"],
)
def test_3_ordering_refusals_come_before_the_status(
    daemon: DaemonProcess, fields: dict[str, object], status: int
) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    reply = daemon.post({"messages": messages, "stream": True, **fields})
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"
