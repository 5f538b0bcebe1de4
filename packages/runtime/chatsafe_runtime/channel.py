"""The frames between the daemon and a model worker, and their encoding; no I/O.

A frame is a 4-byte big-endian length and a msgpack body of at most `MAX_FRAME_BYTES`. The daemon
sends `ToWorker`, the worker sends `ToDaemon`. Sequence ids are chosen by the daemon, never reused
within a worker's life. Both ends treat a frame they cannot decode as the end of the connection.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from chatsafe_common.chat import Message, Sampling

# 32 MiB is the HTTP body limit; a chat that large is refused by its token count in the worker,
# so the frame must be able to carry it there.
MAX_FRAME_BYTES = 33 * 1024 * 1024


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first frame: which file to load and how. Sent once."""

    path: str
    context_window: int  # tokens one sequence may hold; 0: what the file says (at most 8192)
    max_parallel: int  # sequences decoded together
    batch_size: int  # tokens per step, prefill included
    threads: int  # 0: physical cores
    gpu_layers: int  # -1: all
    template: str | None  # Jinja source of the registry's template; None: the file's own
    stop: tuple[str, ...] = ()  # the registry's stop strings


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Answer one chat. `sampling` is complete: the daemon has laid it over the model's defaults."""

    seq: int
    messages: tuple[Message, ...]
    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...] = ()
    clean_labels: bool = False
    queue_timeout_s: float = 0.0  # 0: wait for ever

    def __repr__(self) -> str:
        return f"Submit({self.seq}, {len(self.messages)} messages)"


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Forget a sequence within one step; an unknown one is ignored (it may just have ended)."""

    seq: int


ToWorker = Load | Submit | Cancel


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded and has decoded a warm-up token."""

    context_window: int
    max_parallel: int
    isolation: tuple[str, ...]  # rights that were dropped, in words
    missing_isolation: tuple[str, ...]  # what this machine would not let us drop, and why
    template: str  # "registry", "file" or "generic"


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be served; the worker exits after this frame."""

    reason: str


class Admitted(msgspec.Struct, frozen=True, tag=True):
    """The prompt is rendered and fits; the sequence waits for its slot or runs."""

    seq: int
    prompt_tokens: int


class Delta(msgspec.Struct, frozen=True, tag=True):
    """New text of a sequence in this step."""

    seq: int
    text: str

    def __repr__(self) -> str:
        return f"Delta({self.seq}, {len(self.text)} chars)"


class Done(msgspec.Struct, frozen=True, tag=True):
    """A sequence ended well."""

    seq: int
    reason: str  # a FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_s: float
    prompt_s: float
    decode_s: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A sequence ended badly. `code` is a `chatsafe_common.errors` code; `param` the field."""

    seq: int
    code: str
    message: str
    prompt_tokens: int = 0
    param: str | None = None


SequenceEvent = Admitted | Delta | Done | Refused


class Events(msgspec.Struct, frozen=True, tag=True):
    """All that one step brought, in order. Sent once a step, never once a token.

    `prefilling` says that the next step reads prompt tokens, so it may take longer.
    """

    items: tuple[SequenceEvent, ...]
    num_running: int
    num_waiting: int
    prefilling: bool


ToDaemon = Ready | LoadFailed | Events

_encoder = msgspec.msgpack.Encoder()

# What one end receives: `ToWorker` or `ToDaemon`.
Frame = TypeVar("Frame")


class FrameError(Exception):
    """The other end sent something that is no frame."""


def encode(frame: ToWorker | ToDaemon) -> bytes:
    """One frame as bytes. Raises FrameError when it is over the size limit."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "big") + body


class FrameReader(Generic[Frame]):
    """Bytes in, frames out; any split of the same bytes gives the same frames."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Frame]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises FrameError on anything malformed."""
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {size} bytes is over the limit of {MAX_FRAME_BYTES}")
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            try:
                yield self._decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise FrameError("a frame that does not decode") from error


def worker_reader() -> FrameReader[ToWorker]:
    """Decodes what the worker receives."""
    return FrameReader(msgspec.msgpack.Decoder(ToWorker))


def daemon_reader() -> FrameReader[ToDaemon]:
    """Decodes what the daemon receives."""
    return FrameReader(msgspec.msgpack.Decoder(ToDaemon))
