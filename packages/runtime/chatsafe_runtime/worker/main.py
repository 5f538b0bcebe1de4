"""The worker process: drop rights, load one model, answer frames until the daemon is gone.

    python -m chatsafe_runtime.worker.main <socket file descriptor>

Two threads: one receives and does nothing else, so that a cancel or the daemon's end is noticed
in the middle of a native call; the other loads, and then runs the step loop.
"""

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from chatsafe_config.free_memory import available_bytes
from chatsafe_runtime.channel import (
    Cancel,
    FrameError,
    FrameReader,
    Load,
    LoadFailed,
    Ready,
    Submit,
    ToDaemon,
    ToWorker,
    encode,
    worker_reader,
)
from chatsafe_runtime.worker import machine, quota
from chatsafe_runtime.worker.bindings import pass_on_errors, supports_gpu
from chatsafe_runtime.worker.engine import EngineError
from chatsafe_runtime.worker.generic_template import generic_template
from chatsafe_runtime.worker.llama import LlamaEngine
from chatsafe_runtime.worker.loop import Frame, Loop
from chatsafe_runtime.worker.prompt import Prompter
from chatsafe_runtime.worker.sandbox import drop_rights
from chatsafe_runtime.worker.template import ChatTemplate, TemplateFailed, TemplateRefused, warm_up

_RECEIVE_BYTES: Final = 256 * 1024
# The part of free memory that running chats may take; the rest is for everything else.
_KV_PART: Final = 4
# Where the system does not say how much memory is free.
_ASSUMED_FREE_BYTES: Final = 4 * 1024**3
# A model this small makes a token in a few milliseconds on one core. Threads meet dozens of times
# per token: with a busy neighbour on two cores, 1 ms became 14 ms, and one thread did not notice.
_TINY_MODEL_BYTES: Final = 48 * 1024 * 1024
_PROBE: Final = ({"role": "user", "content": "Hello"},)


def main() -> None:
    """The process's whole life."""
    # Ctrl-C reaches everybody at the terminal; when we stop is for the daemon to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An assertion of the engine would have a debugger print our memory's contents.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    connection = socket.socket(fileno=int(sys.argv[1]))
    reader = worker_reader()
    load, *early = _first_frames(connection, reader)
    if not isinstance(load, Load):
        raise FrameError("the first frame must be Load")
    # What needs files comes before the rights are dropped, what needs threads after it.
    model_bytes = _size_bytes(load.path)
    free_bytes = available_bytes() or _ASSUMED_FREE_BYTES
    kv_budget_bytes = max(0, free_bytes - model_bytes) // _KV_PART
    is_tiny = model_bytes < _TINY_MODEL_BYTES
    best_threads = 1 if is_tiny else machine.physical_cores()
    threads = min(load.threads, os.cpu_count() or 1) or best_threads
    warm_up()
    uses_gpu = load.gpu_layers != 0 and supports_gpu()
    applied, missing = drop_rights(load.path, uses_gpu=uses_gpu)
    if quota.is_enforced():
        applied += ("chat templates within limits of time and memory",)
    else:
        missing += ("chat templates within limits of time and memory (only on Linux)",)
    inbox = Inbox(connection, reader, early)
    callback = pass_on_errors(_reporter(load.path))
    try:
        engine = LlamaEngine(
            load.path,
            context_window=load.context_window,
            max_parallel=load.max_parallel,
            batch_size=load.batch_size,
            threads=threads,
            gpu_layers=load.gpu_layers,
            kv_budget_bytes=kv_budget_bytes,
            # On a processor it costs a tiny model half of its speed with eight chats (5.9 ms a
            # step instead of 3.0); what it saves is memory that only large models need.
            flash_attention=not is_tiny,
        )
        origin, template, stops = _choose_template(load, engine)
        engine.warm_up()
    except (EngineError, TemplateFailed) as error:
        connection.sendall(encode(LoadFailed(str(error))))
        return
    except MemoryError:
        connection.sendall(encode(LoadFailed("There is not enough memory for this model.")))
        return
    limits = engine.limits
    prompter = Prompter(
        engine.vocabulary,
        template,
        context_window=limits.context_window,
    )

    def send(frame: ToDaemon) -> None:
        connection.sendall(encode(frame))

    loop = Loop(engine, prompter, stop=stops, receive=inbox.take, send=send)

    def on_cancel(seq: int) -> None:
        if loop.is_reading(seq):
            engine.interrupt()

    inbox.on_cancel = on_cancel
    send(Ready(limits.context_window, limits.max_parallel, applied, missing, origin))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        loop.run()
    del callback  # alive until here


def _first_frames(connection: socket.socket, reader: FrameReader[ToWorker]) -> list[ToWorker]:
    while True:
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise SystemExit(0)
        frames = list(reader.receive(data))
        if frames:
            return frames


class Inbox:
    """The receiving thread, and what it has received and nobody has taken."""

    def __init__(
        self, connection: socket.socket, reader: FrameReader[ToWorker], early: Sequence[ToWorker]
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.on_cancel: Callable[[int], None] = lambda _seq: None
        for frame in early:
            self._put(frame)
        threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def take(self, is_idle: bool) -> Sequence[Frame]:
        """All frames that are here; when `is_idle`, wait for the first."""
        frames = [self._frames.get()] if is_idle else []
        with contextlib.suppress(queue.Empty):
            while True:
                frames.append(self._frames.get_nowait())
        return frames

    def _receive(self) -> None:
        # Whatever ends this thread ends the process, even in the middle of a native call.
        try:
            while data := self._connection.recv(_RECEIVE_BYTES):
                for frame in self._reader.receive(data):
                    self._put(frame)
        finally:
            os._exit(0)

    def _put(self, frame: object) -> None:
        if not isinstance(frame, Submit | Cancel):
            raise FrameError("only the first frame may be Load")
        self._frames.put(frame)
        if isinstance(frame, Cancel):
            self.on_cancel(frame.seq)


def _size_bytes(path: str) -> int:
    with contextlib.suppress(OSError):
        return Path(path).stat().st_size
    return 0


def _reporter(path: str) -> Callable[[str], None]:
    """Error lines of the engine go to the daemon's log, without the file's place."""

    def report(line: str) -> None:
        sys.stderr.write(line.replace(path, "the model file"))

    return report


def _choose_template(load: Load, engine: LlamaEngine) -> tuple[str, ChatTemplate, tuple[str, ...]]:
    """Where the template comes from, the template, and all of the model's stop strings."""
    vocabulary = engine.vocabulary
    stops = load.stop
    if load.template is not None:
        origin, source = "registry", load.template
    elif (own := engine.own_template()) is not None:
        origin, source = "file", own
    else:
        origin = "generic"
        source, more = generic_template(vocabulary.control_tokens)
        stops = (*stops, *more)
    try:
        template = ChatTemplate(
            source,
            bos_text=vocabulary.bos_text,
            eos_text=vocabulary.eos_text,
            context_window=engine.limits.context_window,
        )
        # An endless template is found out here, not by somebody's chat. One that refuses the
        # probe may still take real chats.
        with contextlib.suppress(TemplateRefused):
            template.render(_PROBE)
    except TemplateFailed as error:
        raise TemplateFailed(f"The model's chat template cannot be used: {error}.") from error
    return origin, template, stops


if __name__ == "__main__":
    main()
