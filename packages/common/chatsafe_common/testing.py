"""A scripted backend for tests of everything that takes a `Backend`."""

import asyncio
from collections.abc import Sequence

from chatsafe_common.backend import EventStream, ModelStatus
from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.errors import ChatSafeError, ModelNotFound
from chatsafe_common.events import ChatEvent, Finished, FinishReason, Started, TextDelta, Usage


class ScriptedBackend:
    """Says the given pieces to everybody and remembers what it was asked.

    `gate`, when set to an `asyncio.Event`, is awaited before each piece, so that a test decides
    when an answer goes on. `error` is raised after `error_after` pieces (-1: before `Started`).
    """

    def __init__(
        self,
        pieces: Sequence[str] = ("Hello", " there", "."),
        *,
        model: str = "scripted",
        context_window: int = 2048,
        gate: asyncio.Event | None = None,
        error: ChatSafeError | None = None,
        error_after: int = -1,
        reason: FinishReason = FinishReason.STOP,
    ) -> None:
        self.pieces = tuple(pieces)
        self.card = ModelCard(
            id=model, name=model, context_window=context_window, available=True, is_default=True
        )
        self.gate = gate
        self.error = error
        self.error_after = error_after
        self.reason = reason
        self.requests: list[ChatRequest] = []
        self.num_open = 0
        self.unloaded: list[str] = []

    async def models(self) -> Sequence[ModelCard]:
        return (self.card,)

    async def generate(self, request: ChatRequest) -> EventStream:
        if request.model not in ("", self.card.id):
            raise ModelNotFound(f"Model not found: {request.model!r}.", param="model")
        if self.error is not None and self.error_after < 0:
            raise self.error
        self.requests.append(request)
        self.num_open += 1
        try:
            yield Started(self.card.id, prompt_tokens=7)
            for index, piece in enumerate(self.pieces):
                if self.gate is not None:
                    await self.gate.wait()
                if self.error is not None and index >= self.error_after:
                    raise self.error
                yield TextDelta(piece)
            yield Finished(self.reason, Usage(7, len(self.pieces)))
        finally:
            self.num_open -= 1

    def status(self) -> Sequence[ModelStatus]:
        return (
            ModelStatus(
                id=self.card.id,
                state="ready",
                num_running=self.num_open,
                context_window=self.card.context_window,
                max_parallel=8,
            ),
        )

    async def load(self, model: str) -> None:
        del model

    async def unload(self, model: str) -> None:
        self.unloaded.append(model)


def collect_text(events: Sequence[ChatEvent]) -> str:
    """The answer that a list of events spells."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))
