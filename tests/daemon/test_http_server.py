"""The HTTP server on real sockets: slow clients, broken requests, full house, orderly end."""

import asyncio
import json

import pytest
from tests.support.asgi import Gate, Noticing
from tests.support.http_daemon import Connection, Running, running_server

from chatsafe_common.testing import ScriptedBackend
from chatsafe_daemon.http_server import ServerLimits

CHAT = b'{"messages":[{"role":"user","content":"Hi"}]}'
STREAM = b'{"stream":true,"messages":[{"role":"user","content":"Hi"}]}'
PATH = "/v1/chat/completions"


def error_code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


async def ask(running: Running, body: bytes = CHAT) -> tuple[int, bytes]:
    connection = await running.connect()
    connection.request("POST", PATH, body)
    reply = await connection.reply()
    await connection.close()
    return reply


def test_json_and_health_on_one_connection() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            for _ in range(2):
                connection.request("POST", PATH, CHAT)
                status, body = await connection.reply()
                assert status == 200
                assert json.loads(body)["choices"][0]["message"]["content"] == "Hello there."
                connection.request("GET", "/healthz")
                assert (await connection.reply())[0] == 200
            await connection.close()

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            connection.request("POST", PATH, CHAT)
            connection.request("GET", "/version")
            assert b"chat.completion" in (await connection.reply())[1]
            assert b"model_api" in (await connection.reply())[1]
            await connection.close()

    asyncio.run(main())


def test_head_has_no_body() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            connection.request("HEAD", "/version", b"", "connection: close")
            status, head = await connection.head()
            assert status == 200
            assert "content-length: 0" not in head
            assert await connection.rest() == b""
            await connection.close()

    asyncio.run(main())


def test_an_upgrade_to_websocket_is_a_plain_request() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            upgrade = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")
            connection.request("GET", "/healthz", b"", *upgrade)
            assert (await connection.reply())[0] == 200
            connection.request("GET", "/healthz", b"", *upgrade, "origin: http://evil.example")
            status, body = await connection.reply()
            assert (status, error_code(body)) == (403, "forbidden_origin")
            await connection.close()

    asyncio.run(main())


def test_half_a_head_is_closed_in_time_however_it_trickles() -> None:
    async def main() -> None:
        limits = ServerLimits(head_timeout_s=0.1)
        async with running_server(ScriptedBackend(), limits) as running:
            connection = await running.connect()

            async def trickle() -> None:
                connection.send(b"GET /healthz HTTP/1.1\r\nx-slow: ")
                while not connection.writer.is_closing():
                    connection.send(b"x")
                    await asyncio.sleep(0.01)

            async with asyncio.TaskGroup() as group:
                task = group.create_task(trickle())
                answer = await connection.rest()
                task.cancel()
            assert b"408 Request Timeout" in answer
            assert error_code(answer.split(b"\r\n\r\n")[1]) == "request_timeout"
            await connection.close()

    asyncio.run(main())


def test_silence_is_closed_in_time_without_a_word() -> None:
    async def main() -> None:
        limits = ServerLimits(head_timeout_s=0.05)
        async with running_server(ScriptedBackend(), limits) as running:
            connection = await running.connect()
            assert await connection.rest() == b""
            await connection.close()

    asyncio.run(main())


def test_second_head_of_a_connection_has_a_deadline_too() -> None:
    async def main() -> None:
        limits = ServerLimits(head_timeout_s=0.1)
        async with running_server(ScriptedBackend(), limits) as running:
            connection = await running.connect()
            connection.request("GET", "/healthz")
            assert (await connection.reply())[0] == 200
            connection.send(b"GET /he")
            assert b"408 Request Timeout" in await connection.rest()
            await connection.close()

    asyncio.run(main())


def test_idle_connection_is_closed_and_an_answer_may_take_longer_than_a_head() -> None:
    async def main() -> None:
        gate = Gate()
        limits = ServerLimits(head_timeout_s=0.02, body_timeout_s=0.02, idle_timeout_s=0.05)
        async with running_server(ScriptedBackend(gate=gate), limits) as running:
            connection = await running.connect()
            connection.request("POST", PATH, CHAT)
            await gate.has_seen(1)
            await asyncio.sleep(0.1)
            gate.set()
            assert (await connection.reply())[0] == 200
            assert await connection.rest() == b""
            await connection.close()

    asyncio.run(main())


def test_slow_body_gets_408_and_its_connection_closes() -> None:
    async def main() -> None:
        backend = ScriptedBackend()
        async with running_server(backend, body_timeout_s=0.05) as running:
            connection = await running.connect()
            connection.send(
                f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\n"
                "content-type: application/json\r\ncontent-length: 1000\r\n\r\n{".encode()
            )
            answer = await connection.rest()
            assert b" 408 " in answer
            assert error_code(answer.split(b"\r\n\r\n")[1]) == "request_timeout"
            assert backend.requests == []
            await connection.close()

    asyncio.run(main())


def test_slow_body_that_nobody_reads_is_closed_too() -> None:
    async def main() -> None:
        limits = ServerLimits(body_timeout_s=-0.9)  # the slack of 1 s leaves 0.1 s
        async with running_server(ScriptedBackend(), limits) as running:
            connection = await running.connect()
            connection.send(
                f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\n"
                "content-length: 1000\r\n\r\n{".encode()
            )
            assert b" 200 OK" in await connection.rest()
            await connection.close()

    asyncio.run(main())


def test_reader_that_takes_nothing_is_given_up_and_frees_its_slot() -> None:
    async def main() -> None:
        backend = Noticing(["x" * 300_000] * 300)
        limits = ServerLimits(read_timeout_s=0.1)
        async with running_server(backend, limits) as running:
            connection = await running.connect()
            connection.request("POST", PATH, STREAM)
            await backend.closed.wait()
            await connection.close()
        assert backend.num_open == 0
        assert running.metrics.num_cancelled == 1
        assert running.metrics.active_streams == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"rubbish\r\n\r\n", 400, "invalid_value"),
        (b"\x16\x03\x01\x02\x00", 400, "invalid_value"),
        (b"GET / HTTP/1.1\r\n\r\n", 403, "forbidden_host"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 403, "forbidden_host"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400, "invalid_value"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 20_000, 413, "request_too_large"),
    ],
)
def test_what_is_no_request_gets_an_error_object(data: bytes, status: int, code: str) -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            connection.send(data)
            head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"x-request-id: " in head
            assert error_code(body) == code
            await connection.close()
            assert (await ask(running))[0] == 200

    asyncio.run(main())


def test_whole_head_that_arrives_at_once_is_limited_too() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend()) as running:
            connection = await running.connect()
            connection.request("GET", "/healthz", b"", "x-pad: " + "x" * 40_000)
            status, body = await connection.reply()
            assert (status, error_code(body)) == (413, "request_too_large")
            await connection.close()

    asyncio.run(main())


def test_chunked_body_over_the_limit() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend(), max_body_bytes=2000) as running:
            connection = await running.connect()
            connection.send(
                f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\n"
                "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode()
                + b"400\r\n"
                + b" " * 1024
                + b"\r\n400\r\n"
                + b" " * 1024
                + b"\r\n"
            )
            status, body = await connection.reply()
            assert (status, error_code(body)) == (413, "request_too_large")
            await connection.close()

    asyncio.run(main())


def test_a_full_house_refuses_before_it_reads_and_recovers() -> None:
    async def main() -> None:
        async with running_server(ScriptedBackend(), ServerLimits(max_connections=2)) as running:
            held = [await running.connect() for _ in range(2)]
            for connection in held:
                connection.request("GET", "/healthz")
                assert (await connection.reply())[0] == 200
            refused = await running.connect()
            status, body = await refused.reply()
            assert (status, error_code(body)) == (503, "service_unavailable")
            assert await refused.rest() == b""
            await refused.close()
            held[1].request("GET", "/healthz", b"", "connection: close")
            await held[1].rest()
            assert (await ask(running))[0] == 200
            for connection in held:
                await connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_hanging_up_cancels(body: bytes) -> None:
    async def main() -> None:
        gate = Gate()
        backend = Noticing(gate=gate)
        async with running_server(backend) as running:
            connection = await running.connect()
            connection.request("POST", PATH, body)
            await gate.has_seen(1)
            connection.writer.transport.abort()
            await backend.closed.wait()
            gate.set()
            assert (await ask(running))[0] == 200
            assert running.metrics.num_cancelled == 1

    asyncio.run(main())


def test_draining_lets_running_answers_finish() -> None:
    async def main() -> None:
        gate = Gate()

        async def open_when_closed(idle: Connection) -> None:
            # Idle connections close at the beginning of the end, so draining has begun.
            assert await idle.rest() == b""
            gate.set()

        async with asyncio.TaskGroup() as group:
            async with running_server(ScriptedBackend(gate=gate)) as running:
                idle, busy = await running.connect(), await running.connect()
                idle.request("GET", "/healthz")
                assert (await idle.reply())[0] == 200
                busy.request("POST", PATH, STREAM)
                await gate.has_seen(1)
                group.create_task(open_when_closed(idle))
            assert b"[DONE]" in await busy.rest()
            with pytest.raises(ConnectionError):
                await running.connect()
        await busy.close()
        await idle.close()

    asyncio.run(main())


def test_after_the_grace_time_streams_end_with_an_error() -> None:
    async def main() -> None:
        gate = Gate()
        backend = ScriptedBackend(gate=gate)
        async with running_server(backend, ServerLimits(shutdown_grace_s=0.05)) as running:
            streamed, buffered = await running.connect(), await running.connect()
            streamed.request("POST", PATH, STREAM)
            buffered.request("POST", PATH, CHAT)
            await gate.has_seen(2)
        ended = await streamed.rest()
        assert b'"code":"shutting_down"' in ended
        assert b"[DONE]" not in ended
        assert (await buffered.reply())[0] == 503
        assert backend.num_open == 0
        await streamed.close()
        await buffered.close()

    asyncio.run(main())


def test_a_cut_ends_the_grace_time() -> None:
    async def main() -> None:
        gate = Gate()
        async with running_server(ScriptedBackend(gate=gate)) as running:
            connection = await running.connect()
            connection.request("POST", PATH, STREAM)
            await gate.has_seen(1)
            running.shutdown.cut()
        assert b'"code":"shutting_down"' in await connection.rest()
        await connection.close()

    asyncio.run(main())


def test_two_hundred_idle_streams_all_finish() -> None:
    async def main() -> None:
        gate = Gate()
        async with running_server(ScriptedBackend(gate=gate)) as running:
            connections: list[Connection] = []
            for _ in range(200):
                connection = await running.connect()
                connection.request("POST", PATH, STREAM)
                connections.append(connection)
            await gate.has_seen(200)
            gate.set()
            for connection in connections:
                await connection.reader.readuntil(b"data: [DONE]\n\n")
                await connection.close()

    asyncio.run(main())
