"""StopMatcher: ends an answer at a stop sequence and never lets out a part of one.

The cut is at the earliest position of any stop, so a match is only believed once no stop that
began earlier can still complete: any split of the same text gives the same output. Held back is
at most the longest suffix that could still become a stop.
"""

from collections.abc import Sequence


class StopMatcher:
    """Text in, text that is safe to show out, until a stop is met."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """More text of the answer; returns what may be shown. Nothing comes after a stop."""
        if self.is_stopped:
            return ""
        self._held += text
        match = self._find_match()
        pending = self._find_pending()
        if match is not None and (pending is None or match <= pending):
            return self._stop_at(match)
        return self._release(len(self._held) if pending is None else pending)

    def flush(self) -> str:
        """The answer has ended: what was held back, up to a stop that it contains."""
        if self.is_stopped:
            return ""
        match = self._find_match()
        return self._release(len(self._held)) if match is None else self._stop_at(match)

    def _find_match(self) -> int | None:
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        return min(found, default=None)

    def _find_pending(self) -> int | None:
        """Where the longest suffix begins that is the beginning of a stop, but not all of it."""
        size = len(self._held)
        for at in range(max(0, size - self._longest + 1), size):
            tail = self._held[at:]
            if any(len(stop) > len(tail) and stop.startswith(tail) for stop in self._stops):
                return at
        return None

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _stop_at(self, length: int) -> str:
        self.is_stopped = True
        text, self._held = self._held[:length], ""
        return text
