"""What the answers of one request have brought, in order of arrival, and what ends the wait.

One request may have several answers (`n`), a client that leaves and a daemon that stops; all of
them meet here, so that the code that replies waits in one place. Bounded: when the client reads
slowly, the answers wait, and nobody else's do.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

from starlette.types import Receive

from chatsafe_common.backend import EventStream
from chatsafe_common.errors import ChatSafeError, InternalError
from chatsafe_common.events import ChatEvent, Finished
from chatsafe_local_api.boundary import ClientLeft
from chatsafe_local_api.shutdown import Shutdown, leaving

MAX_WAITING = 32

_logger = logging.getLogger("chatsafe.api")

Arrival = tuple[int, ChatEvent]


class Inbox:
    """A bounded queue of (choice, event) that ends with an error."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._items: deque[Arrival] = deque()
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._end: Exception | None = None

    def __repr__(self) -> str:
        return f"Inbox({len(self._items)} waiting)"

    async def put(self, index: int, event: ChatEvent) -> None:
        """Waits for room. After the end, events are dropped: whoever puts is being stopped."""
        while len(self._items) >= self._max_waiting and self._end is None:
            self._has_room.clear()
            await self._has_room.wait()
        if self._end is None:
            self._items.append((index, event))
            self._arrived.set()

    def end(self, error: Exception) -> None:
        """What `take` raises after what has arrived; the first error counts.

        That a client left is raised at once: nobody is there for what has arrived.
        """
        self._end = self._end or error
        self._arrived.set()

    async def take(self) -> list[Arrival]:
        """All that has arrived, at least one event. Raises what ended the wait."""
        while not self._items or isinstance(self._end, ClientLeft):
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        items = list(self._items)
        self._items.clear()
        self._has_room.set()
        return items


@asynccontextmanager
async def open_inbox(
    streams: Sequence[EventStream], receive: Receive, shutdown: Shutdown
) -> AsyncGenerator[Inbox, None]:
    """Runs `streams` into one inbox; leaving the context closes them all.

    `receive` is read until the client leaves, so the body must have been read before.
    """
    inbox = Inbox()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_pump(index, stream, inbox)) for index, stream in enumerate(streams)
        ]
        tasks.append(group.create_task(_watch_client(receive, inbox)))
        try:
            with shutdown.on_cut(lambda: inbox.end(leaving())):
                yield inbox
        except Exception as error:
            # Raised inside, the group would wrap it into an ExceptionGroup.
            failure = error
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure


async def _pump(index: int, stream: EventStream, inbox: Inbox) -> None:
    event: ChatEvent | None = None
    try:
        async with aclosing(stream):
            async for event in stream:
                await inbox.put(index, event)
    except ChatSafeError as error:
        inbox.end(error)
    except Exception as error:
        _logger.error("generation_failed", exc_info=error)
        inbox.end(InternalError("Something broke inside ChatSafe. The log has a line about it."))
    else:
        if not isinstance(event, Finished):
            inbox.end(InternalError("The answer is incomplete: its end never came. Ask again."))


async def _watch_client(receive: Receive, inbox: Inbox) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    inbox.end(ClientLeft())
