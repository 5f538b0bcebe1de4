"""Fair shares: token buckets and counters of running chats, per caller and in all.

Pure: the clock is passed in. A caller is whatever string tells callers apart. Order of the checks:
running chats, then the caller's bucket, then everybody's; a later refusal gives back what the
earlier checks took.
"""

import math
from dataclasses import dataclass

from chatsafe_common.errors import (
    ChatSafeError,
    ConcurrencyLimitExceeded,
    RateLimitExceeded,
)

# How often callers that are gone are forgotten, and after how much silence.
SWEEP_EVERY_S = 60.0
FORGET_AFTER_S = 300.0
# Tokens that filled up in several steps miss a whole one by this much at most.
_ROUNDING = 1e-6


class Bucket:
    """Holds up to `capacity` tokens and fills from empty to full in a minute."""

    def __init__(self, capacity: int, now: float) -> None:
        self.capacity = capacity
        self.tokens = float(capacity)
        self._filled_at = now

    def __repr__(self) -> str:
        return f"Bucket({self.tokens:.1f} of {self.capacity})"

    def take(self, now: float) -> float:
        """0.0 when a token was taken, else the seconds until there is one."""
        # A clock that steps back must not drain the bucket.
        elapsed_s = max(0.0, now - self._filled_at)
        self._filled_at = max(self._filled_at, now)
        self.tokens = min(float(self.capacity), self.tokens + elapsed_s * self.capacity / 60)
        if self.tokens < 1 - _ROUNDING:
            return (1 - self.tokens) * 60 / self.capacity
        self.tokens = max(0.0, self.tokens - 1)
        return 0.0

    def give_back(self) -> None:
        self.tokens = min(float(self.capacity), self.tokens + 1)


@dataclass(slots=True)
class _Caller:
    bucket: Bucket
    num_running: int
    seen_at: float


class Limiter:
    """Admits chats and counts them until they are released; a limit of 0 is off."""

    def __init__(
        self,
        *,
        per_caller_per_minute: int,
        max_concurrent_per_caller: int,
        global_per_minute: int,
        now: float,
    ) -> None:
        self._per_minute = per_caller_per_minute
        self._max_concurrent = max_concurrent_per_caller
        self._everybody = Bucket(global_per_minute, now) if global_per_minute else None
        self._callers: dict[str, _Caller] = {}
        self._swept_at = now

    def __repr__(self) -> str:
        return f"Limiter({len(self._callers)} callers, {self.num_running} running)"

    @property
    def num_running(self) -> int:
        return sum(caller.num_running for caller in self._callers.values())

    @property
    def num_callers(self) -> int:
        return len(self._callers)

    def admit(self, name: str, now: float) -> ChatSafeError | None:
        """None when admitted: the caller then owes one `release`. Else the refusal to send."""
        self._sweep(now)
        caller = self._callers.get(name)
        if caller is None:
            caller = _Caller(Bucket(max(1, self._per_minute), now), 0, now)
            self._callers[name] = caller
        caller.seen_at = now
        if self._max_concurrent and caller.num_running >= self._max_concurrent:
            return ConcurrencyLimitExceeded(
                f"You have {caller.num_running} chats running, and the limit is "
                f"{self._max_concurrent} at once. Wait for one to end "
                "(setting: limits.max_concurrent_per_ip).",
                retry_after_s=1,
            )
        if self._per_minute and (wait_s := caller.bucket.take(now)):
            return _too_many(self._per_minute, wait_s, "limits.per_ip_per_minute")
        if self._everybody is not None and (wait_s := self._everybody.take(now)):
            caller.bucket.give_back()
            return _too_many(self._everybody.capacity, wait_s, "limits.global_per_minute")
        caller.num_running += 1
        return None

    def release(self, name: str, now: float) -> None:
        """Gives back the place of one admitted chat."""
        caller = self._callers[name]
        if caller.num_running < 1:
            raise AssertionError("released more often than admitted")
        caller.num_running -= 1
        caller.seen_at = now

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = now
        for name in [
            name
            for name, caller in self._callers.items()
            if not caller.num_running and now - caller.seen_at >= FORGET_AFTER_S
        ]:
            del self._callers[name]


def _too_many(limit: int, wait_s: float, setting: str) -> RateLimitExceeded:
    seconds = math.ceil(wait_s)
    return RateLimitExceeded(
        f"Rate limit exceeded: {limit} chats a minute. Try again in {seconds} s "
        f"(setting: {setting}).",
        retry_after_s=seconds,
    )
