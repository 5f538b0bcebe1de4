"""What a Daemon asks for, what it makes of the reply, and to whom it sends the admin key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from tests.support.canned_server import CannedServer

from chatsafe_client.connection import Connection
from chatsafe_client.daemon import Daemon, Health, Metrics
from chatsafe_common.errors import Forbidden, ModelBusy, PeerFailed

T = TypeVar("T")


def ask(url: str, call: Callable[[Daemon], Awaitable[T]], admin_key: str = "") -> T:
    async def run() -> T:
        async with Connection(url, api_key="chat-key") as connection:
            return await call(Daemon(connection, admin_key=admin_key))

    return asyncio.run(run())


def test_health_and_metrics(server: CannedServer, url: str) -> None:
    health = {"status": "healthy", "model_loaded": True, "version": "1", "uptime_seconds": 2.5}
    server.reply("/healthz", health | {"new": 1})
    assert ask(url, Daemon.health) == Health("healthy", True, "1", 2.5)
    counts = {
        "total_requests": 1,
        "active_requests": 2,
        "total_errors": 3,
        "total_prompt_tokens": 4,
        "total_completion_tokens": 5,
        "avg_tokens_per_second": 6,
    }
    server.reply("/metrics", counts | {"p50_first_token_ms": 9})
    assert ask(url, Daemon.metrics) == Metrics(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("body", [b"", b"<html>", [], {"status": 7}, b'"\xff"'])
def test_another_program_answers(server: CannedServer, url: str, body: Any) -> None:
    for path in ("/healthz", "/v1/status", "/models"):
        server.reply(path, body)
    for call in (Daemon.health, Daemon.status, Daemon.models):
        with pytest.raises(PeerFailed):
            ask(url, call)


def test_the_admin_key_opens_load_and_unload(server: CannedServer, url: str) -> None:
    for path, call in (("/v1/models/load", Daemon.load), ("/v1/models/unload", Daemon.unload)):
        server.reply(path, {})
        ask(url, lambda daemon, call=call: call(daemon, "m"), admin_key="admin")  # type: ignore[misc]
        method, asked, headers, body = server.requests[-1]
        assert (method, asked, body) == ("POST", path, b'{"model":"m"}')
        assert headers["authorization"] == "Bearer admin"
        assert headers["content-type"] == "application/json"


def test_a_refusal_keeps_its_class(server: CannedServer, url: str) -> None:
    refusal = {"error": {"code": "model_busy", "message": "busy"}}
    server.reply("/v1/models/unload", refusal, status=409)
    with pytest.raises(ModelBusy):
        ask(url, lambda daemon: daemon.unload("m"), admin_key="admin")


def test_without_a_key_nothing_is_asked(server: CannedServer, url: str) -> None:
    with pytest.raises(Forbidden, match="no admin key"):
        ask(url, lambda daemon: daemon.load("m"))
    assert server.requests == []


def test_the_admin_key_does_not_leave_this_machine() -> None:
    with pytest.raises(Forbidden, match="another computer"):
        ask("http://192.0.2.1:8081", lambda daemon: daemon.load("m"), admin_key="admin")


def test_repr_hides_the_key() -> None:
    assert "admin" not in repr(Daemon(Connection("127.0.0.1:1"), admin_key="admin"))
