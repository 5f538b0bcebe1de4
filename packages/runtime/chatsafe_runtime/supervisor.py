"""One worker, from its start to its end: load a model, hand out events, watch for silence.

The process itself is `process.py`; when to start one again is decided by `restarts.py`, for whom
by `pool.py`. The rule here: whatever happens, every open sequence hears of it at once.
"""

import asyncio
import logging
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
from chatsafe_runtime.process import Process, start_process

_logger = logging.getLogger("chatsafe.runtime")

# `-P` keeps the folder that the daemon was started in off the worker's import path: a file
# `msgspec.py` lying there must not run. The descriptor of the socket is appended.
WORKER_COMMAND = (sys.executable, "-P", "-m", "chatsafe_runtime.worker.main")
# A reason is a sentence or two; what a worker says goes to HTTP clients.
MAX_REASON_CHARS = 500
READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a worker may be silent, in seconds."""

    load_s: float = 120.0
    stall_s: float = 30.0
    prefill_s: float = 120.0


class Worker:
    """The daemon's end of one worker. Made by `start_worker`; `load` first, then `serve`."""

    def __init__(self, process: Process, deadlines: Deadlines) -> None:
        self.process_id = process.id
        self.is_open = True
        self.was_asked = False
        self._process = process
        self._deadlines = deadlines
        self._frame_reader = daemon_reader()
        self._frames: deque[ToDaemon] = deque()
        self._inboxes: dict[int, Inbox] = {}
        self._last_seq = 0
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
        except FrameError as error:
            raise ModelLoadFailed(f"The engine's process sent {error}.") from None
        except EOFError:
            raise ModelLoadFailed(
                "The engine could not load this model file: its process "
                f"{await self._process.fate()}. The file may be damaged or of a kind this engine "
                "does not know; get it again or use another one."
            ) from None
        match frame:
            case Ready():
                return frame
            case LoadFailed(reason=reason):
                raise ModelLoadFailed(reason[:MAX_REASON_CHARS])
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
                self._set_alarm()
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
        except FrameError:
            _logger.warning("worker_sent_garbage")
        except EOFError:
            self.close(error)  # at once: how the process ended is only for the log
            _logger.warning("worker %s", await self._process.fate())
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
        self.was_asked = True
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
        if self.is_open and not self._process.writer.is_closing():
            self._process.writer.write(data)

    async def _receive(self) -> ToDaemon:
        """The next frame. Raises EOFError at the end of the connection, FrameError on garbage."""
        while not self._frames:
            try:
                data = await self._process.reader.read(READ_BYTES)
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


@asynccontextmanager
async def start_worker(
    command: Sequence[str], environ: Mapping[str, str], deadlines: Deadlines
) -> AsyncIterator[Worker]:
    """Start one worker process; on the way out it is stopped and reaped.

    Raises ModelLoadFailed when the system starts no process.
    """
    process: Process | None = None
    was_asked = False
    try:
        async with start_process(command, environ) as process:
            worker = Worker(process, deadlines)
            try:
                yield worker
            finally:
                was_asked = worker.was_asked
                worker.close(WorkerDied("The model's process was stopped. Ask again."))
    finally:
        # Before its first chat a worker knows no text of anybody, so only then may its words be
        # kept anywhere.
        if process is not None and not was_asked:
            _logger.debug("worker said: %s", process.last_output())
