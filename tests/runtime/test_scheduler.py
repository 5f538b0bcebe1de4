"""plan: cells are never promised twice, order of arrival, nobody starves, everybody ends."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from chatsafe_runtime.worker.engine import Limits
from chatsafe_runtime.worker.scheduler import Plan, Progress, Work, plan

LIMITS = Limits(context_window=100, num_cells=200, max_parallel=4, batch_size=32)


def test_decoding_first_then_the_oldest_prompt_then_the_next() -> None:
    running = [Progress(1, 20, 19), Progress(2, 50, 10)]
    waiting = [Progress(3, 9, 0), Progress(4, 9, 0)]
    assert plan(running, waiting, LIMITS, 32) == Plan((), (3, 4), (Work(1, 1), Work(2, 31)))
    assert plan(running, waiting, LIMITS, 8) == Plan((), (3, 4), (Work(1, 1), Work(2, 8)))
    nearly = [Progress(1, 20, 19), Progress(2, 50, 40)]
    assert plan(nearly, waiting, LIMITS, 32).work == (
        Work(1, 1),
        Work(2, 10),
        Work(3, 9),
        Work(4, 9),
    )


def test_who_does_not_fit_waits_and_nobody_overtakes() -> None:
    running = [Progress(1, 90, 90 - 1)]
    waiting = [Progress(2, 90, 0), Progress(3, 5, 0)]
    assert plan(running, waiting, LIMITS, 32) == Plan((), (), (Work(1, 1),))


def test_no_slot_no_entry() -> None:
    running = [Progress(seq, 2, 1) for seq in range(4)]
    assert plan(running, [Progress(9, 2, 0)], LIMITS, 32).let_in == ()


def test_the_youngest_steps_back_when_cells_run_out() -> None:
    running = [Progress(1, 99, 98), Progress(2, 99, 98), Progress(3, 30, 5)]
    chosen = plan(running, [Progress(4, 1, 0)], LIMITS, 32)
    assert chosen == Plan((3,), (), (Work(1, 1), Work(2, 1)))


def test_one_alone_always_runs() -> None:
    tight = Limits(context_window=100, num_cells=100, max_parallel=4, batch_size=32)
    chosen = plan([], [Progress(1, 99, 0), Progress(2, 99, 0)], tight, 32)
    assert chosen == Plan((), (1,), (Work(1, 32),))


@dataclass
class Chat:
    """One request as the simulation sees it."""

    seq: int
    num_known: int
    num_missing: int  # tokens it will still make
    num_computed: int = 0

    def progress(self) -> Progress:
        return Progress(self.seq, self.num_known, self.num_computed)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Limits, list[Chat]]:
    window = draw(st.integers(2, 60))
    max_parallel = draw(st.integers(1, 5))
    limits = Limits(
        context_window=window,
        num_cells=window * draw(st.integers(1, max_parallel)) + draw(st.integers(0, 9)),
        max_parallel=max_parallel,
        batch_size=2 * max_parallel + draw(st.integers(0, 20)),
    )
    chats = []
    for seq in range(draw(st.integers(1, 9))):
        prompt = draw(st.integers(1, window - 1))
        chats.append(Chat(seq, prompt, draw(st.integers(1, window - prompt))))
    return limits, chats


@given(situations(), st.integers(1, 40))
def test_every_chat_ends_in_order_and_within_the_cells(
    situation: tuple[Limits, list[Chat]], chunk: int
) -> None:
    limits, waiting = situation
    running: list[Chat] = []
    first_let_in: list[int] = []
    num_left = len(waiting)
    num_steps = 0
    while running or waiting:
        num_steps += 1
        assert num_steps < 20_000
        chosen = plan(
            [chat.progress() for chat in running],
            [chat.progress() for chat in waiting],
            limits,
            chunk,
        )
        for seq in chosen.step_back:
            assert running[-1].seq == seq
            chat = running.pop()
            chat.num_computed = 0
            waiting.insert(0, chat)
        for seq in chosen.let_in:
            assert waiting[0].seq == seq
            running.append(waiting.pop(0))
            if seq not in first_let_in:
                first_let_in.append(seq)
        by_seq = {chat.seq: chat for chat in running}
        was_decoding = {chat.seq for chat in running if chat.progress().is_decoding}
        assert chosen.work
        assert was_decoding <= {work.seq for work in chosen.work}
        assert sum(work.num_tokens for work in chosen.work) <= limits.batch_size
        reading = [work for work in chosen.work if work.seq not in was_decoding]
        assert sum(work.num_tokens for work in reading) <= chunk
        for work in chosen.work:
            chat = by_seq[work.seq]
            chat.num_computed += work.num_tokens
            assert chat.num_computed <= chat.num_known
        assert sum(chat.num_computed for chat in running) <= limits.num_cells
        assert len(running) <= limits.max_parallel
        for chat in list(running):
            if chat.num_computed == chat.num_known:
                chat.num_missing -= 1
                chat.num_known += 1
                if chat.num_missing == 0:
                    running.remove(chat)
                    num_left -= 1
    assert num_left == 0
    assert first_let_in == sorted(first_let_in)
