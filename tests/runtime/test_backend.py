"""The local backend over real worker processes that follow a script."""

import asyncio
import contextlib
import json
import os
import signal
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from tests.runtime.scripted import (
    ask,
    chat,
    is_alive,
    local_backend,
    open_descriptors,
    until,
    worker_id,
)

from chatsafe_common.chat import Sampling
from chatsafe_common.errors import (
    ContextLengthExceeded,
    ModelBusy,
    ModelLoadFailed,
    ModelNotFound,
    QueueFull,
    ShuttingDown,
    WorkerDied,
)
from chatsafe_common.events import Finished, FinishReason, Started, TextDelta, Timings, Usage
from chatsafe_runtime.backend import RuntimeOptions


def test_events_come_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            events = [event async for event in backend.generate(chat("say Hello there"))]
        assert events[0] == Started("first", 1)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Hellothere"
        assert events[-1] == Finished(
            FinishReason.STOP, Usage(7, 2, cached_tokens=2), Timings(0.25, 0.5, 1.0)
        )

    asyncio.run(run())


def test_the_request_is_laid_over_the_registry_over_the_api_defaults(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            request = msgspec.structs.replace(
                chat("submit"), sampling=Sampling(top_k=50), stop=("END",)
            )
            submit = json.loads(await ask(backend, request))
            assert submit["sampling"] | {"logit_bias": None} == {
                "temperature": 0.7,
                "top_p": 0.9,
                "top_k": 50,
                "min_p": 0.0,
                "typical_p": 1.0,
                "repeat_penalty": 1.15,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "seed": None,
                "logit_bias": None,
            }
            assert submit["max_tokens"] == 33
            assert submit["stop"] == ["END"]
            assert submit["queue_timeout_s"] == 30.0
            request = msgspec.structs.replace(request, max_tokens=512, clean_labels=True)
            submit = json.loads(await ask(backend, request))
            assert submit["max_tokens"] == 512
            assert submit["clean_labels"] is True

    asyncio.run(run())


def test_load_frame_follows_registry_and_options(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            first = json.loads(await ask(backend, "load"))
            second = json.loads(await ask(backend, chat("load", "second")))
        assert first["stop"] == ["</a>", "</b>", "</s>"]
        assert (first["gpu_layers"], first["threads"]) == (3, 2)
        assert (first["context_window"], first["max_parallel"]) == (256, 8)
        assert "A: " in first["template"]
        assert (second["gpu_layers"], second["threads"], second["template"]) == (-1, 0, None)
        # The registry says 4096, the file was made for 512.
        assert second["context_window"] == 512
        options = RuntimeOptions(context_window=128, threads=1, gpu_layers=0, parallel=2)
        async with local_backend(tmp_path, options=options) as backend:
            first = json.loads(await ask(backend, "load"))
        assert (first["gpu_layers"], first["threads"]) == (0, 1)
        assert (first["context_window"], first["max_parallel"]) == (128, 2)

    asyncio.run(run())


def test_cards_show_the_default_first_and_what_is_loaded(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await ask(backend, chat("say x", "second"))
            cards = await backend.models()
        assert [card.id for card in cards] == ["first", "second", "absent"]
        assert [card.is_default for card in cards] == [True, False, False]
        assert [card.available for card in cards] == [True, True, False]
        assert [card.loaded for card in cards] == [False, True, False]
        assert cards[0].license == "MIT"
        assert cards[0].quantization == "Q4_K_M"
        assert cards[0].created > 0
        assert cards[0].max_tokens == 33

    asyncio.run(run())


def test_unknown_and_absent_models_are_refused_with_the_way_out(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            with pytest.raises(ModelNotFound):
                await ask(backend, chat("say x", "nobody"))
            with pytest.raises(ModelLoadFailed) as caught:
                await ask(backend, chat("say x", "absent"))
        assert "absent.gguf" in caught.value.message
        assert "example/absent-gguf" in caught.value.message
        assert str(tmp_path) not in caught.value.message

    asyncio.run(run())


def test_refused_header_names_the_reason_and_no_path(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            file = tmp_path / "models" / "first.gguf"
            file.write_bytes(file.read_bytes()[:60])
            with pytest.raises(ModelLoadFailed) as caught:
                await ask(backend, chat("say x", "first"))
            assert "refused" in caught.value.message
            assert str(tmp_path) not in caught.value.message
            (status,) = backend.status()
            assert (status.state, status.process_id) == ("failed", None)
            file.unlink()
            assert backend.status() == []
            assert await ask(backend, chat("say still here", "second")) == "stillhere"

    asyncio.run(run())


def test_kill_in_mid_stream_ends_the_answer_and_the_next_one_works(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with local_backend(tmp_path) as backend:
            stream = backend.generate(chat("hold"))
            assert [type(await anext(stream)) for _ in range(2)] == [Started, TextDelta]
            first = worker_id(backend)
            killed_at = loop.time()
            os.kill(first, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await anext(stream)
            assert loop.time() - killed_at < 1.0
            assert await ask(backend, "say again") == "again"
            assert worker_id(backend) != first
            assert not is_alive(first)

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["abort", "exit", "garbage", "odd"])
def test_a_worker_that_breaks_ends_every_answer_with_worker_died(
    tmp_path: Path, fault: str
) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            with pytest.raises(WorkerDied):
                await ask(backend, fault)
            assert await ask(backend, "say again") == "again"

    asyncio.run(run())


def test_death_reaches_every_open_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            streams = [backend.generate(chat("hold")) for _ in range(4)]
            for stream in streams:
                await anext(stream)
                assert await anext(stream) == TextDelta("begun")
            os.kill(worker_id(backend), signal.SIGKILL)
            ends = await asyncio.gather(*map(anext, streams), return_exceptions=True)
            assert [type(end) for end in ends] == [WorkerDied] * 4

    asyncio.run(run())


def test_refusals_become_our_errors(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            with pytest.raises(ContextLengthExceeded) as too_long:
                await ask(backend, "refuse context_length_exceeded")
            assert too_long.value.details == {"n_prompt_tokens": 99, "n_ctx": 256}
            assert await ask(backend, "say fine") == "fine"

    asyncio.run(run())


def test_closing_the_stream_frees_the_place_and_tells_the_worker(tmp_path: Path) -> None:
    async def run() -> None:
        options = RuntimeOptions(parallel=1, queue_size=0)
        async with local_backend(tmp_path, options=options) as backend:
            stream = backend.generate(chat("tick"))
            async with aclosing(stream):
                assert await anext(stream) == Started("first", 1)
                with pytest.raises(QueueFull) as full:
                    await ask(backend, "say x")
                assert full.value.retry_after_s
            assert backend.status()[0].num_running == 0
            # Frames keep their order: the worker has seen the cancel before this.
            assert await ask(backend, "open") == "1"

    asyncio.run(run())


def test_a_cancelled_reader_frees_the_place(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await backend.load("first")
            reader = asyncio.timeout(0.05)
            with pytest.raises(TimeoutError):
                async with reader:
                    await ask(backend, "hold")
            assert backend.status()[0].num_running == 0
            assert await ask(backend, "open") == "1"

    asyncio.run(run())


def test_leaving_ends_open_chats_and_refuses_new_ones(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            stream = backend.generate(chat("hold"))
            assert [type(await anext(stream)) for _ in range(2)] == [Started, TextDelta]
        with pytest.raises(ShuttingDown):
            await anext(stream)
        with pytest.raises(ShuttingDown):
            await ask(backend, "say x")

    asyncio.run(run())


def test_unload_frees_the_process_and_refuses_a_busy_model(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await backend.load("first")
            process_id = worker_id(backend)
            stream = backend.generate(chat("hold"))
            await anext(stream)
            with pytest.raises(ModelBusy):
                await backend.unload("first")
            await stream.aclose()
            await backend.unload("first")
            assert not is_alive(process_id)
            assert backend.status() == []
            await backend.unload("first")
            with pytest.raises(ModelNotFound):
                await backend.unload("nobody")
            assert await ask(backend, "say again") == "again"

    asyncio.run(run())


def test_leaving_the_backend_stops_every_worker(tmp_path: Path) -> None:
    async def run() -> tuple[int, int]:
        async with local_backend(tmp_path) as backend:
            await backend.load("first")
            await backend.load("second")
            return worker_id(backend, "first"), worker_id(backend, "second")

    for process_id in asyncio.run(run()):
        assert not is_alive(process_id)


def test_twenty_lives_leave_no_child_and_no_descriptor(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open descriptors")

    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await ask(backend, chat("say x", keep_alive_s=0))
            await backend.unload("first")
            before = open_descriptors()
            for _ in range(10):
                await ask(backend, "say x")
                await backend.unload("first")
                with pytest.raises(WorkerDied):
                    await ask(backend, "abort")
                await backend.unload("first")
            # A closed transport gives its descriptor back in the loop's next turns.
            await until(lambda: open_descriptors() <= before)

    others = children()
    asyncio.run(run())
    assert children() == others


def children() -> set[int]:
    """Processes started by this one that are there, also those that nobody has waited for."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) == os.getpid():
                found.add(int(stat.parent.name))
    return found
