"""Loop: every request ends once, cleanly and alone, whatever happens to the others."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.scripted_engine import TEMPLATE, EchoEngine

from chatsafe_common.chat import Message, Sampling
from chatsafe_runtime.channel import Admitted, Cancel, Delta, Done, Events, Refused, Submit
from chatsafe_runtime.worker.engine import Decoded, Limits, Slice
from chatsafe_runtime.worker.loop import Frame, Loop
from chatsafe_runtime.worker.prompt import Prompter
from chatsafe_runtime.worker.template import ChatTemplate

WINDOW = 100


class Bench:
    """A loop on the echo engine. `arrivals[n]` are the frames that wait before step n."""

    def __init__(
        self, *, windows: int = 4, max_parallel: int = 4, template: str = TEMPLATE
    ) -> None:
        self.engine = EchoEngine(
            Limits(
                context_window=WINDOW,
                num_cells=WINDOW * windows,
                max_parallel=max_parallel,
                batch_size=2 * max_parallel + 24,
            )
        )
        self.now = 0.0
        self.sent: list[Events] = []
        self.arrivals: dict[int, list[Frame]] = {}
        self.on_send: Callable[[Events], None] = lambda _events: None
        self._takes = 0
        chat_template = ChatTemplate(template, bos_text="<s>", eos_text="", context_window=WINDOW)
        self.loop = Loop(
            self.engine,
            Prompter(self.engine.vocabulary, chat_template, context_window=WINDOW),
            stop=("<|tool|>",),
            receive=self._take,
            send=self._keep,
            clock=lambda: self.now,
        )

    def _take(self, is_idle: bool) -> Sequence[Frame] | None:
        frames = self.arrivals.pop(self._takes, [])
        self._takes += 1
        while is_idle and not frames:
            if not self.arrivals:
                return None
            self._takes = min(self.arrivals)
            frames = self.arrivals.pop(self._takes)
            self._takes += 1
        self.now += 1.0
        return frames

    def _keep(self, events: Events) -> None:
        self.sent.append(events)
        self.on_send(events)

    def run(self, *frames: Frame) -> "Bench":
        self.arrivals.setdefault(0, []).extend(frames)
        self.loop.run()
        assert all(sampler.num_closed == 1 for sampler in self.engine.samplers)
        assert not any(self.engine.cells.values())
        return self

    def of(self, seq: int) -> list[Admitted | Delta | Done | Refused]:
        return [item for events in self.sent for item in events.items if item.seq == seq]

    def text(self, seq: int) -> str:
        return "".join(item.text for item in self.of(seq) if isinstance(item, Delta))

    def end(self, seq: int) -> Done | Refused:
        last = self.of(seq)[-1]
        assert isinstance(last, Done | Refused)
        return last

    def reason(self, seq: int) -> str:
        end = self.end(seq)
        return end.reason if isinstance(end, Done) else end.code


def ask(seq: int, text: str, **more: object) -> Submit:
    fields = {"sampling": Sampling(temperature=0.0), "max_tokens": None, **more}
    return Submit(seq, (Message("user", text),), **fields)  # type: ignore[arg-type]


def test_one_answer_from_admission_to_its_end() -> None:
    bench = Bench().run(ask(1, "Hé!"))
    first, *middle, last = bench.of(1)
    assert first == Admitted(1, 8)
    assert [item.text for item in middle if isinstance(item, Delta)] == ["H", "é", "!"]
    assert isinstance(last, Done)
    assert (last.reason, last.prompt_tokens, last.completion_tokens) == ("stop", 8, 4)
    assert (last.queue_s, last.prompt_s, last.decode_s) == (0.0, 0.0, 4.0)
    assert bench.sent[-1].num_running == bench.sent[-1].num_waiting == 0
    assert not bench.sent[-1].prefilling


def test_several_are_decoded_together_in_one_frame_a_step() -> None:
    bench = Bench().run(ask(1, "abcd"), ask(2, "efgh"), ask(3, "ijkl"))
    assert [bench.text(seq) for seq in (1, 2, 3)] == ["abcd", "efgh", "ijkl"]
    assert any(len(events.items) == 3 for events in bench.sent)
    assert len(bench.sent) <= 8


def test_admission_is_said_before_the_prompt_is_read() -> None:
    bench = Bench().run(ask(1, "a" * 60))
    assert bench.sent[0].items == (Admitted(1, 64),)
    assert bench.sent[0].prefilling
    assert bench.sent[0].num_waiting == 1


@pytest.mark.parametrize(
    ("max_tokens", "text", "reason"),
    [(2, "ab", "length"), (4, "abcd", "length"), (5, "abcd", "stop")],
)
def test_the_cap_on_tokens(max_tokens: int, text: str, reason: str) -> None:
    bench = Bench().run(ask(1, "abcd", max_tokens=max_tokens))
    assert (bench.text(1), bench.reason(1)) == (text, reason)
    end = bench.end(1)
    assert isinstance(end, Done)
    assert end.completion_tokens == len(text)


def test_the_window_ends_an_answer() -> None:
    prompt = WINDOW - 10
    bench = Bench().run(ask(1, "x" * (prompt - 4)))
    assert (bench.text(1), bench.reason(1)) == ("x" * 10, "length")


@pytest.mark.parametrize(("length", "fits"), [(WINDOW - 5, True), (WINDOW - 4, False)])
def test_a_prompt_at_and_over_the_window(length: int, fits: bool) -> None:
    bench = Bench().run(ask(1, "x" * length), ask(2, "ok"))
    assert bench.text(2) == "ok"
    if fits:
        assert (bench.text(1), bench.reason(1)) == ("x", "length")
    else:
        end = bench.end(1)
        assert isinstance(end, Refused)
        assert (end.code, end.prompt_tokens) == ("context_length_exceeded", WINDOW)
        assert f"maximum context length is {WINDOW} tokens" in end.message


def test_a_stop_sequence_is_cut_out() -> None:
    bench = Bench().run(ask(1, "one STOP two", stop=(" STOP",)))
    assert (bench.text(1), bench.reason(1)) == ("one", "stop")


def test_a_stop_that_begins_at_the_cap_is_shown_when_it_does_not_complete() -> None:
    bench = Bench().run(ask(1, "one STOP", stop=(" STOP",), max_tokens=5))
    assert (bench.text(1), bench.reason(1)) == ("one S", "length")


def test_labels_are_cleaned_only_when_asked() -> None:
    bench = Bench().run(ask(1, "AI: yes", clean_labels=True), ask(2, "AI: yes"))
    assert (bench.text(1), bench.text(2)) == ("yes", "AI: yes")


def test_an_invented_turn_ends_the_answer() -> None:
    bench = Bench().run(ask(1, "yes\nUser: no", clean_labels=True))
    assert (bench.text(1), bench.reason(1)) == ("yes", "stop")


def test_cancel_frees_the_slot_at_the_next_step() -> None:
    bench = Bench(max_parallel=1)
    bench.arrivals[3] = [Cancel(1), Cancel(99)]
    bench.run(ask(1, "a" * 40), ask(2, "bc"))
    assert not any(isinstance(item, Done | Refused) for item in bench.of(1))
    assert len(bench.engine.batches) < 12
    assert bench.text(2) == "bc"


def test_a_waiting_one_can_be_cancelled() -> None:
    bench = Bench(max_parallel=1)
    bench.arrivals[2] = [Cancel(2)]
    bench.run(ask(1, "abcdef"), ask(2, "never"))
    assert bench.of(2) == [Admitted(2, 9)]


def test_who_waits_too_long_is_refused() -> None:
    bench = Bench(max_parallel=1).run(
        ask(1, "a" * 20), ask(2, "late", queue_timeout_s=5.0), ask(3, "patient")
    )
    assert bench.reason(2) == "queue_timeout"
    assert bench.text(3) == "patient"
    end = bench.end(3)
    assert isinstance(end, Done)
    assert end.queue_s > 5


def test_when_cells_run_out_the_youngest_steps_back_and_loses_no_text() -> None:
    bench = Bench(windows=1)
    texts = {1: "a" * 30, 2: "b" * 30}
    bench.run(*(ask(seq, text) for seq, text in texts.items()))
    assert {seq: bench.text(seq) for seq in texts} == texts
    beginnings = [
        part
        for batch in bench.engine.batches
        for part in batch
        if part.start == 0 and ord("b") in part.tokens
    ]
    assert len(beginnings) == 2


def test_an_unknown_bias_is_refused() -> None:
    bench = Bench().run(ask(1, "a", sampling=Sampling(logit_bias=((260, 1.0),))), ask(2, "b"))
    assert bench.reason(1) == "invalid_value"
    assert bench.text(2) == "b"


def test_what_the_template_refuses_is_passed_on() -> None:
    bench = Bench(template="{{ raise_exception('no chats today') }}").run(ask(1, "a"))
    end = bench.end(1)
    assert isinstance(end, Refused)
    assert end.code == "invalid_value"
    assert "no chats today" in end.message


def test_a_template_that_fails_is_a_reason_too() -> None:
    bench = Bench(template="{{ 1 / (messages|length - 1) }}").run(ask(1, "a"))
    assert bench.reason(1) == "invalid_value"


def test_one_that_breaks_is_refused_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench()

    def break_first(slot: int) -> None:
        if ord("c") in bench.engine.cells[slot] and len(bench.engine.batches) > 3:
            raise RuntimeError("canary")

    bench.engine.on_sample = break_first
    bench.run(ask(1, "canary"), ask(2, "hello you"))
    assert bench.reason(1) == "internal_error"
    assert bench.text(2) == "hello you"
    assert "canary" not in capsys.readouterr().err
    assert "canary" not in str(bench.end(1))


@pytest.mark.parametrize("can_cut", [True, False])
@pytest.mark.parametrize("failure", [Decoded.FAILED, Decoded.FULL])
def test_only_the_one_that_cannot_be_computed_is_refused(failure: Decoded, can_cut: bool) -> None:
    bench = Bench()
    bench.engine.can_cut = can_cut

    def fail(slices: Sequence[Slice]) -> Decoded:
        is_bad = any(ord("?") in part.tokens for part in slices)
        return failure if is_bad else Decoded.DONE

    bench.engine.on_decode = fail
    bench.arrivals[4] = [ask(2, "bad?"), ask(3, "fine")]
    bench.run(ask(1, "hello you"))
    assert (bench.text(1), bench.text(3)) == ("hello you", "fine")
    assert bench.reason(2) == "internal_error"


@pytest.mark.parametrize("can_cut", [True, False])
def test_an_interrupted_step_is_done_again(can_cut: bool) -> None:
    bench = Bench()
    bench.engine.can_cut = can_cut
    results = {1: Decoded.INTERRUPTED, 4: Decoded.INTERRUPTED, 9: Decoded.INTERRUPTED}
    bench.engine.on_decode = lambda _slices: results.get(len(bench.engine.batches), Decoded.DONE)
    bench.run(ask(1, "hello"), ask(2, "a" * 45))
    assert (bench.text(1), bench.text(2)) == ("hello", "a" * 45)


def test_which_prompts_are_being_read_is_known_outside() -> None:
    bench = Bench()
    seen: list[tuple[bool, bool]] = []

    def look(_slices: Sequence[Slice]) -> Decoded:
        seen.append((bench.loop.is_reading(1), bench.loop.is_reading(2)))
        return Decoded.DONE

    bench.engine.on_decode = look
    bench.arrivals[1] = [ask(2, "b" * 60)]
    bench.run(ask(1, "abc"))
    assert seen[:2] == [(True, False), (False, True)]
    assert not bench.loop.is_reading(2)


texts = st.text("ab é", min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(texts, st.integers(0, 12), st.none() | st.integers(0, 20)), max_size=7),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_everybody_gets_their_own_answer(
    asked: list[tuple[str, int, int | None]], windows: int, max_parallel: int
) -> None:
    bench = Bench(windows=min(windows, max_parallel), max_parallel=max_parallel)
    for seq, (text, at, cancelled_after) in enumerate(asked):
        bench.arrivals.setdefault(at, []).append(ask(seq, text))
        if cancelled_after is not None:
            bench.arrivals.setdefault(at + cancelled_after, []).append(Cancel(seq))
    bench.run()
    for seq, (text, _, cancelled_after) in enumerate(asked):
        core = text[: WINDOW - 4]
        assert core.startswith(bench.text(seq))
        ends = [item for item in bench.of(seq) if isinstance(item, Done | Refused)]
        if cancelled_after is None:
            assert len(ends) == 1
            assert bench.reason(seq) == ("stop" if len(text.encode()) <= 47 else "length")
            assert bench.text(seq) == text or bench.reason(seq) == "length"
        else:
            assert len(ends) <= 1
