"""The one contract: whatever can answer a chat is a `Backend`."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

import msgspec

from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.events import ChatEvent

EventStream = AsyncGenerator[ChatEvent, None]


class Backend(Protocol):
    """Answers chats.

    `generate` returns at once; the first `anext` admits the request or raises what refused it
    (`ModelNotFound`, `ContextLengthExceeded`, `QueueFull`, ...). Closing the stream cancels the
    generation; the slot is free at the next decode step.
    """

    async def models(self) -> Sequence[ModelCard]:
        """Every model that can be named, the default one first."""
        ...

    def generate(self, request: ChatRequest) -> EventStream: ...


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model that is in memory, on its way there, or could not get there."""

    id: str
    state: Literal["loading", "ready", "failed"]
    num_running: int = 0
    num_waiting: int = 0
    context_window: int = 0
    max_parallel: int = 0
    memory_bytes: int | None = None
    idle_s: float = 0.0
    expires_in_s: float | None = None
    process_id: int | None = None
    isolation: tuple[str, ...] = ()
    missing_isolation: tuple[str, ...] = ()
    error: str | None = None


class ModelHost(Protocol):
    """Has models in memory and says so."""

    def status(self) -> Sequence[ModelStatus]: ...

    async def load(self, model: str) -> None: ...

    async def unload(self, model: str) -> None: ...
