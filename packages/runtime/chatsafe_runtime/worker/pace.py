"""How much prompt one step may read, from how fast this machine has been reading.

A step is the longest that anybody waits for their next token, and the shortest unit in which the
daemon sees progress; so its size is a time, not a number of tokens.
"""

from typing import Final

# While others make tokens, a step should not hold them up longer than this.
SHARED_STEP_S: Final = 0.5
# Alone, only newcomers wait, for the word that they are admitted.
ALONE_STEP_S: Final = 2.0
MIN_CHUNK_TOKENS: Final = 32
# Before the first measurement.
FIRST_CHUNK_TOKENS: Final = 128
# Fewer tokens than this say nothing about reading: their time is that of loading the weights.
_MIN_SAMPLE_TOKENS: Final = 24
_NEWEST_WEIGHT: Final = 0.3


class Pace:
    """Remembers the seconds per prompt token."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._token_s: float | None = None

    def record(self, num_tokens: int, seconds: float) -> None:
        """One decode of `num_tokens` took `seconds`."""
        if num_tokens < _MIN_SAMPLE_TOKENS:
            return
        token_s = seconds / num_tokens
        if self._token_s is None:
            self._token_s = token_s
        else:
            self._token_s += _NEWEST_WEIGHT * (token_s - self._token_s)

    def chunk_tokens(self, *, is_shared: bool) -> int:
        """The most prompt tokens for the next step; `is_shared`: others decode in it."""
        if self._token_s is None:
            return min(FIRST_CHUNK_TOKENS, self._batch_size)
        step_s = SHARED_STEP_S if is_shared else ALONE_STEP_S
        tokens = int(step_s / max(self._token_s, 1e-9))
        return min(max(tokens, MIN_CHUNK_TOKENS), self._batch_size)
