"""The narrow door: what the loop asks of any engine.

Two engines exist: `llama.LlamaEngine`, and the scripted one with which the loop is tested. A slot
is the engine's own number for a sequence, 0 up to `Limits.max_parallel` - 1; the loop hands slots
out and takes them back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from chatsafe_runtime.worker.sampling import Step


class EngineError(Exception):
    """The model cannot be served; the message says why, without any path."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine has room for, in tokens and sequences."""

    context_window: int  # tokens one sequence may hold
    num_cells: int  # tokens all running sequences may hold together
    max_parallel: int
    batch_size: int  # tokens one decode may take


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens of one sequence to be computed next, beginning at position `start`."""

    slot: int
    start: int
    tokens: Sequence[int]
    wants_logits: bool  # the last token's logits will be sampled


class Decoded(Enum):
    """How a decode ended. Anything but DONE leaves it to the caller to `truncate` each slot."""

    DONE = auto()
    FULL = auto()  # no cells left for the batch
    INTERRUPTED = auto()
    FAILED = auto()


class Vocabulary(Protocol):
    """Text to tokens and back."""

    @property
    def size(self) -> int: ...

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Every control token's spelling and id."""
        ...

    @property
    def bos(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool:
        """The vocabulary wants each prompt to begin with `bos`."""
        ...

    @property
    def bos_text(self) -> str: ...

    @property
    def eos_text(self) -> str: ...

    def tokenize(self, text: str) -> list[int]:
        """Plain text to tokens: never a control token, never BOS."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens."""
        ...

    def ends_turn(self, token: int) -> bool: ...

    def strips(self, token: int) -> tuple[bool, bool]:
        """Whether white space before, and after, this control token is dropped."""
        ...


class Sampler(Protocol):
    """One sequence's way of choosing tokens; remembers what it chose."""

    def sample(self, slot: int) -> int:
        """The next token of a slot whose last slice wanted logits in the last decode."""
        ...

    def close(self) -> None:
        """Give its memory back. Once."""
        ...


class Engine(Protocol):
    """Turns token batches into next tokens."""

    @property
    def limits(self) -> Limits: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    def decode(self, slices: Sequence[Slice]) -> Decoded: ...

    def interrupt(self) -> None:
        """End the decode that is running now, early. The one call for other threads."""
        ...

    def sampler(self, steps: Sequence[Step]) -> Sampler: ...

    def truncate(self, slot: int, length: int) -> bool:
        """Forget a slot's tokens from position `length` on.

        False: this kind of memory cannot be cut there; the whole slot is forgotten instead.
        """
        ...
