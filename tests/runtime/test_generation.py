"""How the worker's last word on a chat becomes an event or an error."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.runtime.scripted import ask, chat, local_backend

from chatsafe_common.errors import (
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    QueueTimeout,
    UnsupportedParameter,
    WorkerDied,
)
from chatsafe_common.events import Finished, Started
from chatsafe_runtime.backend import RuntimeOptions
from chatsafe_runtime.channel import Done, Refused
from chatsafe_runtime.generation import finished, refusal
from chatsafe_runtime.supervisor import MAX_REASON_CHARS


def test_refusals_keep_their_code_and_message() -> None:
    error = refusal(Refused(1, "unsupported_parameter", "No."), 512, 3.0)
    assert type(error) is UnsupportedParameter
    assert error.message == "No."
    assert error.retry_after_s is None


def test_a_refusal_that_may_pass_says_when_to_come_back() -> None:
    error = refusal(Refused(1, "queue_timeout", "No slot came free."), 512, 3.0)
    assert type(error) is QueueTimeout
    assert error.retry_after_s == 3.0


def test_too_long_names_both_numbers() -> None:
    error = refusal(Refused(1, "context_length_exceeded", "", 600), 512, 3.0)
    assert type(error) is ContextLengthExceeded
    assert "600" in error.message
    assert "512" in error.message


def test_a_code_we_do_not_know_is_our_fault_and_a_message_has_a_length() -> None:
    error = refusal(Refused(1, "made_up", "x" * 10_000), 512, 3.0)
    assert type(error) is InternalError
    assert len(error.message) == MAX_REASON_CHARS


def test_a_reason_that_does_not_exist() -> None:
    with pytest.raises(WorkerDied):
        finished(Done(1, "because", 1, 1, 0, 0.0, 0.0, 0.0))


def test_the_place_is_free_before_the_last_event_is_read(tmp_path: Path) -> None:
    async def run() -> None:
        options = RuntimeOptions(parallel=1, queue_size=0)
        async with (
            local_backend(tmp_path, options=options) as backend,
            aclosing(backend.generate(chat("say one"))) as stream,
        ):
            async for event in stream:
                if isinstance(event, Finished):
                    break
            assert await ask(backend, "say two") == "two"

    asyncio.run(run())


def test_a_slow_reader_holds_nobody_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            async with aclosing(backend.generate(chat("say a b c d"))) as slow:
                assert isinstance(await anext(slow), Started)
                assert await ask(backend, "say fast") == "fast"
                rest = [event async for event in slow]
            # What waited has become one piece.
            assert len(rest) == 2

    asyncio.run(run())


def test_a_chat_that_fits_no_frame_is_refused_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with local_backend(tmp_path) as backend:
            await ask(backend, "say x")
            with pytest.raises(InvalidRequest, match="too long"):
                await ask(backend, "say " + "x" * (34 * 1024 * 1024))
            assert await ask(backend, "say fine") == "fine"

    asyncio.run(run())
