"""When a crashed worker may be started again, and when to give up: pure, time comes in."""

from collections import deque

MAX_CRASHES = 5
WINDOW_S = 600.0
FIRST_DELAY_S = 0.5
LAST_DELAY_S = 30.0


class Restarts:
    """The crashes of one model's workers, in a row: an answer that ends well clears them.

    A worker that answers and is then killed from outside is not a broken model, so it never adds
    up to giving up. Times are seconds of any steady clock.
    """

    def __init__(self) -> None:
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)

    def __repr__(self) -> str:
        return f"Restarts({len(self._crashes)} crashes)"

    def crashed(self, now: float) -> bool:
        """Note a crash. True: that was the last one, give up."""
        self._crashes.append(now)
        return len(self._crashes) == MAX_CRASHES and now - self._crashes[0] <= WINDOW_S

    def reset(self) -> None:
        """Forget all crashes."""
        self._crashes.clear()

    def delay_s(self, now: float) -> float:
        """Seconds from now until the next start is allowed: 0.5, 2, 8, 30 after each crash."""
        recent = [crash for crash in self._crashes if now - crash <= WINDOW_S]
        if not recent:
            return 0.0
        pause = min(LAST_DELAY_S, FIRST_DELAY_S * 4.0 ** (len(recent) - 1))
        return max(0.0, recent[-1] + pause - now)
