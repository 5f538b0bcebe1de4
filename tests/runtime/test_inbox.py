"""Waiting events are merged, stay in order and stay bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.errors import WorkerDied
from chatsafe_runtime.channel import Admitted, Delta, Done, FrameError, Refused
from chatsafe_runtime.inbox import MAX_WAITING_CHARS, Inbox

DONE = Done(1, "stop", 7, 3, 0, 0.0, 0.0, 0.0)


@given(st.lists(st.text(max_size=5), max_size=20), st.data())
def test_however_it_is_read_the_text_is_the_same(pieces: list[str], data: st.DataObject) -> None:
    async def run() -> None:
        inbox = Inbox()
        inbox.put(Admitted(1, 7))
        assert await inbox.get() == Admitted(1, 7)
        seen = ""
        for piece in pieces:
            inbox.put(Delta(1, piece))
            if data.draw(st.booleans()):
                seen += str(await inbox.get())
        inbox.put(DONE)
        while isinstance(news := await inbox.get(), str):
            seen += news
        assert news == DONE
        assert seen == "".join(pieces)

    asyncio.run(run())


def test_waiting_deltas_are_one_piece() -> None:
    async def run() -> None:
        inbox = Inbox()
        for word in ("a", "b", "c"):
            inbox.put(Delta(1, word))
        assert await inbox.get() == "abc"

    asyncio.run(run())


def test_a_reader_that_waits_is_woken() -> None:
    async def run() -> None:
        inbox = Inbox()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(inbox.get())
            await asyncio.sleep(0)
            assert not reader.done()
            inbox.put(Refused(1, "queue_timeout", "No."))
        assert reader.result() == Refused(1, "queue_timeout", "No.")

    asyncio.run(run())


def test_an_error_comes_after_the_text_and_only_once() -> None:
    async def run() -> None:
        inbox = Inbox()
        inbox.put(Delta(1, "half"))
        inbox.fail(WorkerDied("gone"))
        inbox.put(Delta(1, "late"))
        inbox.fail(WorkerDied("again"))
        assert await inbox.get() == "half"
        with pytest.raises(WorkerDied, match="gone"):
            await inbox.get()

    asyncio.run(run())


def test_a_flood_is_no_answer() -> None:
    inbox = Inbox()
    inbox.put(Delta(1, "x" * MAX_WAITING_CHARS))
    with pytest.raises(FrameError):
        inbox.put(Delta(1, "x"))


def test_repr_shows_no_text() -> None:
    inbox = Inbox()
    inbox.put(Delta(1, "canary"))
    assert repr(inbox) == "Inbox(6 chars waiting, open)"
