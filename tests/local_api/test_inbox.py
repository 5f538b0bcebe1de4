"""The inbox: order, bounds, and what ends the wait."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message, Receive

from chatsafe_common.backend import EventStream
from chatsafe_common.chat import ChatRequest
from chatsafe_common.errors import ChatSafeError, QueueFull, ShuttingDown
from chatsafe_common.events import Started, TextDelta
from chatsafe_common.testing import ScriptedBackend
from chatsafe_local_api.boundary import ClientLeft
from chatsafe_local_api.inbox import Arrival, Inbox, open_inbox
from chatsafe_local_api.shutdown import Shutdown


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def left() -> Message:
    return {"type": "http.disconnect"}


def stream(backend: ScriptedBackend) -> EventStream:
    return backend.generate(ChatRequest("r", ()))


async def use(events: EventStream, receive: Receive) -> None:
    """Take until something ends it."""
    async with open_inbox([events], receive, Shutdown()) as inbox:
        while True:
            await inbox.take()


async def drain(inbox: Inbox) -> list[Arrival]:
    found: list[Arrival] = []
    while True:
        try:
            found += await inbox.take()
        except ChatSafeError:
            return found


def test_each_stream_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        backends = [ScriptedBackend([f"{name}{i}" for i in range(100)]) for name in "ab"]
        streams: Sequence[EventStream] = [stream(backend) for backend in backends]
        texts: dict[int, list[str]] = {0: [], 1: []}
        async with asyncio.timeout(5), open_inbox(streams, never, Shutdown()) as inbox:
            while len(texts[0]) + len(texts[1]) < 200:
                for index, event in await inbox.take():
                    if isinstance(event, TextDelta):
                        texts[index].append(event.text)
        assert texts == {0: list(backends[0].pieces), 1: list(backends[1].pieces)}
        assert [backend.num_open for backend in backends] == [0, 0]

    asyncio.run(main())


def test_a_full_inbox_makes_its_own_answer_wait() -> None:
    async def main() -> None:
        inbox = Inbox(max_waiting=2)
        event = TextDelta("x")
        await inbox.put(0, event)
        await inbox.put(0, event)
        async with asyncio.TaskGroup() as group:
            third = group.create_task(inbox.put(0, event))
            await asyncio.sleep(0)
            assert not third.done()
            assert len(await inbox.take()) == 2
        assert len(await inbox.take()) == 1

    asyncio.run(main())


def test_text_before_an_error_still_arrives() -> None:
    async def main() -> None:
        backend = ScriptedBackend(error=QueueFull("x"), error_after=2)
        async with open_inbox([stream(backend)], never, Shutdown()) as inbox:
            found = await drain(inbox)
        assert [type(event) for _, event in found] == [Started, TextDelta, TextDelta]

    asyncio.run(main())


def test_a_client_that_left_is_told_at_once() -> None:
    async def main() -> None:
        inbox = Inbox()
        await inbox.put(0, TextDelta("x"))
        inbox.end(ClientLeft())
        await inbox.put(0, TextDelta("dropped"))
        with pytest.raises(ClientLeft):
            await inbox.take()
        backend = ScriptedBackend(gate=asyncio.Event())
        with pytest.raises(ClientLeft):
            await use(stream(backend), left)
        assert backend.num_open == 0

    asyncio.run(main())


def test_a_cut_ends_the_wait_also_when_it_came_before() -> None:
    async def main() -> None:
        shutdown = Shutdown()
        shutdown.cut()
        with pytest.raises(ShuttingDown):
            async with open_inbox([], never, shutdown) as inbox:
                await inbox.take()

    asyncio.run(main())


def test_errors_raised_inside_come_out_as_themselves() -> None:
    async def break_inside(events: EventStream) -> None:
        async with open_inbox([events], never, Shutdown()) as inbox:
            await inbox.take()
            raise ZeroDivisionError

    async def main() -> None:
        backend = ScriptedBackend(gate=asyncio.Event())
        with pytest.raises(ZeroDivisionError):
            await break_inside(stream(backend))
        assert backend.num_open == 0

    asyncio.run(main())
