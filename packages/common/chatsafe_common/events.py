"""What comes back: the events of one generation, in order `Started, TextDelta*, Finished`.

A generation that breaks raises a `ChatSafeError` instead of `Finished`; a stream that ends
without either was cancelled by its consumer.
"""

from enum import StrEnum

import msgspec


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"


class Usage(msgspec.Struct, frozen=True):
    """Real token counts, from the model's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Timings(msgspec.Struct, frozen=True):
    """Where the time went, in seconds."""

    queue_s: float = 0.0
    prompt_s: float = 0.0
    decode_s: float = 0.0

    def tokens_per_second(self, num_tokens: int) -> float:
        return num_tokens / self.decode_s if self.decode_s > 0 else 0.0


class Started(msgspec.Struct, frozen=True, tag=True):
    """The request is admitted: it fits, it will be answered by `model`."""

    model: str
    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True, tag=True):
    """A piece of the answer: whole characters, no part of a stop sequence."""

    text: str

    def __repr__(self) -> str:
        return f"TextDelta({len(self.text)} chars)"


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The end of an answer that ended well."""

    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()


ChatEvent = Started | TextDelta | Finished
