"""Sections 2 and 3 of the API's conformance table, and the gate, on the sockets of a real daemon.

Tests are named after the rows; requests are bytes where a client library would not send them.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.daemon import DaemonProcess, environment, running_daemon
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
KEY = "a-key-for-this-test"
MAX_BODY_BYTES = 65536


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with a key, small limits, one slot, no queue and one page that may ask."""
    flags = {
        "--head-timeout-s": "0.5",
        "--body-timeout-s": "0.5",
        "--max-body-bytes": str(MAX_BODY_BYTES),
        "--api-key": KEY,
        "--allowed-origins": "https://page.example",
        "--allowed-hosts": "box.example",
        "--parallel": "1",
        "--queue-size": "0",
    }
    home = tmp_path_factory.mktemp("strict")
    with running_daemon(home, *[word for pair in flags.items() for word in pair]) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        yield running


def admin_headers(daemon: DaemonProcess) -> dict[str, str]:
    key = (daemon.home / "config" / "chatsafe" / "admin.key").read_text().strip()
    return {"authorization": f"Bearer {key}"}


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
def test_3_body_size_at_its_limit(strict: DaemonProcess, by_length: bool) -> None:
    key = f"Authorization: Bearer {KEY}"
    for size, status in [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)]:
        body = HELLO.ljust(size)
        if by_length:
            reply = ask(strict.port, "POST", CHAT, key, body=body)
        else:
            coded = chunked(body, 4096)
            reply = ask(
                strict.port, "POST", CHAT, key, "Transfer-Encoding: chunked", body=coded
            )
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


@pytest.mark.parametrize("path", ["/healthz", "/health"])
def test_3_authentication_leaves_health_open(strict: DaemonProcess, path: str) -> None:
    assert ask(strict.port, "GET", path).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization: Bearer wrong"],
        ["Authorization: Bearer"],
        [f"Authorization: Basic {KEY}"],
        [f"Authorization: Bearer {KEY}x"],
        [f"Authorization: {KEY}"],
        ["x-api-key: wrong"],
        [f"Cookie: key={KEY}"],
    ],
    ids=str,
)
def test_3_authentication_closes_every_other_route(
    strict: DaemonProcess, headers: list[str]
) -> None:
    paths = [path for path in GET_PATHS if "health" not in path]
    for method, path in [*[("GET", path) for path in paths], ("POST", CHAT), ("GET", "/nothing")]:
        body = HELLO if method == "POST" else None
        reply = ask(strict.port, method, path, *headers, body=body)
        assert (reply.status, reply.code) == (401, "invalid_api_key"), path
        assert reply.json["error"]["type"] == "authentication_error"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert KEY not in reply.body.decode()


@pytest.mark.parametrize("header", ["Authorization: Bearer", "authorization: bearer", "x-api-key:"])
def test_3_authentication_with_the_key(strict: DaemonProcess, header: str) -> None:
    assert ask(strict.port, "GET", "/v1/models", f"{header} {KEY}").status == 200


def test_3_authentication_off_accepts_any_value(daemon: DaemonProcess) -> None:
    for value in ("Bearer anything", "Basic eDp5", "x"):
        assert ask(daemon.port, "GET", "/v1/models", f"Authorization: {value}").status == 200


def test_3_admin_key_for_loading_and_unloading(strict: DaemonProcess) -> None:
    body = b'{"model":"chatsafe-guide"}'
    chat_key = f"Authorization: Bearer {KEY}"
    admin_key = f"Authorization: {admin_headers(strict)['authorization']}"
    for path in ("/v1/models/load", "/v1/models/unload"):
        assert ask(strict.port, "POST", path, body=body).code == "invalid_api_key"
        refused = ask(strict.port, "POST", path, chat_key, body=body)
        assert (refused.status, refused.code) == (403, "insufficient_scope")
        assert ask(strict.port, "POST", path, admin_key, body=body).status == 200
        unknown = ask(strict.port, "POST", path, admin_key, body=b'{"model":"nope"}')
        assert (unknown.status, unknown.code) == (404, "model_not_found")
        for broken, code in [
            (b"{", "invalid_json"),
            (b"[]", "invalid_type"),
            (b"{}", "missing_required_parameter"),
            (b'{"model":7}', "invalid_type"),
        ]:
            reply = ask(strict.port, "POST", path, admin_key, body=broken)
            assert (reply.status, reply.code) == (400, code)


def test_3_admin_routes_are_closed_without_any_key_set(daemon: DaemonProcess) -> None:
    for path in ("/v1/models/load", "/v1/models/unload"):
        reply = ask(daemon.port, "POST", path, body=b'{"model":"chatsafe-guide"}')
        assert (reply.status, reply.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.1:{port}",
        "user@127.0.0.1:{port}",
        "0.0.0.0:{port}",
        "",
        None,
    ],
)
def test_3_host_not_allowed(daemon: DaemonProcess, host: str | None, path: str) -> None:
    name = host and host.format(port=daemon.port)
    reply = ask(daemon.port, "GET", path, host=name)
    assert (reply.status, reply.code) == (403, "forbidden_host")
    assert reply.json["error"]["type"] == "permission_error"


def test_3_host_names_the_setting(daemon: DaemonProcess) -> None:
    reply = ask(daemon.port, "GET", "/healthz", host="evil.example")
    assert "server.allowed_hosts" in reply.json["error"]["message"]


def test_3_host_twice(daemon: DaemonProcess) -> None:
    reply = ask(daemon.port, "GET", "/healthz", f"Host: 127.0.0.1:{daemon.port}")
    assert (reply.status, reply.code) == (403, "forbidden_host")


def test_3_host_is_not_taken_from_the_target(daemon: DaemonProcess) -> None:
    target = f"http://127.0.0.1:{daemon.port}/healthz"
    assert ask(daemon.port, "GET", target, host="evil.example").code == "forbidden_host"


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}"])
def test_3_host_allowed(daemon: DaemonProcess, host: str) -> None:
    assert ask(daemon.port, "GET", "/healthz", host=host.format(port=daemon.port)).status == 200


def test_3_host_configured(strict: DaemonProcess) -> None:
    for host, status in [("box.example", 200), ("BOX.example:80", 200), ("a.box.example", 403)]:
        assert ask(strict.port, "GET", "/healthz", host=host).status == status


@pytest.mark.parametrize(
    "header",
    [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost:3000",
        "Origin: ",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
def test_3_origin_not_allowed(daemon: DaemonProcess, header: str) -> None:
    asked = "Access-Control-Request-Method: POST"
    private = "Access-Control-Request-Private-Network: true"
    for method, path in [("GET", "/v1/models"), ("POST", CHAT), ("OPTIONS", CHAT)]:
        body = HELLO if method == "POST" else None
        reply = ask(daemon.port, method, path, header, asked, private, body=body)
        assert (reply.status, reply.code) == (403, "forbidden_origin")
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_3_origin_of_our_own_and_typed_addresses(daemon: DaemonProcess) -> None:
    own = f"Origin: http://127.0.0.1:{daemon.port}"
    for header in (own, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"):
        reply = ask(daemon.port, "GET", "/v1/models", header)
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers


def test_3_origin_configured(strict: DaemonProcess) -> None:
    page = "Origin: https://page.example"
    asked = "Access-Control-Request-Method: POST"
    private = "Access-Control-Request-Private-Network: true"
    preflight = ask(strict.port, "OPTIONS", CHAT, page, asked, private, "Sec-Fetch-Site: cross-site")
    assert preflight.status == 204
    reply = ask(strict.port, "POST", CHAT, page, f"Authorization: Bearer {KEY}", body=HELLO)
    refusal = ask(strict.port, "POST", CHAT, page, body=HELLO)
    assert (reply.status, refusal.status) == (200, 401)
    for found in (preflight, reply, refusal):
        assert found.headers["access-control-allow-origin"] == "https://page.example"
        assert found.headers["vary"].lower() == "origin"
        assert "access-control-allow-credentials" not in found.headers
        assert "access-control-allow-private-network" not in found.headers


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


def test_3_retry_after_when_full_and_the_slot_comes_back(strict: DaemonProcess) -> None:
    with strict.client.stream("POST", CHAT, json=endless_chat()) as running:
        assert '"role":"assistant"' in next(running.iter_lines())
        reply = strict.chat("Hello")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert int(reply.headers["retry-after-ms"]) >= 1000
        assert "x-should-retry" not in reply.headers
    assert strict.chat("Hello", max_tokens=2).status_code == 200


def test_3_disconnect_of_a_buffered_request(strict: DaemonProcess) -> None:
    body = json.dumps(endless_chat(stream=False)).encode()
    head = request("POST", CHAT, f"Authorization: Bearer {KEY}", host="box.example", body=body)
    before = strict.client.get("/metrics").json()["cancelled_requests"]
    with socket.create_connection(("127.0.0.1", strict.port)) as leaving:
        leaving.sendall(head)
        while strict.client.get("/metrics").json()["active_requests"] == 0:
            pass
    while strict.client.get("/metrics").json()["active_requests"]:
        pass
    assert strict.client.get("/metrics").json()["cancelled_requests"] == before + 1
    assert strict.chat("Hello", max_tokens=2).status_code == 200


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


def test_3_slow_head(strict: DaemonProcess) -> None:
    data = exchange(strict.port, b"GET /healthz HTTP/1.1\r\nHost: ")
    (reply,) = replies(data)
    assert (reply.status, reply.code) == (408, "request_timeout")
    assert reply.headers["connection"] == "close"


def test_3_silent_connection_is_closed(strict: DaemonProcess) -> None:
    assert exchange(strict.port, b"") == b""


def test_3_slow_body(strict: DaemonProcess) -> None:
    key = f"Authorization: Bearer {KEY}"
    half = request("POST", CHAT, key, "Content-Length: 500", host="box.example", body=HELLO)
    (reply,) = replies(exchange(strict.port, half), "POST")
    assert (reply.status, reply.code) == (408, "request_timeout")


@pytest.mark.parametrize("target", ["/healthz", "/" + "x" * 20_000])
def test_3_oversized_head(daemon: DaemonProcess, target: str) -> None:
    headers = [f"X-{number}: {'a' * 100}" for number in range(200)]
    reply = ask(daemon.port, "GET", target, *headers)
    assert (reply.status, reply.code) == (413, "request_too_large")


def test_3_rubbish_and_other_protocols(daemon: DaemonProcess) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET /\r\n\r\n", b"\r\n\r\n\r\n", b"{}\r\n\r\n"):
        (reply,) = replies(exchange(daemon.port, data))
        assert reply.status == 400
    with httpx.Client() as client:
        assert client.get(f"{daemon.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ([], ["server.allow_remote", "server.api_key"]),
        (["--allow-remote"], ["server.api_key"]),
        (["--api-key", KEY], ["server.allow_remote"]),
    ],
    ids=["neither", "no key", "no switch"],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_3_other_machines_need_a_switch_and_a_key(
    tmp_path: Path, host: str, flags: list[str], missing: list[str]
) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("chatsafe-server")), "--port", "0", "--host", host]
        + flags,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    for name in missing:
        assert name in done.stderr
    assert KEY not in done.stderr
