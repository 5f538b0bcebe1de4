"""Start in order, run until told to stop, stop in reverse."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

from chatsafe_daemon.http_server import HttpServer, ServerLimits
from chatsafe_daemon.log import report_loop_trouble
from chatsafe_local_api.app import Application
from chatsafe_local_api.shutdown import Shutdown


async def run_services(
    backend: AbstractAsyncContextManager[object],
    app: Application,
    listeners: Sequence[socket.socket],
    limits: ServerLimits,
    shutdown: Shutdown,
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. A second signal ends running answers at once.

    `on_ready` is called when connections are accepted.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(report_loop_trouble)
    with _signals(stop, shutdown):
        # The server stands inside the backend: it drains while models still answer.
        async with backend, HttpServer(app, listeners, limits, shutdown):
            on_ready()
            await stop.wait()


@contextmanager
def _signals(stop: asyncio.Event, shutdown: Shutdown) -> Iterator[None]:
    """Within the context, a first signal sets `stop` and a second one cuts."""
    loop = asyncio.get_running_loop()

    def received() -> None:
        if stop.is_set():
            shutdown.cut()
        stop.set()

    # signal.signal instead of the loop's own handlers, because Windows has only this one.
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
