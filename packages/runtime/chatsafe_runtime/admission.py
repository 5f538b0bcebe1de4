"""Who gets in, in front of one model: so many run, so many wait, the rest is refused at once."""

import math

from chatsafe_common.errors import QueueFull

# What an answer is taken to last before one has been measured.
FIRST_GUESS_S = 5.0
# Weight of the newest answer in the running average.
NEWEST_WEIGHT = 0.25


def retry_after_s(num_waiting: int, max_parallel: int, mean_duration_s: float) -> float:
    """Whole seconds after which asking again makes sense, 1..60.

    That is when about half of those who wait now have had their turn: coming back for the first
    free place would bring every refused caller back at the same moment.
    """
    turns = math.ceil((num_waiting + 1) / 2) / max_parallel
    return float(min(60, max(1, math.ceil(turns * mean_duration_s))))


class Admission:
    """Counts the chats open at one model: at most `max_parallel` running, `queue_size` waiting."""

    def __init__(self, max_parallel: int, queue_size: int) -> None:
        self.max_parallel = max_parallel
        self.queue_size = queue_size
        self.num_open = 0
        self.mean_duration_s = FIRST_GUESS_S

    def __repr__(self) -> str:
        return f"Admission({self.num_open} of {self.max_parallel}+{self.queue_size})"

    def enter(self) -> None:
        """Take a place. Raises QueueFull."""
        if self.num_open >= self.max_parallel + self.queue_size:
            wait_s = self.retry_after_s()
            raise QueueFull(
                f"The model is busy: {self.max_parallel} chats are being answered and "
                f"{max(0, self.num_open - self.max_parallel)} wait, which is as many as may wait. "
                f"Ask again in about {wait_s:.0f} s.",
                retry_after_s=wait_s,
            )
        self.num_open += 1

    def retry_after_s(self) -> float:
        """When a refused caller had better ask again, as things stand."""
        num_waiting = max(0, self.num_open - self.max_parallel)
        return retry_after_s(num_waiting, self.max_parallel, self.mean_duration_s)

    def leave(self) -> None:
        """Give the place back."""
        self.num_open -= 1

    def answered(self, duration_s: float) -> None:
        """Learn how long an answer ran (its wait is not part of it)."""
        self.mean_duration_s += NEWEST_WEIGHT * (duration_s - self.mean_duration_s)
