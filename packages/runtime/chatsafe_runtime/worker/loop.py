"""The step loop: admit, plan, decode, sample, deliver, for all sequences together.

One thread. It blocks on the inbox while nothing runs, and between two steps handles whatever has
arrived. Text leaves it only inside frames.
"""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatsafe_common.errors import (
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    QueueTimeout,
)
from chatsafe_common.events import FinishReason
from chatsafe_runtime.channel import (
    Admitted,
    Cancel,
    Delta,
    Done,
    Events,
    Refused,
    SequenceEvent,
    Submit,
)
from chatsafe_runtime.worker.answer import Answer
from chatsafe_runtime.worker.engine import Decoded, Engine, Sampler, Slice
from chatsafe_runtime.worker.pace import Pace
from chatsafe_runtime.worker.prompt import Prompter, PromptTooLong
from chatsafe_runtime.worker.sampling import UnknownToken, sampler_steps
from chatsafe_runtime.worker.scheduler import Progress, plan
from chatsafe_runtime.worker.template import TemplateFailed, TemplateRefused

Frame = Submit | Cancel


@dataclass(slots=True, repr=False, eq=False)
class _Sequence:
    """One request: tokens known, tokens computed, and its way to text."""

    seq: int
    tokens: list[int]
    num_prompt: int
    max_new: int
    sampler: Sampler
    answer: Answer
    stop_tokens: frozenset[int]
    deadline: float | None
    submitted_at: float
    slot: int = -1
    num_computed: int = 0
    started_at: float | None = None
    first_token_at: float | None = None

    @property
    def progress(self) -> Progress:
        return Progress(self.seq, len(self.tokens), self.num_computed)


_Job = tuple[_Sequence, int]  # compute that many tokens more


class Loop:
    """All sequences of one model.

    `receive(is_idle)` returns the frames that have arrived, waiting for one when `is_idle`, or
    None when the daemon is gone. `send` delivers one Events frame.
    """

    def __init__(
        self,
        engine: Engine,
        prompter: Prompter,
        *,
        stop: Sequence[str],
        receive: Callable[[bool], Sequence[Frame] | None],
        send: Callable[[Events], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._prompter = prompter
        self._stop = tuple(stop)
        self._receive = receive
        self._send = send
        self._clock = clock
        self._running: list[_Sequence] = []  # in order of arrival
        self._waiting: list[_Sequence] = []  # those that stepped back first, then by arrival
        self._free_slots = list(range(engine.limits.max_parallel))
        self._items: list[SequenceEvent] = []
        self._pace = Pace(engine.limits.batch_size)
        # Replaced as a whole, never changed: another thread reads it.
        self._reading: frozenset[int] = frozenset()

    def is_reading(self, seq: int) -> bool:
        """Whether the step that runs now reads this sequence's prompt. For any thread."""
        return seq in self._reading

    def run(self) -> None:
        """Answer until the daemon is gone."""
        while True:
            frames = self._receive(not self._running and not self._waiting)
            if frames is None:
                return
            self._handle(frames)
            # Also when nothing came of the frames: the daemon's watch for progress waits for it.
            if frames:
                self._deliver()
            if self._running or self._waiting:
                self._step()
                self._deliver()

    # Admit

    def _handle(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            match frame:
                case Submit():
                    self._admit(frame)
                case Cancel(seq):
                    self._cancel(seq)
        now = self._clock()
        for sequence in list(self._waiting):
            # One that has run already is not in the queue for its first slot any more.
            is_late = sequence.deadline is not None and now >= sequence.deadline
            if is_late and sequence.started_at is None:
                self._refuse(
                    sequence,
                    QueueTimeout.code,
                    "No slot came free in time. Try again later.",
                )

    def _admit(self, frame: Submit) -> None:
        window = self._engine.limits.context_window
        try:
            tokens = self._prompter.tokens(frame.messages)
            if len(tokens) >= window:
                raise PromptTooLong(len(tokens))
            room = window - len(tokens)
            max_new = room if frame.max_tokens is None else min(frame.max_tokens, room)
            steps = sampler_steps(frame.sampling, self._engine.vocabulary.size, max_new)
            stops = (*self._stop, *frame.stop)
            controls = self._engine.vocabulary.control_tokens
            stop_tokens = frozenset(controls[stop] for stop in stops if stop in controls)
            answer = Answer(stops, clean_labels=frame.clean_labels)
            sampler = self._engine.sampler(steps)
        except PromptTooLong as error:
            message = ContextLengthExceeded(error.num_tokens, window).message
            self._items.append(
                Refused(frame.seq, ContextLengthExceeded.code, message, error.num_tokens)
            )
        except UnknownToken as error:
            self._refuse_submit(frame, str(error), "logit_bias")
        except TemplateRefused as error:
            reason = f"The model's chat template refuses these messages: {error}"
            self._refuse_submit(frame, reason, "messages")
        except TemplateFailed as error:
            reason = f"The model's chat template cannot render these messages: {error}."
            self._refuse_submit(frame, reason, "messages")
        except Exception as error:
            self._items.append(_broke(frame.seq, error))
        else:
            now = self._clock()
            deadline = now + frame.queue_timeout_s if frame.queue_timeout_s > 0 else None
            self._waiting.append(
                _Sequence(
                    seq=frame.seq,
                    tokens=tokens,
                    num_prompt=len(tokens),
                    max_new=max_new,
                    sampler=sampler,
                    answer=answer,
                    stop_tokens=stop_tokens,
                    deadline=deadline,
                    submitted_at=now,
                )
            )
            self._items.append(Admitted(frame.seq, len(tokens)))

    def _cancel(self, seq: int) -> None:
        for sequence in (*self._running, *self._waiting):
            if sequence.seq == seq:
                self._drop(sequence)

    # Plan

    def _step(self) -> None:
        is_shared = any(sequence.progress.is_decoding for sequence in self._running)
        chosen = plan(
            [sequence.progress for sequence in self._running],
            [sequence.progress for sequence in self._waiting],
            self._engine.limits,
            self._pace.chunk_tokens(is_shared=is_shared),
        )
        by_seq = {sequence.seq: sequence for sequence in (*self._running, *self._waiting)}
        for seq in chosen.step_back:
            self._step_back(by_seq[seq])
        for seq in chosen.let_in:
            self._let_in(by_seq[seq])
        work = [(by_seq[item.seq], item.num_tokens) for item in chosen.work]
        self._reading = frozenset(sequence.seq for sequence, num_tokens in work if num_tokens > 1)
        self._compute(work)
        self._reading = frozenset()

    def _step_back(self, sequence: _Sequence) -> None:
        """Lose the cells and wait again, before all others; what was said stays said."""
        self._running.remove(sequence)
        self._free_slot(sequence)
        self._waiting.insert(0, sequence)

    def _let_in(self, sequence: _Sequence) -> None:
        self._waiting.remove(sequence)
        sequence.slot = self._free_slots.pop()
        if sequence.started_at is None:
            sequence.started_at = self._clock()
        self._running.append(sequence)

    def _free_slot(self, sequence: _Sequence) -> None:
        if sequence.slot >= 0:
            self._engine.truncate(sequence.slot, 0)
            self._free_slots.append(sequence.slot)
        sequence.slot = -1
        sequence.num_computed = 0

    # Decode

    def _compute(self, work: Sequence[_Job]) -> None:
        started_at = self._clock()
        result = self._engine.decode([_slice(*job) for job in work])
        if result is Decoded.DONE:
            num_tokens = sum(num_tokens for _, num_tokens in work)
            self._pace.record(num_tokens, self._clock() - started_at)
            for job in work:
                self._advance(*job)
            return
        before = {sequence.seq: sequence.num_computed for sequence, _ in work}
        for sequence, _ in work:
            if not self._engine.truncate(sequence.slot, sequence.num_computed):
                sequence.num_computed = 0
        if result is Decoded.INTERRUPTED:
            return
        if len(work) == 1:
            self._refuse(
                work[0][0],
                InternalError.code,
                "The engine could not compute this answer. Ask again; with less text if it "
                "happens again.",
            )
            return
        # One of them may be what the engine cannot take: each alone, so that only it is refused.
        for sequence, num_tokens in work:
            # One whose memory could not be cut begins anew with the next plan.
            if sequence.num_computed == before[sequence.seq]:
                self._compute([(sequence, num_tokens)])

    def _advance(self, sequence: _Sequence, num_tokens: int) -> None:
        sequence.num_computed += num_tokens
        if sequence.num_computed < len(sequence.tokens):
            return
        try:
            self._take(sequence, sequence.sampler.sample(sequence.slot))
        except Exception as error:
            self._items.append(_broke(sequence.seq, error))
            self._drop(sequence)

    # Deliver

    def _take(self, sequence: _Sequence, token: int) -> None:
        """One new token: to text, or to the end of the answer."""
        if sequence.first_token_at is None:
            sequence.first_token_at = self._clock()
        if self._engine.vocabulary.ends_turn(token) or token in sequence.stop_tokens:
            self._end(sequence, FinishReason.STOP)
            return
        sequence.tokens.append(token)
        self._say(sequence, sequence.answer.push(self._engine.vocabulary.piece(token)))
        if sequence.answer.is_stopped:
            self._end(sequence, FinishReason.STOP)
        elif len(sequence.tokens) - sequence.num_prompt >= sequence.max_new:
            self._end(sequence, FinishReason.LENGTH)

    def _say(self, sequence: _Sequence, text: str) -> None:
        if text:
            self._items.append(Delta(sequence.seq, text))

    def _end(self, sequence: _Sequence, reason: FinishReason) -> None:
        self._say(sequence, sequence.answer.finish())
        if sequence.answer.is_stopped:
            reason = FinishReason.STOP
        now = self._clock()
        started_at = sequence.started_at if sequence.started_at is not None else now
        first_at = sequence.first_token_at if sequence.first_token_at is not None else now
        self._items.append(
            Done(
                sequence.seq,
                reason.value,
                prompt_tokens=sequence.num_prompt,
                completion_tokens=len(sequence.tokens) - sequence.num_prompt,
                cached_tokens=0,
                queue_s=started_at - sequence.submitted_at,
                prompt_s=first_at - started_at,
                decode_s=now - first_at,
            )
        )
        self._drop(sequence)

    def _refuse_submit(self, frame: Submit, message: str, param: str) -> None:
        self._items.append(Refused(frame.seq, InvalidRequest.code, message, param=param))

    def _refuse(self, sequence: _Sequence, code: str, message: str) -> None:
        self._items.append(Refused(sequence.seq, code, message, sequence.num_prompt))
        self._drop(sequence)

    def _drop(self, sequence: _Sequence) -> None:
        for sequences in (self._running, self._waiting):
            if sequence in sequences:
                sequences.remove(sequence)
        self._free_slot(sequence)
        sequence.sampler.close()

    def _deliver(self) -> None:
        is_reading = any(not sequence.progress.is_decoding for sequence in self._running)
        items, self._items = tuple(self._items), []
        self._send(
            Events(
                items,
                num_running=len(self._running),
                num_waiting=len(self._waiting),
                prefilling=is_reading or bool(self._waiting),
            )
        )


def _slice(sequence: _Sequence, num_tokens: int) -> Slice:
    end = sequence.num_computed + num_tokens
    return Slice(
        sequence.slot,
        sequence.num_computed,
        sequence.tokens[sequence.num_computed : end],
        wants_logits=end == len(sequence.tokens),
    )


def _broke(seq: int, error: Exception) -> Refused:
    """Where it broke goes to the log, what it broke on does not: it may be somebody's text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    sys.stderr.write(f"{type(error).__name__} in {frame.name}, line {frame.lineno}\n")
    return Refused(
        seq, InternalError.code, "The model's process failed on this request. Ask again."
    )
