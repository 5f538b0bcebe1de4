"""A program on a terminal of its own: what a person would see, and the keys they would press."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

# Makes the terminal on stdin the controlling one, so that Ctrl-C becomes a signal, then starts
# the program. (Python's own hook for this runs between fork and exec, which is unsafe here: the
# test has threads.)
_BOOT = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """The person's side."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        self._descriptor = descriptor
        self.process = process
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str, timeout_s: float = 20.0) -> str:
        """Everything shown up to and with `text`, which later waits do not see again."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} was not shown, but: {self.shown!r}")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def wait_for_end(self, timeout_s: float = 20.0) -> int:
        """The exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(timeout=timeout_s)

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(timeout_s, 0))
        if not ready:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def on_terminal(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Terminal]:
    """Runs `command` on a new terminal of 24 lines; kills it when it is still there at the end."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # This terminal cannot tell where its cursor is.
            env={
                **environ,
                "TERM": "xterm",
                "COLUMNS": "80",
                "LINES": "24",
                "PROMPT_TOOLKIT_NO_CPR": "1",
            },
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
