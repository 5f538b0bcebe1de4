"""What is asked: frozen values that travel from any dialect to any backend.

Nothing here knows JSON or HTTP. Types that carry a person's text hide it in `repr`, so that
no log line, traceback or debugger print can leak it.
"""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str
    name: str | None = None
    tool_call_id: str | None = None

    def __repr__(self) -> str:
        return f"Message({self.role}, {len(self.content)} chars)"


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen; `None` means "as the model's own defaults say".

    temperature 0..2 (0 is greedy), top_p, min_p and typical_p 0..1, top_k 0..1000 (0 is off),
    repeat_penalty 0.1..2, presence and frequency penalty -2..2, seed any 64-bit integer,
    logit_bias: token id to -100..100.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    def over(self, defaults: "Sampling") -> "Sampling":
        """These values, with every `None` taken from `defaults`."""
        given = {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) not in (None, ())
        }
        return msgspec.structs.replace(defaults, **given)


class ChatRequest(msgspec.Struct, frozen=True):
    """One chat to answer.

    `model` is the id the caller named, or "" for the default model. `max_tokens` None means the
    rest of the context window. `stop` strings end the answer and are not part of it.
    `clean_labels` None follows the model's registry entry (see `Registry`); `keep_alive_s` None
    follows the setting, 0 unloads after the answer, -1 keeps the model for good.
    """

    request_id: str
    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    clean_labels: bool | None = None
    keep_alive_s: float | None = None

    def __repr__(self) -> str:
        return (
            f"ChatRequest({self.request_id}, model={self.model or 'default'}, "
            f"{len(self.messages)} messages)"
        )


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may know of a model without loading it."""

    id: str
    name: str
    context_window: int
    available: bool
    is_default: bool = False
    loaded: bool = False
    created: int = 0
    size_bytes: int | None = None
    quantization: str | None = None
    sha256: str | None = None
    parameters: str | None = None
    architecture: str | None = None
    license: str | None = None
    source: str | None = None
    template: str | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
