"""Addresses, and where text may go."""

import asyncio
import socket

import pytest
from tests.support.canned_server import CannedServer

from chatsafe_client.connection import Connection, is_this_machine
from chatsafe_common.errors import InvalidRequest, NotReachable, PeerFailed


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("http://localhost:1/v1", "http://localhost:1"),
        (" https://box.example/llm/v1/ ", "https://box.example/llm"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_addresses_as_people_type_them(given: str, address: str) -> None:
    assert Connection(given).address == address


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://",
        "ftp://x",
        "http://user:pw@x",
        "http://x/?key=1",
        "http://x:99999",
        "file:///x",
    ],
)
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(InvalidRequest):
        Connection(given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["192.0.2.77", "2001:db8::77", "example.com", "0.0.0.0", "localhost.example", ""]
)
def test_not_this_machine(host: str) -> None:
    assert not is_this_machine(host)


def test_no_proxy_reads_what_is_meant_for_this_machine(
    server: CannedServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server.reply("/version", {"version": "1"})

    async def get() -> bytes:
        async with Connection(url) as connection:
            return await connection.get("version")

    assert asyncio.run(get()) == b'{"version": "1"}'


def test_an_endless_reply_is_cut_off(
    server: CannedServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsafe_client.connection.MAX_REPLY_BYTES", 1000)
    server.reply("/metrics", b"x" * 2000)

    async def get() -> bytes:
        async with Connection(url) as connection:
            return await connection.get("metrics")

    with pytest.raises(PeerFailed, match="long"):
        asyncio.run(get())


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_of_something_else_is_called_that(
    server: CannedServer, url: str, status: int
) -> None:
    page = {"content-type": "text/html"}
    server.reply("/models", b"<html>Not found</html>", status=status, headers=page)

    async def get() -> bytes:
        async with Connection(url) as connection:
            return await connection.get("models")

    with pytest.raises(PeerFailed, match=f"does not speak this dialect .HTTP status {status}"):
        asyncio.run(get())


def test_a_look_does_not_wait_as_long_as_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsafe_client.connection.LOOK_TIMEOUT_S", 0.05)

    async def get(url: str) -> bytes:
        async with Connection(url) as connection:
            return await connection.get("v1/status")

    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(NotReachable, match="does not answer"):
            asyncio.run(get(url))


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(Connection("127.0.0.1:1", api_key="secret"))
