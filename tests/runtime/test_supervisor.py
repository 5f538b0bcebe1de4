"""One worker process and all the ways it can go wrong."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.runtime.scripted import PATIENCE_S, command, is_alive

from chatsafe_common.chat import Message, Sampling
from chatsafe_common.errors import ModelLoadFailed, Timeout, WorkerDied
from chatsafe_runtime.channel import Admitted, Load, Submit
from chatsafe_runtime.inbox import Inbox
from chatsafe_runtime.process import MAX_OUTPUT_BYTES
from chatsafe_runtime.supervisor import Deadlines, Worker, start_worker

LOAD = Load("/no/model.gguf", 512, 8, 512, 1, 0, None)


def submit(text: str) -> Submit:
    return Submit(0, (Message("user", text),), Sampling(), None)


@asynccontextmanager
async def worker(mode: str = "ok", deadlines: Deadlines | None = None) -> AsyncIterator[Worker]:
    async with (
        asyncio.timeout(PATIENCE_S),
        start_worker(command(mode), os.environ, deadlines or Deadlines()) as started,
    ):
        yield started


def test_load_says_what_the_worker_says() -> None:
    async def run() -> None:
        async with worker() as started:
            ready = await started.load(LOAD)
            assert (ready.context_window, ready.max_parallel) == (512, 8)
            assert is_alive(started.process_id)
        assert not is_alive(started.process_id)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("load-fails", "does not know this kind"),
        ("load-dies", "SIGABRT"),
        ("load-hangs", "not loaded within 0.3 s"),
        ("load-garbage", "over the limit"),
    ],
)
def test_a_load_that_fails_says_why_and_leaves_no_process(mode: str, reason: str) -> None:
    async def run() -> None:
        limit_s = 0.3 if mode == "load-hangs" else PATIENCE_S
        async with worker(mode, Deadlines(load_s=limit_s)) as started:
            with pytest.raises(ModelLoadFailed, match=reason):
                await started.load(LOAD)
        assert not is_alive(started.process_id)

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["abort", "exit", "garbage", "flood"])
def test_death_and_nonsense_end_every_sequence(fault: str) -> None:
    async def run() -> None:
        async with worker() as started:
            await started.load(LOAD)
            other, faulty = Inbox(), Inbox()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(ending(started))
                started.submit(submit("hold"), other)
                assert isinstance(await other.get(), Admitted)
                assert await other.get() == "begun"
                started.submit(submit(fault), faulty)
                with pytest.raises(WorkerDied):
                    await other.get()
            assert type(serving.result()) is WorkerDied
            assert not started.is_open
        assert not is_alive(started.process_id)

    asyncio.run(run())


async def ending(started: Worker) -> Exception:
    """What ends a worker's service."""
    try:
        await started.serve()
    except (WorkerDied, Timeout) as error:
        return error


@pytest.mark.parametrize(
    ("what", "deadlines"),
    [
        ("hold", Deadlines(stall_s=0.1, prefill_s=PATIENCE_S)),
        ("silent", Deadlines(stall_s=PATIENCE_S, prefill_s=0.1)),
    ],
)
def test_a_worker_that_makes_no_progress_is_given_up(what: str, deadlines: Deadlines) -> None:
    async def run() -> None:
        async with worker(deadlines=deadlines) as started:
            await started.load(LOAD)
            inbox = Inbox()
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(ending(started))
                started.submit(submit(what), inbox)
                error = await serving
            assert type(error) is Timeout
            assert "no progress for 0.1 s" in error.message
            if what == "hold":
                assert isinstance(await inbox.get(), Admitted)
                assert await inbox.get() == "begun"
            with pytest.raises(Timeout):
                await inbox.get()
        assert not is_alive(started.process_id)

    asyncio.run(run())


def test_newcomers_do_not_keep_a_hanging_worker_alive() -> None:
    async def run() -> None:
        deadlines = Deadlines(stall_s=0.1, prefill_s=0.1)
        async with worker(deadlines=deadlines) as started:
            await started.load(LOAD)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(ending(started))
                while started.is_open:
                    started.submit(submit("silent"), Inbox())
                    await asyncio.sleep(0.02)
            assert type(serving.result()) is Timeout

    asyncio.run(run())


def test_an_idle_or_busy_worker_is_left_alone() -> None:
    async def run() -> None:
        deadlines = Deadlines(stall_s=0.15, prefill_s=0.15)
        async with worker(deadlines=deadlines) as started:
            await started.load(LOAD)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(ending(started))
                inbox = Inbox()
                seq = started.submit(submit("tick"), inbox)
                until = asyncio.get_running_loop().time() + 0.3
                while asyncio.get_running_loop().time() < until:
                    await inbox.get()
                started.cancel(seq)
                ended, _ = await asyncio.wait({serving}, timeout=0.3)
                assert not ended
                assert started.is_open
                serving.cancel()

    asyncio.run(run())


def test_output_is_drained_bounded_and_kept_from_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(text: str | None) -> None:
        async with worker("chatty") as started:
            # More than a pipe holds: a worker whose output nobody read would never be ready.
            await started.load(LOAD)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(ending(started))
                if text is not None:
                    inbox = Inbox()
                    started.submit(submit(text), inbox)
                    assert isinstance(await inbox.get(), Admitted)
                serving.cancel()

    with caplog.at_level(logging.INFO):
        asyncio.run(run(None))
    assert "canary" not in caplog.text
    with caplog.at_level(logging.DEBUG):
        asyncio.run(run(None))
    assert "canary-output" in caplog.text
    assert len(caplog.text) < 2 * MAX_OUTPUT_BYTES
    caplog.clear()
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        asyncio.run(run("exit"))
    assert "canary" not in caplog.text
    with caplog.at_level(logging.DEBUG):
        asyncio.run(run("say x"))
    assert "canary" not in caplog.text


def test_the_folder_of_the_daemon_is_not_on_the_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    async def run() -> None:
        program = [sys.executable, "-P", "-c", "import msgspec, sys; sys.stderr.write('fine')"]
        async with start_worker(program, os.environ, Deadlines()) as started:
            with pytest.raises(ModelLoadFailed, match="status 0"):
                await started.load(LOAD)

    asyncio.run(run())
