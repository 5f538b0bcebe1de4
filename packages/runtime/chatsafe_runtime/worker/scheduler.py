"""Who runs next, who waits, who steps back: pure decisions, one step at a time.

Every sequence has tokens known and tokens computed, and the plan lets the second catch up with
the first; reading a prompt, making tokens and recomputing after a step back are the same thing.
What a running sequence knows is what it will occupy, so cells are never promised twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chatsafe_runtime.worker.engine import Limits

# Cells kept free for each running sequence when one more is let in, so that it does not have to
# step back a few tokens later.
HEADROOM_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one sequence is. A new one has num_computed 0."""

    seq: int
    num_known: int
    num_computed: int

    @property
    def is_decoding(self) -> bool:
        """Only its newest token is missing."""
        return self.num_known - self.num_computed == 1


@dataclass(frozen=True, slots=True)
class Work:
    """Compute the next `num_tokens` of a sequence."""

    seq: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do in one step, in this order: step back, let in, compute.

    `step_back`: youngest first; they lose their cells and wait again, before all others.
    """

    step_back: tuple[int, ...]
    let_in: tuple[int, ...]
    work: tuple[Work, ...]


def plan(
    running: Sequence[Progress],
    waiting: Sequence[Progress],
    limits: Limits,
    chunk_tokens: int,
) -> Plan:
    """The next step; both lists are in order of arrival.

    Each running sequence that only lacks its newest token gets it. What is left of the batch
    reads prompts, one after the other, at most `chunk_tokens` together.
    """
    staying = list(running)
    step_back: list[int] = []
    while len(staying) > 1 and _cells(staying) > limits.num_cells:
        step_back.append(staying.pop().seq)
    let_in: list[int] = []
    if not step_back:
        for progress in waiting:
            if len(staying) >= limits.max_parallel or not _fits(staying, progress, limits):
                break
            staying.append(progress)
            let_in.append(progress.seq)
    decoding = [progress for progress in staying if progress.is_decoding]
    budget = min(limits.batch_size - len(decoding), chunk_tokens)
    work = [Work(progress.seq, 1) for progress in decoding]
    for progress in staying:
        missing = progress.num_known - progress.num_computed
        if budget <= 0:
            break
        if missing > 1:
            work.append(Work(progress.seq, min(missing, budget)))
            budget -= min(missing, budget)
    return Plan(tuple(step_back), tuple(let_in), tuple(work))


def _cells(sequences: Sequence[Progress]) -> int:
    return sum(progress.num_known for progress in sequences)


def _fits(staying: Sequence[Progress], newcomer: Progress, limits: Limits) -> bool:
    # Alone it always fits: a prompt as long as the context window was refused before.
    if not staying:
        return True
    headroom = HEADROOM_TOKENS * (len(staying) + 1)
    return _cells(staying) + newcomer.num_known + headroom <= limits.num_cells
