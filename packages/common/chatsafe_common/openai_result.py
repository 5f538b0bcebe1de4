"""What goes back in the OpenAI dialect: results, stream chunks and the model list as JSON values.

Key order is the order in which a person reads. Absent delta keys are left out, not null.
"""

from collections.abc import Sequence

import msgspec

from chatsafe_common.chat import ModelCard
from chatsafe_common.events import FinishReason, Timings, Usage

Json = dict[str, object]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What all chunks of a stream have in common; `created` in unix seconds."""

    id: str
    created: int
    model: str
    fingerprint: str | None = None
    has_usage: bool = False  # the last chunk brings usage, so the others say null

    def chunk(self, choices: list[Json]) -> Json:
        document = self._head("chat.completion.chunk") | {"choices": choices}
        return document | {"usage": None} if self.has_usage else document

    def role(self, index: int) -> Json:
        """The first chunk of one choice."""
        return self.chunk([_choice(index, {"role": "assistant", "content": ""}, None)])

    def text(self, index: int, text: str) -> Json:
        return self.chunk([_choice(index, {"content": text}, None)])

    def finish(self, index: int, reason: FinishReason) -> Json:
        return self.chunk([_choice(index, {}, reason)])

    def usage(self, usage: Usage, timings: Timings) -> Json:
        """The chunk after the last choice has ended."""
        return self.chunk([]) | {
            "usage": usage_json(usage),
            "timings": timings_json(timings, usage),
        }

    def result(
        self, answers: Sequence[tuple[str, FinishReason]], usage: Usage, timings: Timings
    ) -> Json:
        """The whole reply of a request that is not streamed."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": reason,
                "logprobs": None,
            }
            for index, (text, reason) in enumerate(answers)
        ]
        return self._head("chat.completion") | {
            "choices": choices,
            "usage": usage_json(usage),
            "service_tier": "default",
            "timings": timings_json(timings, usage),
        }

    def _head(self, kind: str) -> Json:
        head: Json = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return head | {"system_fingerprint": self.fingerprint} if self.fingerprint else head


def _choice(index: int, delta: Json, reason: FinishReason | None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def usage_json(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
            "audio_tokens": 0,
        },
    }


def timings_json(timings: Timings, usage: Usage) -> Json:
    """Seconds; tokens per second of the decoding alone."""
    return {
        "queue_s": round(timings.queue_s, 4),
        "prompt_s": round(timings.prompt_s, 4),
        "decode_s": round(timings.decode_s, 4),
        "tokens_per_second": round(timings.tokens_per_second(usage.completion_tokens), 2),
    }


def model_json(card: ModelCard) -> Json:
    """One entry of `GET /v1/models`."""
    state = "loaded" if card.loaded else "available" if card.available else "missing"
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "local",
        "chatsafe": {
            "state": state,
            "name": card.name,
            "available": card.available,
            "loaded": card.loaded,
            "default": card.is_default,
            "context_length": card.context_window,
            "capabilities": ["chat"],
            "size_bytes": card.size_bytes,
            "sha256": card.sha256,
            "quantization": card.quantization,
            "parameters": card.parameters,
            "architecture": card.architecture,
            "license": card.license,
            "source": card.source,
            "template": card.template,
            "route": "local",
            "privacy": "local",
        },
    }
