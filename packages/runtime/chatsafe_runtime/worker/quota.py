"""Bounds on one piece of Python: CPU time and memory, where the system has them.

For the main thread, with no native work running beside it: both bounds count the whole process.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

# The timer's exception may be swallowed by the code it interrupts, so it comes again.
_AGAIN_AFTER: Final = 0.1


class OutOfTime(Exception):
    """Raised by the timer in the middle of what runs under `cpu_limit`."""


def is_enforced() -> bool:
    """Whether this system has the timers and limits."""
    return hasattr(signal, "setitimer") and _memory_file is not None


@contextlib.contextmanager
def cpu_limit(soft_s: float, hard_s: float) -> Iterator[None]:
    """OutOfTime after `soft_s` of CPU; the process ends after `hard_s` of user time.

    The hard bound is for a single endless call into C, during which no Python handler runs.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def on_timer(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, on_timer)
    # No handler is installed for this one: its default action is to end the process.
    signal.setitimer(signal.ITIMER_VIRTUAL, hard_s)
    signal.setitimer(signal.ITIMER_PROF, soft_s, soft_s * _AGAIN_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """MemoryError when the process grows by more than `extra_bytes`."""
    if _memory_file is None or sys.platform != "linux":
        yield
        return
    pages = int(os.pread(_memory_file, 256, 0).split()[5])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * resource.getpagesize() + extra_bytes
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


if sys.platform == "linux":
    import resource

    # Opened now: later, no file may be opened any more.
    _memory_file: int | None = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
else:
    _memory_file = None
