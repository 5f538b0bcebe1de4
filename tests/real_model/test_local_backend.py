"""The local backend on the real worker: the built-in model's answers, and a model that never ends.

The second is a tiny one with random weights whose end tokens are banned: what must be cancelled
or killed in mid-stream should not end by itself.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.config.gguf_writer import vocabulary, write_good

import chatsafe_guide_model
from chatsafe_common.chat import ChatRequest, Message, Sampling
from chatsafe_common.errors import ContextLengthExceeded, ModelBusy, WorkerDied
from chatsafe_common.events import ChatEvent, Finished, FinishReason, Started, TextDelta
from chatsafe_config.catalog import GUIDE_ID, Catalog
from chatsafe_config.registry import default_registry
from chatsafe_runtime.backend import LocalBackend, RuntimeOptions

GUIDE = Path(str(chatsafe_guide_model.__file__)).with_name("chatsafe-guide.gguf")
PATIENCE_S = 60.0
# Two threads that share their cores with somebody else's work mostly wait for each other.
ONE_THREAD = RuntimeOptions(threads=1)
ENDLESS = "endless"
NO_END = tuple((token, -100.0) for token in range(len(vocabulary()) - 3, len(vocabulary())))


@asynccontextmanager
async def local_backend(
    folder: Path, options: RuntimeOptions = ONE_THREAD
) -> AsyncIterator[LocalBackend]:
    write_good(folder / f"{ENDLESS}.gguf")
    catalog = Catalog(default_registry(), folder, GUIDE)
    async with (
        asyncio.timeout(PATIENCE_S),
        LocalBackend(catalog, options) as backend,
    ):
        yield backend


def chat(text: str, model: str = GUIDE_ID) -> ChatRequest:
    bias = NO_END if model == ENDLESS else ()
    return ChatRequest(
        request_id="r",
        messages=(Message("user", text),),
        model=model,
        sampling=Sampling(temperature=0.0, logit_bias=bias),
    )


async def ask(backend: LocalBackend, request: ChatRequest) -> tuple[str, Finished]:
    events: list[ChatEvent] = [event async for event in backend.generate(request)]
    assert isinstance(events[0], Started)
    end = events[-1]
    assert isinstance(end, Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), end


def test_a_greedy_answer_is_text_and_the_same_twice(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            text, end = await ask(backend, chat("Hello, how are you?"))
            assert len(text.split()) >= 3
            assert "<|" not in text
            assert end.reason is FinishReason.STOP
            assert end.usage.completion_tokens > 3
            assert end.timings.decode_s > 0
            again, _ = await ask(backend, chat("Hello, how are you?"))
            assert again == text

    asyncio.run(run())


def test_eight_at_once_all_finish_in_one_process(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            questions = [f"What is {number} + {number}?" for number in range(1, 9)]
            answers = await asyncio.gather(*(ask(backend, chat(text)) for text in questions))
            assert all(text for text, _ in answers)
            (status,) = backend.status()
            assert (status.num_running, status.num_waiting) == (0, 0)

    asyncio.run(run())


def test_leaving_frees_the_slot(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path, RuntimeOptions(threads=1, parallel=1)) as backend:
            async with aclosing(backend.generate(chat("Go on.", ENDLESS))) as stream:
                assert isinstance(await anext(stream), Started)
                assert isinstance(await anext(stream), TextDelta)
            # The only slot is free again, or this would wait behind the whole context window.
            text, end = await ask(backend, chat("Go on.", ENDLESS))
            assert text
            assert end.reason is FinishReason.LENGTH
            assert end.timings.queue_s < end.timings.decode_s

    asyncio.run(run())


def test_a_prompt_over_the_window_is_refused_with_both_numbers(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            with pytest.raises(ContextLengthExceeded) as caught:
                await ask(backend, chat("again " * 2000, ENDLESS))
            assert caught.value.details["n_ctx"] == 512
            assert await ask(backend, chat("short", ENDLESS))

    asyncio.run(run())


def test_kill_in_mid_stream_and_the_next_answer_works(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with local_backend(tmp_path) as backend:
            stream = backend.generate(chat("Go on.", ENDLESS))
            assert isinstance(await anext(stream), Started)
            (status,) = backend.status()
            assert status.process_id is not None
            os.kill(status.process_id, signal.SIGKILL)
            killed_at = loop.time()
            with pytest.raises(WorkerDied):
                async for _ in stream:
                    pass
            assert loop.time() - killed_at < 1.0
            text, _ = await ask(backend, chat("Go on.", ENDLESS))
            assert text

    asyncio.run(run())


def test_unload_ends_the_process_and_refuses_a_busy_model(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            async with aclosing(backend.generate(chat("Go on.", ENDLESS))) as stream:
                await anext(stream)
                with pytest.raises(ModelBusy):
                    await backend.unload(ENDLESS)
            (status,) = backend.status()
            await backend.unload(ENDLESS)
            assert backend.status() == []
            assert status.process_id is not None
            with pytest.raises(ProcessLookupError):
                os.kill(status.process_id, 0)

    asyncio.run(run())
