"""One worker process, from its start to its end: spawn, load, watch, stop, leave nothing behind.

When to start one again is decided by `restarts.py`, for whom by `pool.py`. The rule here: whatever
happens to the process, every open sequence hears of it at once, and when `start_worker` is left,
the process is reaped and its descriptors are closed.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, assert_never

import msgspec

from chatsafe_common.errors import ChatSafeError, ModelLoadFailed, Timeout, WorkerDied
from chatsafe_runtime.channel import (
    Admitted,
    Cancel,
    Delta,
    Done,
    Events,
    FrameError,
    Load,
    LoadFailed,
    Ready,
    Refused,
    Submit,
    ToDaemon,
    ToWorker,
    daemon_reader,
    encode,
)
from chatsafe_runtime.inbox import Inbox

log = logging.getLogger(__name__)

# `-P` keeps the folder that the daemon was started in off the worker's import path: a file
# `msgspec.py` lying there must not run. The descriptor of the socket is appended.
WORKER_COMMAND = (sys.executable, "-P", "-m", "chatsafe_runtime.worker.main")
# What a worker is told of our environment: where things are, the language, and the switches of
# the engine and of GPU drivers. Keys and settings of ours (CHATSAFE_*) and everything else stay.
PASSED_NAMES = frozenset({"PATH", "LANG", "HOME", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"})
PASSED_PREFIXES = (
    "LC_", "OMP_", "GGML_", "LLAMA_", "CUDA", "NVIDIA_", "HIP", "HSA_", "ROC", "VK", "DYLD_",
)  # fmt: skip
MAX_OUTPUT_BYTES = 4096
READ_BYTES = 256 * 1024
STOP_S = 2.0
# A process whose socket is closed is ending; its exit status comes within moments.
EXIT_STATUS_S = 1.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a worker may be silent, in seconds."""

    load_s: float = 120.0
    stall_s: float = 30.0
    prefill_s: float = 120.0


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that a worker gets."""
    return {
        name: value
        for name, value in environ.items()
        if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }


class _Process(asyncio.SubprocessProtocol):
    """Keeps the end of what the process wrote to its error output, and knows when it is gone."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data
        del self.output[:-MAX_OUTPUT_BYTES]

    def process_exited(self) -> None:
        self.exited.set()


class Worker:
    """The daemon's end of one worker. Made by `start_worker`; `load` first, then `serve`."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        process: _Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        deadlines: Deadlines,
    ) -> None:
        self.process_id = transport.get_pid()
        self.is_open = True
        self._transport = transport
        self._process = process
        self._reader = reader
        self._writer = writer
        self._deadlines = deadlines
        self._frame_reader = daemon_reader()
        self._frames: deque[ToDaemon] = deque()
        self._inboxes: dict[int, Inbox] = {}
        self._last_seq = 0
        self._was_asked = False
        self._alarm: asyncio.Timeout | None = None
        # The watchdog's state: since when the worker owes us a frame, whether the step that it
        # owes reads prompt tokens, and the sequences it has said nothing of yet (that step may
        # read theirs).
        self._quiet_since = 0.0
        self._is_prefilling = False
        self._unheard: set[int] = set()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"Worker({self.process_id}, {state}, {len(self._inboxes)} sequences)"

    async def load(self, load: Load) -> Ready:
        """Have the model loaded. Raises ModelLoadFailed."""
        self._send(load)
        try:
            async with asyncio.timeout(self._deadlines.load_s):
                frame = await self._receive()
        except TimeoutError:
            raise ModelLoadFailed(
                f"The model was not loaded within {self._deadlines.load_s:g} s. Use a smaller "
                "model, or allow more time (setting runtime.load_timeout_s)."
            ) from None
        except (EOFError, FrameError):
            raise ModelLoadFailed(
                f"The engine could not load this model file: its process {await self._fate()}. "
                "The file may be damaged or of a kind this engine does not know; get it again "
                "or use another one."
            ) from None
        match frame:
            case Ready():
                return frame
            case LoadFailed(reason=reason):
                raise ModelLoadFailed(f"The engine cannot serve this model: {reason[:500]}")
            case Events():
                raise ModelLoadFailed("The engine's process did not follow the protocol.")
            case _:
                assert_never(frame)

    async def serve(self) -> NoReturn:
        """Hand out the worker's events for as long as it lives; never returns.

        Raises WorkerDied or Timeout, which is what the open sequences got too.
        """
        error: ChatSafeError = WorkerDied(
            "The model's process ended in the middle of an answer. Ask again: the next request "
            "starts a new one."
        )
        try:
            async with asyncio.timeout(None) as self._alarm:
                while True:
                    frame = await self._receive()
                    if not isinstance(frame, Events):
                        raise FrameError("a second answer to Load")
                    self._deliver(frame)
        except TimeoutError:
            error = Timeout(
                f"The model made no progress for {self._limit_s():g} s, so this answer was given "
                "up. Ask again: the next request starts the model anew."
            )
        except (EOFError, FrameError) as fault:
            log.warning("worker %d ended: %s", self.process_id, type(fault).__name__)
        self.close(error)
        raise error

    def submit(self, submit: Submit, inbox: Inbox) -> int:
        """Have one chat answered into `inbox`; returns the sequence's id (that of `submit` is
        replaced). Raises FrameError when the chat is too large for a frame."""
        self._last_seq += 1
        seq = self._last_seq
        self._send(msgspec.structs.replace(submit, seq=seq))
        if not self._inboxes:
            self._quiet_since = asyncio.get_running_loop().time()
        # The clock is not set back while others wait, or callers who come and go could keep a
        # hanging worker alive for ever.
        self._was_asked = True
        self._inboxes[seq] = inbox
        self._unheard.add(seq)
        self._set_alarm()
        return seq

    def cancel(self, seq: int) -> None:
        """Forget a sequence; one that has ended is ignored. Never waits."""
        if self._inboxes.pop(seq, None) is not None:
            self._unheard.discard(seq)
            self._send(Cancel(seq))
            self._set_alarm()

    def close(self, error: ChatSafeError) -> None:
        """Take no more work and end every open sequence with `error`. Never waits."""
        self.is_open = False
        inboxes, self._inboxes = self._inboxes, {}
        for inbox in inboxes.values():
            inbox.fail(error)

    def _send(self, frame: ToWorker) -> None:
        data = encode(frame)
        if self.is_open and not self._writer.is_closing():
            self._writer.write(data)

    async def _receive(self) -> ToDaemon:
        """The next frame. Raises EOFError at the end of the connection, FrameError on garbage."""
        while not self._frames:
            try:
                data = await self._reader.read(READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._frames.extend(self._frame_reader.receive(data))
        return self._frames.popleft()

    def _deliver(self, events: Events) -> None:
        for event in events.items:
            inbox = self._inboxes.get(event.seq)
            if inbox is not None:
                inbox.put(event)
                self._unheard.discard(event.seq)
                match event:
                    case Done() | Refused():
                        del self._inboxes[event.seq]
                    case Admitted() | Delta():
                        continue
                    case _:
                        assert_never(event)
        self._quiet_since = asyncio.get_running_loop().time()
        self._is_prefilling = events.prefilling
        self._set_alarm()

    def _limit_s(self) -> float:
        if self._is_prefilling or self._unheard:
            return self._deadlines.prefill_s
        return self._deadlines.stall_s

    def _set_alarm(self) -> None:
        """Say by when the next frame is due: never, while there is nothing to do."""
        if self._alarm is not None and self.is_open and not self._alarm.expired():
            self._alarm.reschedule(self._quiet_since + self._limit_s() if self._inboxes else None)

    async def _end(self) -> None:
        """Close the socket, then SIGTERM, 2 s, SIGKILL; returns when the process is reaped."""
        self.close(WorkerDied("The model's process was stopped. Ask again."))
        try:
            self._writer.transport.abort()
            if not self._process.exited.is_set():
                _signal(self._transport, signal.SIGTERM)
                try:
                    async with asyncio.timeout(STOP_S):
                        await self._process.exited.wait()
                except TimeoutError:
                    _signal(self._transport, signal.SIGKILL)
                    await self._process.exited.wait()
        finally:
            self._transport.close()  # kills what is left, closes the pipe
        if not self._was_asked:
            # Before its first chat a worker knows no text of anybody, so only then may its words
            # be kept anywhere.
            output = self._process.output.decode("utf-8", "replace")
            log.debug("worker %d said: %s", self.process_id, output)

    async def _fate(self) -> str:
        """How the process ended, in words; it has closed its socket already."""
        try:
            async with asyncio.timeout(EXIT_STATUS_S):
                await self._process.exited.wait()
        except TimeoutError:
            return "stopped answering"
        code = self._transport.get_returncode() or 0
        if code >= 0:
            return f"ended with status {code}"
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            return f"was killed by the system ({name}), most likely for want of memory"
        return f"crashed ({name})"


def _signal(transport: asyncio.SubprocessTransport, number: signal.Signals) -> None:
    try:
        transport.send_signal(number)
    except ProcessLookupError:
        return  # it went by itself; the wait that follows notices


@asynccontextmanager
async def start_worker(
    command: Sequence[str], environ: Mapping[str, str], deadlines: Deadlines
) -> AsyncIterator[Worker]:
    """Start one worker process; on the way out it is stopped and reaped.

    Raises ModelLoadFailed when the system starts no process.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        transport, process = await loop.subprocess_exec(
            _Process,
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
    worker = Worker(transport, process, reader, writer, deadlines)
    try:
        yield worker
    finally:
        await worker._end()
