"""What the pool knows of one model, from its first mention on."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from chatsafe_common.backend import ModelStatus
from chatsafe_common.errors import ChatSafeError
from chatsafe_runtime.admission import Admission
from chatsafe_runtime.channel import Ready
from chatsafe_runtime.memory import resident_bytes
from chatsafe_runtime.restarts import Restarts
from chatsafe_runtime.supervisor import Worker


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Tells a file from its successor of the same name."""

    path: str
    facts: tuple[int, int, int] | None

    @classmethod
    def of(cls, path: str) -> "FileStamp":
        try:
            found = Path(path).stat()
        except OSError:
            return cls(path, None)
        return cls(path, (found.st_ino, found.st_size, found.st_mtime_ns))

    @property
    def is_current(self) -> bool:
        return self.facts is not None and FileStamp.of(self.path) == self


@dataclass(slots=True, eq=False)
class Resident:
    """What the pool knows of one model: in memory, on its way there, or unable to get there."""

    id: str
    admission: Admission
    keep_alive_s: float
    loaded: asyncio.Future[Worker | ChatSafeError]  # how the current life's loading ended
    phase: Literal["absent", "loading", "ready", "closing"] = "absent"
    restarts: Restarts = field(default_factory=Restarts)
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # no process, no task
    life: asyncio.Task[None] | None = None
    worker: Worker | None = None
    facts: Ready | None = None
    outcome: ChatSafeError | None = None  # why the current life ended
    failure: ChatSafeError | None = None  # why the model could not get into memory
    failed_file: FileStamp | None = None  # which file that was
    has_given_up: bool = False
    weights_bytes: int = 0
    needed_bytes: int = 0
    last_used: float = 0.0
    expiry: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        return self.phase == "ready" and self.admission.num_open == 0

    def stop_timer(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def fail(self, failure: ChatSafeError, path: str) -> None:
        self.failure = failure
        self.failed_file = FileStamp.of(path)

    def forgive_another_file(self) -> None:
        """Forget what failed when the file is gone or was replaced since."""
        if self.failed_file is not None and not self.failed_file.is_current:
            self.forgive()

    def forgive(self) -> None:
        """Forget what failed so far: somebody asked for another try."""
        self.restarts.reset()
        self.failure = self.failed_file = None
        self.has_given_up = False

    def status(self, now: float) -> ModelStatus:
        """What a caller may know of it; `now` is the event loop's time."""
        is_ready = self.phase == "ready"
        num_running = min(self.admission.num_open, self.admission.max_parallel) if is_ready else 0
        process_id = self.worker.process_id if self.worker is not None else None
        return ModelStatus(
            id=self.id,
            state="ready" if is_ready else "loading" if self.phase == "loading" else "failed",
            num_running=num_running,
            num_waiting=self.admission.num_open - num_running,
            context_window=self.facts.context_window if self.facts is not None else 0,
            max_parallel=self.admission.max_parallel,
            memory_bytes=resident_bytes(process_id) if process_id is not None else None,
            idle_s=now - self.last_used if self.is_idle else 0.0,
            expires_in_s=max(0.0, self.expiry.when() - now) if self.expiry else None,
            process_id=process_id,
            isolation=self.facts.isolation if self.facts is not None else (),
            missing_isolation=self.facts.missing_isolation if self.facts is not None else (),
            error=self.failure.message if self.failure is not None else None,
        )
