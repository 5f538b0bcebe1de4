"""Order of start and stop, and what signals do."""

import asyncio
import os
import signal
from types import TracebackType
from typing import Self

import pytest
from tests.support.asgi import Gate
from tests.support.http_daemon import Connection

from chatsafe_common.testing import ScriptedBackend
from chatsafe_daemon.http_server import ServerLimits
from chatsafe_daemon.listeners import bind
from chatsafe_daemon.services import run_services
from chatsafe_local_api.app import create_app
from chatsafe_local_api.metrics import Metrics
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown


class Service(ScriptedBackend):
    """A backend that starts and stops."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate=gate)
        self.steps: list[str] = []

    async def __aenter__(self) -> Self:
        self.steps.append("started")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.steps.append(f"stopped with {self.num_open} open")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_running_answers_and_the_backend_stops_last(
    number: signal.Signals,
) -> None:
    async def main() -> None:
        gate = Gate()
        service = Service(gate)
        shutdown = Shutdown()
        ready = asyncio.Event()
        (listener,) = bind("127.0.0.1", 0, only_loopback=True)
        port = listener.getsockname()[1]
        app = create_app(
            service, service, ApiOptions(version="1", admin_key="a"), Metrics(), shutdown
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(
                run_services(service, app, [listener], ServerLimits(), shutdown, on_ready=ready.set)
            )
            await ready.wait()
            service.steps.append("ready")
            connection = Connection(port, *await asyncio.open_connection("127.0.0.1", port))
            idle = Connection(port, *await asyncio.open_connection("127.0.0.1", port))
            connection.request(
                "POST",
                "/v1/chat/completions",
                b'{"stream":true,"messages":[{"role":"user","content":"Hi"}]}',
            )
            await gate.has_seen(1)
            os.kill(os.getpid(), number)
            assert await idle.rest() == b""
            assert service.num_open == 1
            os.kill(os.getpid(), number)
            assert b"shutting_down" in await connection.rest()
        assert service.steps == ["started", "ready", "stopped with 0 open"]
        await connection.close()
        await idle.close()

    before = signal.getsignal(number)
    asyncio.run(main())
    assert signal.getsignal(number) is before
