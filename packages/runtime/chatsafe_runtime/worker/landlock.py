"""Landlock, the kernel's per-process rules for files, TCP and other programs, through ctypes.

Numbers and layouts: linux/landlock.h. Each function adds one layer of rules to this thread and
all that it starts; layers only ever take away. All raise OSError when the kernel refuses.
"""

import ctypes
import os
import stat
from collections.abc import Sequence
from typing import Final

# The same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
IOCTL_DEV: Final = 1 << 15
_FILE_RIGHTS: Final = EXECUTE | WRITE_FILE | READ_FILE | (1 << 14) | IOCTL_DEV
_BIND_AND_CONNECT_TCP: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11

# The version of the interface that brought each thing.
TCP_VERSION: Final = 4
SCOPE_VERSION: Final = 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_files", ctypes.c_uint64),
        ("handled_tcp", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The interface version of this kernel; 0 without Landlock."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


def allow_files(rules: Sequence[tuple[str, int]]) -> None:
    """Forbid all use of files but these (path, rights) and what lies below them.

    A path that does not exist is skipped.
    """
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version(), 16)) - 1
    ruleset = _create(_Ruleset(handled_files=handled))
    try:
        for path, rights in rules:
            _add_path(ruleset, path, rights & handled)
        _restrict(ruleset)
    finally:
        os.close(ruleset)


def forbid_tcp() -> None:
    """Neither bind nor connect."""
    _apply(_Ruleset(handled_tcp=_BIND_AND_CONNECT_TCP))


def forbid_other_programs() -> None:
    """No signals to, and no abstract Unix sockets of, processes outside."""
    _apply(_Ruleset(scoped=_ABSTRACT_SOCKETS_AND_SIGNALS))


def _apply(attributes: _Ruleset) -> None:
    ruleset = _create(attributes)
    try:
        _restrict(ruleset)
    finally:
        os.close(ruleset)


def _create(attributes: _Ruleset) -> int:
    size = ctypes.sizeof(attributes)
    return _check(_syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0))


def _add_path(ruleset: int, path: str, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            rights &= _FILE_RIGHTS
        rule = _PathRule(rights, target)
        _check(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(target)


def _restrict(ruleset: int) -> None:
    _check(_syscall(_RESTRICT_SELF, ruleset, 0))


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return int(libc.syscall(ctypes.c_long(number), *values))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
