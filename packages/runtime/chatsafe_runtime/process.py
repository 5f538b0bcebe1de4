"""One child process with one socket to it: start, how it ended, stop, leave nothing behind."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from chatsafe_common.errors import ModelLoadFailed

# What a worker is told of our environment: where things are, the language, and the switches of
# the engine and of GPU drivers. Keys and settings of ours (CHATSAFE_*) and everything else stay.
PASSED_NAMES = frozenset({"PATH", "LANG", "HOME", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"})
PASSED_PREFIXES = (
    "LC_", "OMP_", "GGML_", "LLAMA_", "CUDA", "NVIDIA_", "HIP", "HSA_", "ROC", "VK", "DYLD_",
)  # fmt: skip
# Engine threads that find nothing to do sleep instead of spinning, unless the user says otherwise.
# Spinning collapses as soon as another program wants a core: a 15 MB model on two busy cores made
# 70 to 200 tokens/s with two spinning threads, 880 with two that sleep.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
MAX_OUTPUT_BYTES = 4096
STOP_S = 2.0
# A process whose socket is closed is ending; its exit status comes within moments.
EXIT_STATUS_S = 1.0


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets: a part of `environ`, and our defaults for the engine."""
    return DEFAULTS | {
        name: value
        for name, value in environ.items()
        if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }


class _Watch(asyncio.SubprocessProtocol):
    """Keeps the end of what the process wrote to its error output, and knows when it is gone."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data
        del self.output[:-MAX_OUTPUT_BYTES]

    def process_exited(self) -> None:
        self.exited.set()


class Process:
    """A running child; `reader` and `writer` are our end of its socket."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        watch: _Watch,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.id = transport.get_pid()
        self.reader = reader
        self.writer = writer
        self._transport = transport
        self._watch = watch

    def __repr__(self) -> str:
        return f"Process({self.id}, {'ended' if self._watch.exited.is_set() else 'running'})"

    def last_output(self) -> str:
        """The end of its error output, at most 4 KiB."""
        return self._watch.output.decode("utf-8", "replace")

    async def fate(self) -> str:
        """How it ended, in words; for one that has closed its socket already."""
        try:
            async with asyncio.timeout(EXIT_STATUS_S):
                await self._watch.exited.wait()
        except TimeoutError:
            return "stopped answering"
        code = self._transport.get_returncode() or 0
        if code >= 0:
            return f"ended with status {code}"
        name = next((item.name for item in signal.Signals if item == -code), f"signal {-code}")
        if -code == signal.SIGKILL:
            return f"was killed by the system ({name}), most likely for want of memory"
        return f"crashed ({name})"

    async def stop(self) -> None:
        """Close the socket, then SIGTERM, 2 s, SIGKILL; returns when it is reaped."""
        try:
            self.writer.transport.abort()
            if not self._watch.exited.is_set():
                self._signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(STOP_S):
                        await self._watch.exited.wait()
                except TimeoutError:
                    self._signal(signal.SIGKILL)
                    await self._watch.exited.wait()
        finally:
            self._transport.close()  # kills what is left, closes the pipe

    def _signal(self, number: signal.Signals) -> None:
        try:
            self._transport.send_signal(number)
        except ProcessLookupError:
            return  # it went by itself; the wait that follows notices


@asynccontextmanager
async def start_process(
    command: Sequence[str], environ: Mapping[str, str]
) -> AsyncIterator[Process]:
    """Start `command` with the descriptor of its socket appended; stopped on the way out.

    Raises ModelLoadFailed when the system starts no process.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        transport, watch = await loop.subprocess_exec(
            _Watch,
            *command,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=worker_environment(environ),
            process_group=0,  # Ctrl-C in the daemon's terminal is for the daemon, which drains
        )
    except OSError as error:
        ours.close()
        raise ModelLoadFailed(
            f"The engine's process could not be started: {error.strerror}."
        ) from error
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        reader, writer = await asyncio.open_connection(sock=ours)
    except BaseException:
        ours.close()
        transport.close()
        raise
    process = Process(transport, watch, reader, writer)
    try:
        yield process
    finally:
        await process.stop()
