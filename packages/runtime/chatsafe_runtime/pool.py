"""Which models are in memory: loaded on first use, kept warm, evicted when another needs room.

One task per worker life (`_live`) starts the process, loads, serves and cleans up; stopping a
model is cancelling that task. All tasks belong to the pool's task group. An idle pool has one
timer per loaded model and does nothing else.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from chatsafe_common.backend import ModelStatus
from chatsafe_common.errors import (
    ChatSafeError,
    InsufficientMemory,
    InternalError,
    ModelBusy,
    ModelLoadFailed,
    ShuttingDown,
    Unavailable,
)
from chatsafe_config.errors import GgufError
from chatsafe_config.free_memory import available_bytes
from chatsafe_config.gguf import Header, read_header
from chatsafe_runtime.admission import Admission
from chatsafe_runtime.channel import Load
from chatsafe_runtime.memory import (
    engine_may_offload,
    fits,
    needed_bytes,
)
from chatsafe_runtime.resident import Resident
from chatsafe_runtime.restarts import MAX_CRASHES, WINDOW_S
from chatsafe_runtime.supervisor import WORKER_COMMAND, Deadlines, Worker, start_worker

_logger = logging.getLogger("chatsafe.runtime")

# What a model gets when nobody names a context window (or the file's own, if that is less).
DEFAULT_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The limits of a pool; `keep_alive_s` -1 keeps models for good, 0 unloads after an answer."""

    queue_size: int = 32
    keep_alive_s: float = 300.0
    deadlines: Deadlines = field(default_factory=Deadlines)


class Pool:
    """The models in memory. An async context manager; leaving it stops every worker."""

    def __init__(
        self,
        options: PoolOptions,
        environ: Mapping[str, str],
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._options = options
        self._environ = environ
        self._command = command
        self._residents: dict[str, Resident] = {}
        self._tasks = asyncio.TaskGroup()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        for resident in self._residents.values():
            self._stop(resident, _leaving())
        # The body's own exception is not handed on: a task group would wrap it.
        await self._tasks.__aexit__(None, None, None)

    @contextmanager
    def place(self, model: str, load: Load, keep_alive_s: float | None) -> Iterator[Resident]:
        """A place in front of one model, for one chat. Raises QueueFull or ShuttingDown.

        Leaving it never waits. `keep_alive_s` None is the pool's.
        """
        if self._is_closed:
            raise _leaving()
        resident = self._resident(model, load)
        resident.admission.enter()
        resident.stop_timer()
        try:
            yield resident
        finally:
            resident.admission.leave()
            resident.last_used = asyncio.get_running_loop().time()
            resident.keep_alive_s = (
                self._options.keep_alive_s if keep_alive_s is None else keep_alive_s
            )
            if resident.admission.num_open == 0:
                if resident.keep_alive_s == 0:
                    self._stop(resident, _unloaded())
                else:
                    self._start_timer(resident)

    async def worker(self, resident: Resident, load: Load) -> Worker:
        """The model's worker, started if there is none; all who ask meanwhile share one start.

        Raises ModelLoadFailed, InsufficientMemory, Unavailable (unloaded meanwhile) or
        ShuttingDown.
        """
        while True:
            match resident.phase:
                case "ready" if resident.worker is not None and resident.worker.is_open:
                    return resident.worker
                case "ready" | "closing":
                    await resident.ended.wait()
                    continue
                case "absent":
                    if self._is_closed:
                        raise _leaving()
                    resident.forgive_another_file()
                    if resident.has_given_up and resident.failure is not None:
                        raise resident.failure.with_traceback(None)
                    self._start(resident, load)
                case "loading":
                    pass
            outcome = await asyncio.shield(resident.loaded)
            if isinstance(outcome, ChatSafeError):
                # Everyone who waited raises this one: without the others' traces.
                raise outcome.with_traceback(None)

    async def load(self, model: str, load: Load) -> None:
        """Bring a model into memory, also one that was given up. Raises as `worker`."""
        if self._is_closed:
            raise _leaving()
        resident = self._resident(model, load)
        resident.forgive()
        await self.worker(resident, load)
        resident.last_used = asyncio.get_running_loop().time()
        if resident.admission.num_open == 0:
            self._start_timer(resident)

    async def unload(self, model: str) -> None:
        """Take a model out of memory; returns when its process is gone. Raises ModelBusy."""
        resident = self._residents.get(model)
        if resident is None:
            return
        if resident.admission.num_open > 0:
            raise ModelBusy(
                f"The model is in use: {resident.admission.num_open} chats are open. Wait until "
                "they have ended, then try again.",
                retry_after_s=1.0,
            )
        resident.forgive()
        self._stop(resident, _unloaded())
        if resident.life is not None:
            await resident.ended.wait()

    def is_loaded(self, model: str) -> bool:
        resident = self._residents.get(model)
        return resident is not None and resident.phase == "ready"

    def status(self) -> list[ModelStatus]:
        """Every model that is in memory, on its way there, or could not get there."""
        now = asyncio.get_running_loop().time()
        for resident in self._residents.values():
            resident.forgive_another_file()
        return [
            resident.status(now)
            for resident in self._residents.values()
            if resident.phase in ("loading", "ready") or resident.failure is not None
        ]

    def _resident(self, model: str, load: Load) -> Resident:
        resident = self._residents.get(model)
        if resident is None:
            resident = self._residents[model] = Resident(
                id=model,
                admission=Admission(load.max_parallel, self._options.queue_size),
                keep_alive_s=self._options.keep_alive_s,
                loaded=asyncio.get_running_loop().create_future(),
            )
        return resident

    def _start(self, resident: Resident, load: Load) -> None:
        resident.phase = "loading"
        resident.outcome = None
        resident.ended.clear()
        resident.loaded = asyncio.get_running_loop().create_future()
        resident.life = self._tasks.create_task(self._live(resident, load))
        # Not a `finally` in the task: one that is cancelled before its first step runs none.
        resident.life.add_done_callback(lambda _: self._settle(resident))

    def _stop(self, resident: Resident, reason: ChatSafeError) -> None:
        """End a model's life; open sequences end with `reason`. Never waits."""
        resident.stop_timer()
        if resident.life is None or resident.phase == "closing":
            return
        _logger.info("model_leaves", extra={"model": resident.id, "code": reason.code})
        resident.phase = "closing"
        resident.outcome = reason
        if resident.worker is not None:
            resident.worker.close(reason)
        resident.life.cancel()

    def _start_timer(self, resident: Resident) -> None:
        resident.stop_timer()
        if resident.phase == "ready" and resident.keep_alive_s > 0:
            resident.expiry = asyncio.get_running_loop().call_later(
                resident.keep_alive_s, self._stop, resident, _unloaded()
            )

    async def _live(self, resident: Resident, load: Load) -> None:
        """One life: wait out the back-off, make room, start, load, serve until the end."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(resident.restarts.delay_s(loop.time()))
            load = await self._make_room(resident, load)
            started = loop.time()
            async with start_worker(
                self._command, self._environ, self._options.deadlines
            ) as worker:
                resident.worker = worker
                try:
                    resident.facts = await worker.load(load)
                    duration_ms = round(1000 * (loop.time() - started))
                    facts = {"model": resident.id, "duration_ms": duration_ms}
                    _logger.info("model_ready", extra=facts)
                    resident.phase = "ready"
                    resident.failure = resident.failed_file = None
                    # What a worker says is checked: it has read a file that may be hostile.
                    num_slots = min(max(1, resident.facts.max_parallel), load.max_parallel)
                    resident.admission.max_parallel = num_slots
                    resident.last_used = loop.time()
                    if resident.admission.num_open == 0:
                        self._start_timer(resident)
                    resident.loaded.set_result(worker)
                    await worker.serve()
                finally:
                    resident.phase = "closing"
        except ChatSafeError as error:
            resident.outcome = error
            self._note_failure(resident, error, load.path)
        except Exception:
            # A task group would take the whole daemon down with one model.
            _logger.exception("model_task_failed", extra={"model": resident.id})
            resident.outcome = InternalError("The model could not be served. See the log.")

    def _note_failure(self, resident: Resident, error: ChatSafeError, path: str) -> None:
        _logger.warning("model_failed", extra={"model": resident.id, "code": error.code})
        has_loaded = resident.loaded.done()
        now = asyncio.get_running_loop().time()
        # Without a process nothing crashed: a refused file costs little to refuse again.
        if resident.worker is not None and resident.restarts.crashed(now):
            resident.has_given_up = True
            given_up = ModelLoadFailed(
                f"This model failed {MAX_CRASHES} times within {WINDOW_S / 60:g} minutes, so it "
                f"is not started again by itself. Its last failure: {error.message} To try "
                f"anyway, run `chatsafe stop {resident.id}` and ask again."
            )
            resident.fail(given_up, path)
        elif not has_loaded:
            resident.fail(error, path)

    def _settle(self, resident: Resident) -> None:
        """The end of a life: its process is reaped; whoever waited for it learns how it went."""
        resident.stop_timer()
        resident.phase = "absent"
        resident.life = resident.worker = resident.facts = None
        resident.weights_bytes = resident.needed_bytes = 0
        if not resident.loaded.done():
            resident.loaded.set_result(resident.outcome or _unloaded())
        resident.ended.set()

    async def _make_room(self, resident: Resident, load: Load) -> Load:
        """Check the file's header, and unload idle models until this one fits.

        The longest unused goes first, one in use never. Returns `load` with its context window
        settled. Raises ModelLoadFailed or InsufficientMemory.
        """
        header, may_offload = await asyncio.to_thread(_inspect, load)
        context = min(load.context_window or DEFAULT_CONTEXT, header.context_length)
        needed = needed_bytes(header, context)
        others = [other for other in self._residents.values() if other is not resident]
        while (free := available_bytes()) is not None and not may_offload:
            # Weights are mapped from the file: the system counts them as free memory though
            # loaded models read them all the time. A model on its way has not taken its share yet.
            free -= sum(
                other.needed_bytes if other.phase == "loading" else other.weights_bytes
                for other in others
            )
            if fits(needed, free):
                break
            idle = [other for other in others if other.is_idle]
            on_their_way = [
                other for other in others if other.phase == "loading" and other.needed_bytes
            ]
            if idle:
                oldest = min(idle, key=lambda other: other.last_used)
                _logger.info("model_evicted", extra={"model": oldest.id})
                self._stop(oldest, _unloaded())
                await oldest.ended.wait()
            elif on_their_way:
                await asyncio.wait([other.loaded for other in on_their_way])
            else:
                raise _too_big(needed, max(0, free), context)
        resident.weights_bytes = header.tensor_bytes
        resident.needed_bytes = needed
        return msgspec.structs.replace(load, context_window=context)


def _inspect(load: Load) -> tuple[Header, bool]:
    """Blocking: our own check of the file, and whether a GPU may hold the weights."""
    try:
        header = read_header(Path(load.path))
    except GgufError as error:
        raise ModelLoadFailed(
            f"The model's file is refused: {error}. It may be damaged: get it again, or use "
            "another one."
        ) from error
    return header, load.gpu_layers != 0 and engine_may_offload()


def _too_big(needed: int, free: int, context: int) -> InsufficientMemory:
    return InsufficientMemory(
        f"The model does not fit into memory: it needs about {needed / 2**30:.1f} GiB with a "
        f"context of {context} tokens, and {free / 2**30:.1f} GiB are free. Close other "
        "programs, use a smaller model or quantization, or a smaller context (setting "
        "runtime.context_window).",
        details={"needed_bytes": needed, "free_bytes": free},
    )


def _leaving() -> ShuttingDown:
    return ShuttingDown("The daemon is stopping. Ask again when it is back.", retry_after_s=5.0)


def _unloaded() -> Unavailable:
    return Unavailable("The model was just taken out of memory. Ask again.", retry_after_s=1.0)
