"""Counts and times of chats, never their content; in memory only.

`Metered` wraps a `Backend` and measures generations; the HTTP side reports requests, streams and
errors. `as_json` is the JSON view with the names of earlier releases; `prometheus.py` has the
other view. Model labels are ids that a backend answered with, at most `MAX_MODELS` of them.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Literal

from chatsafe_common.backend import Backend, EventStream
from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.events import Finished, Started, TextDelta
from chatsafe_local_api.errors import TABLE, Category

MAX_SAMPLES = 10_000
MAX_MODELS = 100
OTHER_MODEL = "other"
# Seconds. First tokens come within 50 ms on a warm small model and after a minute on a cold one.
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

# "refused": before the reply began. "cancelled": the client left.
Outcome = Literal["completed", "failed", "cancelled", "refused"]
Clock = Callable[[], float]

_CATEGORIES: tuple[Category, ...] = (
    "BadRequest",
    "RateLimited",
    "Timeout",
    "Cancelled",
    "Unavailable",
    "Internal",
)
_RATE_SCOPES = {"rate_limit_exceeded": "rate", "concurrency_limit_exceeded": "concurrency"}


class Series:
    """Durations in seconds: the last `MAX_SAMPLES` for percentiles, all of them in buckets."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)
        self.count = 0
        self.total_s = 0.0
        self.num_up_to = [0] * len(BUCKETS_S)

    def __repr__(self) -> str:
        return f"Series({self.count} samples)"

    def add(self, seconds: float) -> None:
        self._samples.append(seconds)
        self.count += 1
        self.total_s += seconds
        for index, limit in enumerate(BUCKETS_S):
            if seconds <= limit:
                self.num_up_to[index] += 1

    def percentiles_ms(self, *wanted: int) -> list[float]:
        """For each p the value at floor(p/100 * (n - 1)) in order; 0 when there is none."""
        ordered = sorted(self._samples)
        if not ordered:
            return [0.0 for _ in wanted]
        last = len(ordered) - 1
        return [round(ordered[math.floor(p * last / 100)] * 1000, 3) for p in wanted]


class Metrics:
    """The numbers of one daemon's life."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self.total_requests = 0
        self.num_by_mode: Counter[str] = Counter()
        self.active_requests = 0
        self.active_streams = 0
        self.num_streams_by_outcome: Counter[str] = Counter()
        self.num_cancelled = 0
        self.total_chunks_sent = 0
        self.num_by_code: Counter[str] = Counter()
        self.num_by_model: Counter[str] = Counter()
        self.total_prompt_tokens = 0
        self.total_completion_tokens = 0
        self.decode_s = 0.0
        self.first_token = Series()
        self.duration = Series()

    def __repr__(self) -> str:
        return f"Metrics({self.total_requests} requests, {self.active_requests} active)"

    @property
    def uptime_s(self) -> float:
        return self._clock() - self._started_at

    def now(self) -> float:
        return self._clock()

    def count_request(self) -> None:
        """A chat request has arrived, good or bad."""
        self.total_requests += 1

    def begin_answer(self, *, is_stream: bool) -> None:
        self.num_by_mode["stream" if is_stream else "json"] += 1
        self.active_requests += 1
        self.active_streams += is_stream

    def end_answer(self, *, is_stream: bool, outcome: Outcome, duration_s: float) -> None:
        self.active_requests -= 1
        self.active_streams -= is_stream
        if is_stream:
            self.num_streams_by_outcome[outcome] += 1
        if outcome == "cancelled":
            self.num_cancelled += 1
        if outcome != "refused":
            self.duration.add(duration_s)

    def count_chunks(self, number: int) -> None:
        self.total_chunks_sent += number

    def count_error(self, code: str) -> None:
        """One refusal or break, as it is told to the client."""
        self.num_by_code[code] += 1
        if code == "model_not_found":
            self._count_model(OTHER_MODEL)

    def count_model(self, model: str) -> None:
        """`model` is the id a backend answered with, never one that a client wrote."""
        is_new = model not in self.num_by_model
        self._count_model(OTHER_MODEL if is_new and len(self.num_by_model) >= MAX_MODELS else model)

    def _count_model(self, label: str) -> None:
        self.num_by_model[label] += 1

    def count_generation(self, finished: Finished) -> None:
        self.total_prompt_tokens += finished.usage.prompt_tokens
        self.total_completion_tokens += finished.usage.completion_tokens
        self.decode_s += finished.timings.decode_s

    @property
    def tokens_per_second(self) -> float:
        return self.total_completion_tokens / self.decode_s if self.decode_s > 0 else 0.0

    @property
    def num_by_category(self) -> dict[Category, int]:
        found: dict[Category, int] = dict.fromkeys(_CATEGORIES, 0)
        for code, number in self.num_by_code.items():
            found[TABLE[code].category] += number
        found["Cancelled"] += self.num_cancelled
        return found

    @property
    def num_refused_by_scope(self) -> dict[str, int]:
        """Refusals of the limiter: "rate" and "concurrency"."""
        return {scope: self.num_by_code[code] for code, scope in _RATE_SCOPES.items()}

    @property
    def num_timed_out(self) -> int:
        return self.num_by_category["Timeout"]

    def as_json(self, timestamp: float) -> dict[str, object]:
        """Both families of names that earlier releases used; `timestamp` is unix time."""
        first50, first90, first95, first99 = self.first_token.percentiles_ms(50, 90, 95, 99)
        took50, took90, took95, took99 = self.duration.percentiles_ms(50, 90, 95, 99)
        speed = round(self.tokens_per_second, 2)
        outcomes = self.num_streams_by_outcome
        return {
            "timestamp": round(timestamp, 3),
            "uptime_seconds": round(self.uptime_s, 3),
            "total_requests": self.total_requests,
            "streaming_requests": self.num_by_mode["stream"],
            "non_streaming_requests": self.num_by_mode["json"],
            "active_requests": self.active_requests,
            "active_streams": self.active_streams,
            "completed_streams": outcomes["completed"],
            "failed_streams": outcomes["failed"],
            "dropped_frames": 0,  # a slow reader makes its own answer wait; nothing is dropped
            "total_chunks_sent": self.total_chunks_sent,
            "first_token_latency_p50_ms": first50,
            "first_token_latency_p95_ms": first95,
            "first_token_latency_p99_ms": first99,
            "p50_first_token_ms": first50,
            "p90_first_token_ms": first90,
            "p99_first_token_ms": first99,
            "request_duration_p50_ms": took50,
            "request_duration_p95_ms": took95,
            "request_duration_p99_ms": took99,
            "p50_request_duration_ms": took50,
            "p90_request_duration_ms": took90,
            "p99_request_duration_ms": took99,
            "total_prompt_tokens": self.total_prompt_tokens,
            "total_completion_tokens": self.total_completion_tokens,
            "average_tokens_per_second": speed,
            "avg_tokens_per_second": speed,
            "errors_by_category": self.num_by_category,
            "errors_by_type": dict(self.num_by_code),
            "total_errors": self.num_by_code.total(),
            "cancelled_requests": self.num_cancelled,
            "timed_out_requests": self.num_timed_out,
            "rate_limit_hits": sum(self.num_refused_by_scope.values()),
            "requests_by_model": dict(self.num_by_model),
        }


class Metered:
    """A `Backend` that answers as the wrapped one does, and counts."""

    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics

    def __repr__(self) -> str:
        return f"Metered({self._backend!r})"

    async def models(self) -> Sequence[ModelCard]:
        return await self._backend.models()

    async def generate(self, request: ChatRequest) -> EventStream:
        began_at = self._metrics.now()
        has_text = False
        async with aclosing(self._backend.generate(request)) as events:
            async for event in events:
                match event:
                    case Started(model=model):
                        self._metrics.count_model(model)
                    case TextDelta() if not has_text:
                        has_text = True
                        self._metrics.first_token.add(self._metrics.now() - began_at)
                    case Finished():
                        self._metrics.count_generation(event)
                    case _:
                        pass
                yield event
