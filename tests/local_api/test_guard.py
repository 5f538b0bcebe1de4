"""The gate: who and what is let in, on every path, before any body is read."""

import asyncio

import pytest
from tests.support.asgi import ADMIN_KEY, PORT, Api, Client, Gate, Reply, scope

from chatsafe_common.testing import ScriptedBackend

PATHS = ["/healthz", "/v1/models", "/metrics", "/v1/chat/completions", "/nothing", "/version"]
JSON = ("content-type", "application/json")


def get(
    path: str = "/healthz", *headers: tuple[str, str], host: str = f"127.0.0.1:{PORT}"
) -> Reply:
    return asyncio.run(Api().ask("GET", path, headers=headers, host=host))


def code(reply: Reply) -> tuple[int, object]:
    return reply.status, reply.error["code"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8081",
        "localhost",
        "localhost:80",
        "127.0.0.1:8082",
        "localhost.:8081",
        "127.0.0.1.evil.example:8081",
        "127.1:8081",
        "user@127.0.0.1:8081",
        "[::1]",
        "192.0.2.7:8081",
    ],
)
def test_other_hosts_are_refused_everywhere(path: str, host: str) -> None:
    reply = get(path, host=host)
    assert code(reply) == (403, "forbidden_host")
    assert reply.error["type"] == "permission_error"


def test_two_hosts_are_refused() -> None:
    assert code(get("/healthz", ("host", "localhost:8081"))) == (403, "forbidden_host")


@pytest.mark.parametrize(
    "host", ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "LOCALHOST:8081"]
)
def test_loopback_hosts_are_allowed(host: str) -> None:
    assert get(host=host).status == 200


def test_configured_hosts() -> None:
    api = Api(allowed_hosts=("Box.lan", "fixed.lan:9000"))
    for host, status in [
        ("box.lan", 200),
        ("box.lan:8081", 200),
        ("fixed.lan:9000", 200),
        ("fixed.lan", 403),
        ("a.box.lan", 403),
    ]:
        assert asyncio.run(api.ask("GET", "/healthz", host=host)).status == status, host
    assert "server.allowed_hosts" in get(host="evil").error["message"]  # type: ignore[operator]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "http://localhost:3000")],
        [("origin", "https://127.0.0.1:8081")],
        [("origin", "http://127.0.0.1:8081"), ("origin", "https://evil.example")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("origin", "http://127.0.0.1:8081"), ("sec-fetch-site", "cross-site")],
    ],
)
def test_pages_of_other_origins_are_refused_everywhere(
    path: str, headers: list[tuple[str, str]]
) -> None:
    reply = get(path, *headers)
    assert code(reply) == (403, "forbidden_origin")
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_our_own_page_and_plain_clients_are_let_in() -> None:
    own = ("origin", "http://127.0.0.1:8081")
    for headers in (
        [],
        [own],
        [own, ("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "none")],
    ):
        reply = get("/healthz", *headers)
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers


def test_configured_origin_gets_cors_headers_also_with_errors() -> None:
    api = Api(allowed_origins=("http://page.example:3000",))
    headers = [("origin", "http://page.example:3000"), ("sec-fetch-site", "cross-site")]
    for path, status in (("/healthz", 200), ("/nothing", 404)):
        reply = asyncio.run(api.ask("GET", path, headers=headers))
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == "http://page.example:3000"
        assert reply.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in reply.headers


def test_preflight() -> None:
    asked = [
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-stainless-os"),
        ("access-control-request-private-network", "true"),
    ]
    api = Api(allowed_origins=("http://page.example",), api_key="k")
    granted = asyncio.run(
        api.ask(
            "OPTIONS", "/v1/chat/completions", headers=[("origin", "http://page.example"), *asked]
        )
    )
    assert granted.status == 204
    assert granted.headers["access-control-allow-headers"] == "content-type,x-stainless-os"
    assert "POST" in granted.headers["access-control-allow-methods"]
    assert "access-control-allow-private-network" not in granted.headers
    refused = asyncio.run(
        api.ask("OPTIONS", "/v1/chat/completions", headers=[("origin", "http://other"), *asked])
    )
    assert code(refused) == (403, "forbidden_origin")


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "text/plain")],
        [("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "multipart/form-data; boundary=x")],
        [("content-type", "application/jsonp")],
        [JSON, JSON],
        [JSON, ("content-encoding", "gzip")],
    ],
)
def test_other_media_types_are_refused(headers: list[tuple[str, str]]) -> None:
    reply = asyncio.run(Api().ask("POST", "/v1/chat/completions", body=b"{}", headers=headers))
    assert code(reply) == (415, "unsupported_media_type")


def test_a_body_without_a_type_is_refused_also_when_chunked() -> None:
    async def main() -> None:
        for header in (("content-length", "2"), ("transfer-encoding", "chunked")):
            caller = Client([b"{}"])
            asked = scope("POST", "/v1/chat/completions", [("host", f"127.0.0.1:{PORT}"), header])
            await Api().app(asked, caller.receive, caller.send)
            assert code(caller.reply) == (415, "unsupported_media_type")

    asyncio.run(main())


def test_json_with_parameters_is_let_in() -> None:
    reply = asyncio.run(
        Api().ask(
            "POST",
            "/v1/chat/completions",
            body=b'{"messages":[{"role":"user","content":"Hi"}]}',
            headers=[("content-type", "Application/JSON; charset=utf-8")],
        )
    )
    assert reply.status == 200


def test_declared_and_real_size_are_limited() -> None:
    api = Api(max_body_bytes=1000)
    declared = asyncio.run(api.ask("POST", "/v1/chat/completions", body=b" " * 1001))
    assert code(declared) == (413, "request_too_large")

    async def chunked() -> Reply:
        caller = Client([b" " * 600, b" " * 600])
        headers = [("host", f"127.0.0.1:{PORT}"), JSON, ("transfer-encoding", "chunked")]
        await api.app(scope("POST", "/v1/chat/completions", headers), caller.receive, caller.send)
        return caller.reply

    assert code(asyncio.run(chunked())) == (413, "request_too_large")
    assert api.backend.requests == []


def test_the_bodies_of_all_open_requests_are_limited_together() -> None:
    async def main() -> None:
        gate = Gate()
        api = Api(ScriptedBackend(gate=gate), max_body_bytes=1000)
        large = "x" * 800
        async with asyncio.TaskGroup() as tasks:
            open_chats = [tasks.create_task(api.chat(user=large)) for _ in range(4)]
            await gate.has_seen(4)
            assert code(await api.chat(user=large)) == (503, "service_unavailable")
            gate.set()
        assert [chat.result().status for chat in open_chats] == [200] * 4
        assert (await api.chat(user=large)).status == 200

    asyncio.run(main())


def test_a_slow_body_is_given_up() -> None:
    async def main() -> None:
        api = Api(body_timeout_s=0.01)
        caller = Client([])
        headers = [("host", f"127.0.0.1:{PORT}"), JSON, ("content-length", "5")]
        await api.app(scope("POST", "/v1/chat/completions", headers), caller.receive, caller.send)
        assert code(caller.reply) == (408, "request_timeout")
        assert caller.reply.headers["connection"] == "close"

    asyncio.run(main())


def test_a_large_head_is_refused() -> None:
    assert code(get("/healthz", ("x-pad", "x" * 17_000))) == (413, "request_too_large")
    assert get("/healthz", ("x-pad", "x" * 15_000)).status == 200


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/version", "/models", "/v1/status", "/no"]
)
def test_with_a_key_every_path_but_health_wants_it(path: str) -> None:
    api = Api(api_key="right key")
    for headers in ([], [("authorization", "Bearer wrong")], [("x-api-key", "")]):
        reply = asyncio.run(api.ask("GET", path, headers=headers))
        assert code(reply) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.error["type"] == "authentication_error"
    for headers in (
        [("authorization", "Bearer right key")],
        [("authorization", "bearer right key")],
        [("x-api-key", "right key")],
        [("authorization", f"Bearer {ADMIN_KEY}")],
    ):
        assert asyncio.run(api.ask("GET", path, headers=headers)).status in (200, 404)
    assert asyncio.run(api.ask("GET", "/healthz")).status == 200
    assert asyncio.run(api.ask("GET", "/health")).status == 200


def test_without_a_key_any_authorization_is_accepted() -> None:
    assert get("/v1/models", ("authorization", "Bearer whatever")).status == 200


def test_every_reply_carries_the_common_headers() -> None:
    for reply in (get(), get("/nothing"), get(host="evil")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["x-chatsafe-route"] == "local"
        assert reply.headers["x-chatsafe-privacy"] == "local"
        assert len(reply.headers["x-request-id"]) == 36


@pytest.mark.parametrize(
    ("given", "is_echoed"),
    [
        ("abc 123/=", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("tab\tx", False),
        ("é", False),
        ("", False),
    ],
)
def test_request_id_is_echoed_when_printable(given: str, is_echoed: bool) -> None:
    reply = get("/nothing", ("x-request-id", given))
    assert (reply.headers["x-request-id"] == given) is is_echoed
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("address", ["client", "server"])
def test_a_connection_without_addresses_has_been_reset(address: str) -> None:
    caller, api = Client([b"{}"]), Api()
    asked = scope("POST", "/v1/chat/completions", [("host", f"127.0.0.1:{PORT}"), JSON])
    asyncio.run(api.app({**asked, address: None}, caller.receive, caller.send))  # type: ignore[arg-type]
    assert caller.reply.parts == []
    assert api.metrics.num_by_code.total() == 0
