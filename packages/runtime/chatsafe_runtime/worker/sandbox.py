"""What the worker may not do: open files, use the network, start programs, leave a core file.

Applied once, after the libraries are loaded and before the first byte of the model file is read.
A right that this system cannot take away is reported in words and never stops the start. Must run
while the process has one thread: the kernel gives no other one a new user namespace.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from chatsafe_runtime.worker import landlock

if sys.platform == "linux":
    import resource

# prctl(2)
_SET_PDEATHSIG: Final = 1
_SET_DUMPABLE: Final = 4
_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
# unshare(2)
_NEW_USER: Final = 0x10000000
_NEW_NET: Final = 0x40000000

_MAX_OPEN_FILES: Final = 64
# Drivers of graphics processors open hundreds of device files and libraries.
_MAX_OPEN_FILES_GPU: Final = 4096
# What the engine and the C library look up while they run.
_MACHINE_FACTS: Final = ("/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo")
# Drivers load their libraries late, from anywhere outside the home folders.
_DRIVER_FOLDERS: Final = ("/usr", "/lib", "/lib64", "/opt", "/etc", "/proc", "/sys", sys.prefix)

Outcome = tuple[tuple[str, ...], tuple[str, ...]]


def drop_rights(model_path: str, *, uses_gpu: bool) -> Outcome:
    """Drop every right that is not needed any more; returns (applied, missing), in words."""
    applied: list[str] = []
    missing: list[str] = []
    for name, measure in _measures(model_path, uses_gpu):
        if sys.platform != "linux":
            missing.append(f"{name} (only on Linux)")
            continue
        try:
            measure()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            missing.append(f"{name} ({reason or error})")
        else:
            applied.append(name)
    return tuple(applied), tuple(missing)


def _measures(model_path: str, uses_gpu: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """In the order in which they last: a new namespace undoes what prctl has set."""
    yield "no network", _leave_network
    yield "ends with the daemon", lambda: _prctl(_SET_PDEATHSIG, _SIGKILL)
    yield "memory closed to other programs", lambda: _prctl(_SET_DUMPABLE, 0)
    yield "no new privileges", lambda: _prctl(_SET_NO_NEW_PRIVS, 1)
    yield "no core file", lambda: _limit("RLIMIT_CORE", 0)
    max_files = _MAX_OPEN_FILES_GPU if uses_gpu else _MAX_OPEN_FILES
    yield f"at most {max_files} open files", lambda: _limit("RLIMIT_NOFILE", max_files)
    if uses_gpu:
        yield "no files but the model and the drivers", lambda: _keep_drivers(model_path)
    else:
        # Shared memory counts as files here, and drivers need it.
        yield "writes no files", lambda: _limit("RLIMIT_FSIZE", 0)
        yield "no files but the model, no other programs", lambda: _keep_model(model_path)
    yield "no TCP", lambda: _need(landlock.TCP_VERSION, landlock.forbid_tcp)
    yield (
        "no signals to other programs",
        lambda: _need(landlock.SCOPE_VERSION, landlock.forbid_other_programs),
    )


def _leave_network() -> None:
    """A network namespace without any interface: unlike Landlock it covers UDP too."""
    _check(ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NET))


def _prctl(option: int, value: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _need(version: int, restrict: Callable[[], None]) -> None:
    if landlock.version() < version:
        raise ValueError("this kernel is too old for it, or has Landlock switched off")
    restrict()


def _keep_model(model_path: str) -> None:
    reading = landlock.READ_FILE | landlock.READ_DIR
    facts = [(path, reading) for path in _MACHINE_FACTS]
    model = (str(Path(model_path).resolve()), landlock.READ_FILE)
    _need(1, lambda: landlock.allow_files([model, *facts]))


def _keep_drivers(model_path: str) -> None:
    reading = landlock.READ_FILE | landlock.READ_DIR | landlock.EXECUTE
    folders = [(path, reading) for path in _DRIVER_FOLDERS]
    devices = ("/dev", reading | landlock.WRITE_FILE | landlock.IOCTL_DEV)
    model = (str(Path(model_path).resolve()), landlock.READ_FILE)
    _need(1, lambda: landlock.allow_files([model, devices, *folders]))
