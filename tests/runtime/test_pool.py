"""Loading once, keeping warm, evicting, giving up."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.runtime.scripted import (
    PATIENCE_S,
    ask,
    chat,
    command,
    is_alive,
    local_backend,
    until,
    worker_id,
    write_models,
)

from chatsafe_common.chat import Message, Sampling
from chatsafe_common.errors import (
    InsufficientMemory,
    ModelLoadFailed,
    QueueFull,
    ShuttingDown,
    Unavailable,
)
from chatsafe_common.events import Started
from chatsafe_config.gguf import read_header
from chatsafe_runtime.backend import RuntimeOptions
from chatsafe_runtime.channel import Load, Submit
from chatsafe_runtime.generation import answer
from chatsafe_runtime.memory import MAX_SHARE, needed_bytes
from chatsafe_runtime.pool import Pool, PoolOptions
from chatsafe_runtime.restarts import MAX_CRASHES
from chatsafe_runtime.supervisor import Deadlines

NAMES = ("a", "b", "c")


@asynccontextmanager
async def pool(
    folder: Path, mode: str = "ok", options: PoolOptions | None = None
) -> AsyncIterator[Pool]:
    write_models(folder, *NAMES)
    async with (
        asyncio.timeout(PATIENCE_S),
        Pool(options or PoolOptions(), os.environ, command(mode)) as opened,
    ):
        yield opened


def frame(folder: Path, name: str) -> Load:
    return Load(str(folder / f"{name}.gguf"), 512, 8, 512, 1, 0, None)


async def say(opened: Pool, folder: Path, name: str, keep_alive_s: float | None = None) -> None:
    submit = Submit(0, (Message("user", "say x"),), Sampling(), None)
    async for _ in answer(opened, name, frame(folder, name), submit, keep_alive_s):
        pass


def test_concurrent_first_chats_share_one_load(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            assert await asyncio.gather(*(ask(backend, "load") for _ in range(6)))
            (status,) = backend.status()
            assert status.state == "ready"
            assert status.isolation == ("no network",)
            assert status.memory_bytes is None or status.memory_bytes > 0
            # One worker has counted them all: a second one would begin at one again.
            streams = [backend.generate(chat("hold")) for _ in range(3)]
            for stream in streams:
                await anext(stream)
            assert await ask(backend, "open") == "4"
            for stream in streams:
                await stream.aclose()

    asyncio.run(run())


def test_a_caller_who_leaves_during_the_load_costs_the_others_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend, asyncio.TaskGroup() as tasks:
            leaver = tasks.create_task(ask(backend, "say x"))
            stayer = tasks.create_task(ask(backend, "say y"))
            await until(lambda: bool(backend.status()))
            assert backend.status()[0].state == "loading"
            leaver.cancel()
            assert await stayer == "y"

    asyncio.run(run())


def test_chats_that_wait_for_a_load_count_as_waiting(tmp_path: Path) -> None:
    async def run() -> None:
        options = RuntimeOptions(parallel=1, queue_size=1)
        async with local_backend(tmp_path, options=options) as backend:
            async with asyncio.TaskGroup() as tasks:
                chats = [tasks.create_task(ask(backend, "say x")) for _ in range(2)]
                await until(lambda: sum(item.num_waiting for item in backend.status()) == 2)
                with pytest.raises(QueueFull):
                    await ask(backend, "say x")
            assert [task.result() for task in chats] == ["x", "x"]

    asyncio.run(run())


def test_keep_alive_zero_unloads_after_the_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await backend.load("first")
            process_id = worker_id(backend)
            stream = backend.generate(chat("hold"))
            await anext(stream)
            await ask(backend, chat("say x", keep_alive_s=0))
            # Another chat is open: the model stays until that one has ended.
            assert worker_id(backend) == process_id
            await stream.aclose()
            assert [status.state for status in backend.status()] == ["ready"]
            await ask(backend, chat("say x", keep_alive_s=0))
            assert backend.status() == []
            assert await ask(backend, "say y") == "y"
            assert not is_alive(process_id)

    asyncio.run(run())


def test_an_idle_model_leaves_memory_when_its_time_is_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with pool(tmp_path, options=PoolOptions(keep_alive_s=0.05)) as opened:
            await say(opened, tmp_path, "a")
            (status,) = opened.status()
            assert status.process_id is not None
            assert status.expires_in_s is not None
            await until(lambda: not opened.status())
            await opened.unload("a")
            assert not is_alive(status.process_id)

    asyncio.run(run())


def test_a_model_kept_for_good_has_no_timer(tmp_path: Path) -> None:
    async def run() -> None:
        async with pool(tmp_path, options=PoolOptions(keep_alive_s=0.01)) as opened:
            await say(opened, tmp_path, "a", keep_alive_s=-1)
            (status,) = opened.status()
            assert status.expires_in_s is None
            # A request that says nothing goes back to the setting.
            await say(opened, tmp_path, "a")
            assert opened.status()[0].expires_in_s is not None

    asyncio.run(run())


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, opened: Pool, folder: Path, num_models: float
) -> None:
    """Make the machine just large enough for so many models."""
    header = read_header(folder / "a.gguf")
    one = needed_bytes(header, 512) / MAX_SHARE + len(NAMES) * header.tensor_bytes

    def available() -> int:
        num_ready = sum(status.state == "ready" for status in opened.status())
        return int(one * (num_models - num_ready))

    monkeypatch.setattr("chatsafe_runtime.pool.available_bytes", available)


def test_the_longest_idle_model_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with pool(tmp_path) as opened:
            limit_memory(monkeypatch, opened, tmp_path, 2)
            for name in ("a", "b", "a", "c"):
                await say(opened, tmp_path, name)
            assert {status.id for status in opened.status()} == {"a", "c"}

    asyncio.run(run())


def test_a_model_in_use_is_never_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with pool(tmp_path) as opened:
            limit_memory(monkeypatch, opened, tmp_path, 1)
            submit = Submit(0, (Message("user", "hold"),), Sampling(), None)
            stream = answer(opened, "a", frame(tmp_path, "a"), submit, None)
            assert isinstance(await anext(stream), Started)
            with pytest.raises(InsufficientMemory) as caught:
                await say(opened, tmp_path, "b")
            assert set(caught.value.details) == {"needed_bytes", "free_bytes"}
            assert [status.state for status in opened.status()] == ["ready", "failed"]
            await stream.aclose()

    asyncio.run(run())


def test_crash_after_crash_is_given_up_until_asked_explicitly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsafe_runtime.restarts.FIRST_DELAY_S", 0.001)

    async def run() -> None:
        async with local_backend(tmp_path, "load-dies") as backend:
            for _ in range(MAX_CRASHES):
                with pytest.raises(ModelLoadFailed, match="SIGABRT"):
                    await ask(backend, "say x")
            (status,) = backend.status()
            assert status.state == "failed"
            assert status.error is not None
            assert "5 times within 10 minutes" in status.error
            with pytest.raises(ModelLoadFailed, match="chatsafe stop first"):
                await ask(backend, "say x")
            with pytest.raises(ModelLoadFailed, match="could not load"):
                await backend.load("first")
            await backend.unload("first")
            assert backend.status() == []

    asyncio.run(run())


def test_everyone_who_waits_learns_that_the_load_failed(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path, "load-fails") as backend:
            ends = await asyncio.gather(
                *(ask(backend, "say x") for _ in range(4)), return_exceptions=True
            )
            assert [type(end) for end in ends] == [ModelLoadFailed] * 4
            assert [status.state for status in backend.status()] == ["failed"]

    asyncio.run(run())


def test_a_load_that_hangs_ends_with_its_time_limit(tmp_path: Path) -> None:
    async def run() -> None:
        options = PoolOptions(deadlines=Deadlines(load_s=0.2))
        async with pool(tmp_path, "load-hangs", options) as opened:
            with pytest.raises(ModelLoadFailed, match="not loaded within"):
                await say(opened, tmp_path, "a")

    asyncio.run(run())


def test_unload_ends_a_load_that_nobody_waits_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with pool(tmp_path, "load-hangs") as opened, asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(loaded(opened, tmp_path))
            await until(lambda: any(item.process_id for item in opened.status()))
            process_id = opened.status()[0].process_id
            await opened.unload("a")
            assert type(await loading) is Unavailable
            assert not is_alive(process_id)

    asyncio.run(run())


async def loaded(opened: Pool, folder: Path) -> Unavailable | None:
    try:
        await opened.load("a", frame(folder, "a"))
    except Unavailable as error:
        return error
    return None


def test_a_stopped_before_it_began_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def run() -> None:
        async with pool(tmp_path) as opened:
            resident = opened._resident("a", frame(tmp_path, "a"))
            opened._start(resident, frame(tmp_path, "a"))
            await opened.unload("a")
            assert resident.phase == "absent"
            await say(opened, tmp_path, "a")

    asyncio.run(run())


def test_a_closed_pool_loads_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with pool(tmp_path) as opened:
            pass
        with pytest.raises(ShuttingDown):
            await opened.load("a", frame(tmp_path, "a"))
        with pytest.raises(ShuttingDown):
            await say(opened, tmp_path, "a")

    asyncio.run(run())
