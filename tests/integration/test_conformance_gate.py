"""Section 3 of the API's conformance table, and the gate: who is let in, and how slowly.

Requests are bytes on the sockets of a real daemon, as no client library would send them.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess, environment, running_daemon
from tests.support.raw_http import ask, exchange, replies, request

CHAT = "/v1/chat/completions"
HELLO = b'{"messages":[{"role":"user","content":"Hello"}],"max_tokens":2}'
KEY = "a-key-for-this-test"
KEY_HEADER = f"Authorization: Bearer {KEY}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with a key, little patience, a name of its own and one page that may ask."""
    flags = ["--head-timeout-s", "0.5", "--body-timeout-s", "0.5", "--api-key", KEY]
    flags += ["--allowed-origins", "https://page.example", "--allowed-hosts", "box.example"]
    with running_daemon(tmp_path_factory.mktemp("guarded"), *flags) as running:
        yield running


@pytest.mark.parametrize("path", ["/healthz", "/health"])
def test_3_authentication_leaves_health_open(guarded: DaemonProcess, path: str) -> None:
    assert ask(guarded.port, "GET", path).status == 200


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
    guarded: DaemonProcess, headers: list[str]
) -> None:
    paths = ["/v1/models", "/v1/models/x", "/models", "/v1/status", "/version", "/metrics", "/no"]
    for method, path in [*[("GET", path) for path in paths], ("POST", CHAT)]:
        body = HELLO if method == "POST" else None
        reply = ask(guarded.port, method, path, *headers, body=body)
        assert (reply.status, reply.code) == (401, "invalid_api_key"), path
        assert reply.json["error"]["type"] == "authentication_error"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert KEY not in reply.body.decode()


@pytest.mark.parametrize("header", ["Authorization: Bearer", "authorization: bearer", "x-api-key:"])
def test_3_authentication_with_the_key(guarded: DaemonProcess, header: str) -> None:
    assert ask(guarded.port, "GET", "/v1/models", f"{header} {KEY}").status == 200


def test_3_authentication_off_accepts_any_value(daemon: DaemonProcess) -> None:
    for value in ("Bearer anything", "Basic eDp5", "x"):
        assert ask(daemon.port, "GET", "/v1/models", f"Authorization: {value}").status == 200


def test_3_admin_key_for_loading_and_unloading(guarded: DaemonProcess) -> None:
    body = b'{"model":"chatsafe-guide"}'
    secret = (guarded.home / "config" / "chatsafe" / "admin.key").read_text().strip()
    admin_key = f"Authorization: Bearer {secret}"
    for path in ("/v1/models/load", "/v1/models/unload"):
        assert ask(guarded.port, "POST", path, body=body).code == "invalid_api_key"
        refused = ask(guarded.port, "POST", path, KEY_HEADER, body=body)
        assert (refused.status, refused.code) == (403, "insufficient_scope")
        assert ask(guarded.port, "POST", path, admin_key, body=body).status == 200
        unknown = ask(guarded.port, "POST", path, admin_key, body=b'{"model":"nope"}')
        assert (unknown.status, unknown.code) == (404, "model_not_found")
        for broken, code in [
            (b"{", "invalid_json"),
            (b"[]", "invalid_type"),
            (b"{}", "missing_required_parameter"),
            (b'{"model":7}', "invalid_type"),
        ]:
            reply = ask(guarded.port, "POST", path, admin_key, body=broken)
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


def test_3_host_configured(guarded: DaemonProcess) -> None:
    for host, status in [("box.example", 200), ("BOX.example:80", 200), ("a.box.example", 403)]:
        assert ask(guarded.port, "GET", "/healthz", host=host).status == status


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


def test_3_origin_configured(guarded: DaemonProcess) -> None:
    page = "Origin: https://page.example"
    asked = "Access-Control-Request-Method: POST"
    private = "Access-Control-Request-Private-Network: true"
    preflight = ask(
        guarded.port, "OPTIONS", CHAT, page, asked, private, "Sec-Fetch-Site: cross-site"
    )
    assert preflight.status == 204
    reply = ask(guarded.port, "POST", CHAT, page, KEY_HEADER, body=HELLO)
    refusal = ask(guarded.port, "POST", CHAT, page, body=HELLO)
    assert (reply.status, refusal.status) == (200, 401)
    for found in (preflight, reply, refusal):
        assert found.headers["access-control-allow-origin"] == "https://page.example"
        assert found.headers["vary"].lower() == "origin"
        assert "access-control-allow-credentials" not in found.headers
        assert "access-control-allow-private-network" not in found.headers


def test_3_slow_head(guarded: DaemonProcess) -> None:
    data = exchange(guarded.port, b"GET /healthz HTTP/1.1\r\nHost: ")
    (reply,) = replies(data)
    assert (reply.status, reply.code) == (408, "request_timeout")
    assert reply.headers["connection"] == "close"


def test_3_silent_connection_is_closed(guarded: DaemonProcess) -> None:
    assert exchange(guarded.port, b"") == b""


def test_3_slow_body(guarded: DaemonProcess) -> None:
    half = request("POST", CHAT, KEY_HEADER, "Content-Length: 500", host="box.example", body=HELLO)
    (reply,) = replies(exchange(guarded.port, half), "POST")
    assert (reply.status, reply.code) == (408, "request_timeout")


@pytest.mark.parametrize("target", ["/healthz", "/" + "x" * 20_000])
def test_3_oversized_head(daemon: DaemonProcess, target: str) -> None:
    headers = [f"X-{number}: {'a' * 100}" for number in range(200)]
    reply = ask(daemon.port, "GET", target, *headers)
    assert (reply.status, reply.code) == (413, "request_too_large")


def test_3_rubbish_and_other_protocols(daemon: DaemonProcess) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"{}\r\n\r\n",
    ):
        (reply,) = replies(exchange(daemon.port, data))
        assert reply.status == 400
    assert ask(daemon.port, "GET", "/healthz").status == 200


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
        [Path(sys.executable).with_name("chatsafe-server"), "--port", "0", "--host", host, *flags],
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
