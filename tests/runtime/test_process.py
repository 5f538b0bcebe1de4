"""A child process is told little, says how it ended and is always reaped."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.runtime.scripted import PATIENCE_S, command, is_alive

from chatsafe_common.errors import ModelLoadFailed
from chatsafe_runtime.channel import Load, encode
from chatsafe_runtime.process import Process, start_process, worker_environment

LOAD = Load("/no/model.gguf", 512, 8, 512, 1, 0, None)


@asynccontextmanager
async def process(mode: str = "ok") -> AsyncIterator[Process]:
    """A scripted worker that has its signal handlers, which is when it answers Load."""
    async with asyncio.timeout(PATIENCE_S), start_process(command(mode), os.environ) as started:
        started.writer.write(encode(LOAD))
        assert await started.reader.read(1)
        yield started


@asynccontextmanager
async def python(program: str) -> AsyncIterator[Process]:
    async with (
        asyncio.timeout(PATIENCE_S),
        start_process([sys.executable, "-c", program], os.environ) as started,
    ):
        yield started


def test_environment_holds_what_an_engine_needs_and_no_keys() -> None:
    environ = {
        "PATH": "/bin",
        "LANG": "C",
        "LC_ALL": "C",
        "HOME": "/home/x",
        "OMP_NUM_THREADS": "2",
        "GGML_X": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "CHATSAFE_SERVER_API_KEY": "secret",
        "OPENAI_API_KEY": "secret",
        "SSH_AUTH_SOCK": "/s",
        "PYTHONSTARTUP": "/x",
    }
    assert worker_environment(environ) == {"OMP_WAIT_POLICY": "PASSIVE"} | {
        name: value
        for name, value in environ.items()
        if name in ("PATH", "LANG", "LC_ALL", "HOME", "OMP_NUM_THREADS", "GGML_X")
        or name.startswith("CUDA")
    }


def test_the_user_has_the_last_word_on_the_engine() -> None:
    assert worker_environment({"OMP_WAIT_POLICY": "ACTIVE"}) == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_a_program_that_does_not_exist_is_a_failed_load() -> None:
    async def run() -> None:
        with pytest.raises(ModelLoadFailed, match="could not be started"):
            async with start_process(["/no/such/program"], os.environ):
                pass

    asyncio.run(run())


def test_a_stubborn_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsafe_runtime.process.STOP_S", 0.2)

    async def run() -> None:
        async with process("stubborn") as started:
            assert is_alive(started.id)
        assert not is_alive(started.id)

    asyncio.run(run())


def test_a_stopped_process_is_killed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsafe_runtime.process.STOP_S", 0.2)

    async def run() -> None:
        async with process() as started:
            os.kill(started.id, signal.SIGSTOP)
        assert not is_alive(started.id)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("raise SystemExit(3)", "ended with status 3"),
        ("import os; os.abort()", "crashed (SIGABRT)"),
        ("import os; os.kill(os.getpid(), 9)", "killed by the system (SIGKILL)"),
        ("import os; os.kill(os.getpid(), 40)", "crashed (signal 40)"),
    ],
)
def test_the_fate_of_a_process_in_words(end: str, words: str) -> None:
    async def run() -> None:
        async with python(end) as started:
            assert await started.reader.read() == b""
            assert words in await started.fate()

    asyncio.run(run())


def test_one_that_only_closes_its_socket_is_still_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatsafe_runtime.process.EXIT_STATUS_S", 0.05)

    async def run() -> None:
        program = "import os, signal, sys; os.close(int(sys.argv[1])); signal.pause()"
        async with python(program) as started:
            assert await started.reader.read() == b""
            assert await started.fate() == "stopped answering"
        assert not is_alive(started.id)

    asyncio.run(run())


def test_only_the_socket_is_inherited() -> None:
    async def run() -> None:
        program = (
            "import os, sys\n"
            "own = int(sys.argv[1])\n"
            "others = set(range(3, 256)) - {own}\n"
            "found = [fd for fd in others if os.path.exists(f'/dev/fd/{fd}')]\n"
            "os.write(own, b'none' if not found else b'more')\n"
        )
        secret, other = os.pipe()
        try:
            async with python(program) as started:
                assert await started.reader.read() == b"none"
        finally:
            os.close(secret)
            os.close(other)

    asyncio.run(run())
