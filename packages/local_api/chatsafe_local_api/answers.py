"""The answers of one request, folded from their events: texts, reasons, usage, timings."""

from chatsafe_common.events import (
    ChatEvent,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)


class Answers:
    """`number` answers to the same prompt, growing event by event.

    A streamed reply needs no texts, so `keeps_text` False holds none.
    """

    def __init__(self, number: int, *, keeps_text: bool) -> None:
        self.number = number
        self._keeps_text = keeps_text
        self._pieces: list[list[str]] = [[] for _ in range(number)]
        self._started: dict[int, Started] = {}
        self._finished: dict[int, Finished] = {}

    def __repr__(self) -> str:
        return f"Answers({len(self._finished)} of {self.number} complete)"

    def add(self, index: int, event: ChatEvent) -> None:
        match event:
            case Started():
                self._started[index] = event
            case TextDelta(text=text):
                if self._keeps_text:
                    self._pieces[index].append(text)
            case Finished():
                self._finished[index] = event

    @property
    def are_complete(self) -> bool:
        return len(self._finished) == self.number

    @property
    def model(self) -> str:
        """The id that answers, "" before the start; all answers come from the same model."""
        return next((started.model for started in self._started.values()), "")

    @property
    def choices(self) -> list[tuple[str, FinishReason]]:
        return [
            ("".join(self._pieces[index]), self._finished[index].reason)
            for index in range(self.number)
        ]

    @property
    def usage(self) -> Usage:
        """The prompt counts once, however many answers it got."""
        usages = [finished.usage for finished in self._finished.values()]
        return Usage(
            prompt_tokens=max((usage.prompt_tokens for usage in usages), default=0),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            cached_tokens=min((usage.cached_tokens for usage in usages), default=0),
        )

    @property
    def timings(self) -> Timings:
        """The slowest of each: the answers ran side by side."""
        timings = [finished.timings for finished in self._finished.values()]
        return Timings(
            queue_s=max((timing.queue_s for timing in timings), default=0.0),
            prompt_s=max((timing.prompt_s for timing in timings), default=0.0),
            decode_s=max((timing.decode_s for timing in timings), default=0.0),
        )
