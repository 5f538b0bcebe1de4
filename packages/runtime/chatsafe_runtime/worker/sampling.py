"""Request parameters to a sampler chain: which steps, in which order. Pure.

The order is llama.cpp's own: bias, penalties, top-k, typical, top-p, min-p, temperature, draw.
Steps without an effect are left out, since each one walks the whole vocabulary.

All penalties count generated text only. The OpenAI dialect says so for presence and frequency;
for `repeat_penalty` other servers count the prompt's tail too, which punishes repeating a name or
command from the question and, worse, the end-of-turn token in the chat markup, so answers run on.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from chatsafe_common.chat import Sampling

REPEAT_WINDOW_TOKENS: Final = 64
# The engine reads this seed as "draw one yourself", which would make it unrepeatable.
_RESERVED_SEED: Final = 0xFFFFFFFF
_GREEDY_BELOW: Final = 1e-6


class UnknownToken(ValueError):
    """`logit_bias` names a token that the model does not have."""


@dataclass(frozen=True, slots=True)
class LogitBias:
    """Added to the logits of the named tokens; -100 and below bans them."""

    biases: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Penalties:
    """Makes the last `window` generated tokens less likely."""

    window: int
    repeat: float
    frequency: float
    presence: float


@dataclass(frozen=True, slots=True)
class TopK:
    """Keeps the k best tokens."""

    k: int


@dataclass(frozen=True, slots=True)
class TypicalP:
    """Keeps tokens of nearly typical information content, up to mass p."""

    p: float


@dataclass(frozen=True, slots=True)
class TopP:
    """Keeps the best tokens up to mass p."""

    p: float


@dataclass(frozen=True, slots=True)
class MinP:
    """Keeps tokens at least p times as likely as the best one."""

    p: float


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides the logits."""

    t: float


@dataclass(frozen=True, slots=True)
class Greedy:
    """Takes the best token."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws by likelihood."""

    seed: int


Step = LogitBias | Penalties | TopK | TypicalP | TopP | MinP | Temperature | Greedy | Draw


def sampler_steps(sampling: Sampling, vocabulary_size: int, max_tokens: int) -> tuple[Step, ...]:
    """The steps for one answer of at most `max_tokens`; what is None there has no effect.

    Raises UnknownToken when a bias names a token outside the vocabulary.
    """
    steps: list[Step] = []
    if sampling.logit_bias:
        for token, _ in sampling.logit_bias:
            if not 0 <= token < vocabulary_size:
                raise UnknownToken(
                    f"logit_bias names token {token}, but this model's tokens are 0 to "
                    f"{vocabulary_size - 1}. Use ids of this model's own vocabulary."
                )
        steps.append(LogitBias(sampling.logit_bias))
    repeat = 1.0 if sampling.repeat_penalty is None else sampling.repeat_penalty
    if repeat != 1.0:
        steps.append(Penalties(REPEAT_WINDOW_TOKENS, repeat, 0.0, 0.0))
    frequency, presence = sampling.frequency_penalty or 0.0, sampling.presence_penalty or 0.0
    if frequency or presence:
        steps.append(Penalties(max(1, max_tokens), 1.0, frequency, presence))
    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    if temperature < _GREEDY_BELOW or sampling.top_p == 0 or sampling.top_k == 1:
        return (*steps, Greedy())
    if sampling.top_k:
        steps.append(TopK(min(sampling.top_k, vocabulary_size)))
    if sampling.typical_p is not None and sampling.typical_p < 1:
        steps.append(TypicalP(sampling.typical_p))
    if sampling.top_p is not None and sampling.top_p < 1:
        steps.append(TopP(sampling.top_p))
    if sampling.min_p:
        steps.append(MinP(sampling.min_p))
    if temperature != 1.0:
        steps.append(Temperature(temperature))
    return (*steps, Draw(engine_seed(sampling.seed)))


def engine_seed(seed: int | None) -> int:
    """Any 64-bit seed as the engine's 32 bits; None draws one."""
    if seed is None:
        return secrets.randbelow(_RESERVED_SEED)
    unsigned = seed & 0xFFFFFFFFFFFFFFFF
    folded = (unsigned ^ (unsigned >> 32)) & 0xFFFFFFFF
    return 0 if folded == _RESERVED_SEED else folded
