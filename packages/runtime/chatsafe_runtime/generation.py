"""One chat on the daemon's side: a place, a worker, one frame out, events back until the end."""

from typing import assert_never

from chatsafe_common.backend import EventStream
from chatsafe_common.errors import (
    ChatSafeError,
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    Unavailable,
    WorkerDied,
)
from chatsafe_common.events import Finished, FinishReason, Started, TextDelta, Timings, Usage
from chatsafe_runtime.channel import Admitted, Done, FrameError, Load, Refused, Submit
from chatsafe_runtime.inbox import Inbox
from chatsafe_runtime.pool import Pool
from chatsafe_runtime.supervisor import MAX_REASON_CHARS


async def answer(
    pool: Pool, model: str, load: Load, submit: Submit, keep_alive_s: float | None
) -> EventStream:
    """Have one chat answered by `model`, loading it if need be.

    Raises what `Pool.place` and `Pool.worker` raise, the worker's refusal, WorkerDied or Timeout.
    Closing the stream gives the place back at once and tells the worker without waiting; the
    worker forgets the chat at its next step.
    """
    with pool.place(model, load, keep_alive_s) as resident:
        worker = await pool.worker(resident, load)
        inbox = Inbox()
        try:
            seq = worker.submit(submit, inbox)
        except FrameError:
            raise InvalidRequest(
                "The messages are too long to be handed to the model. Send fewer or shorter ones.",
                param="messages",
            ) from None
        try:
            done: Done | None = None
            while done is None:
                news = await inbox.get()
                match news:
                    case Admitted(prompt_tokens=prompt_tokens):
                        yield Started(model, prompt_tokens)
                    case str():
                        yield TextDelta(news)
                    case Done():
                        done = news
                    case Refused():
                        facts = resident.facts
                        raise refusal(
                            news,
                            facts.context_window if facts is not None else 0,
                            resident.admission.retry_after_s(),
                        )
                    case _:
                        assert_never(news)
        finally:
            worker.cancel(seq)
        resident.restarts.reset()
        resident.admission.answered(done.prompt_s + done.decode_s)
    # The place is free before the last event is read.
    yield finished(done)


def finished(done: Done) -> Finished:
    """The last event. Raises WorkerDied when the worker made the reason up."""
    try:
        reason = FinishReason(done.reason)
    except ValueError:
        raise WorkerDied("The model's process did not follow the protocol. Ask again.") from None
    return Finished(
        reason,
        Usage(done.prompt_tokens, done.completion_tokens, done.cached_tokens),
        Timings(done.queue_s, done.prompt_s, done.decode_s),
    )


def refusal(refused: Refused, context_window: int, retry_after_s: float) -> ChatSafeError:
    """The error that a worker's refusal stands for; an unknown code is our fault."""
    if refused.code == ContextLengthExceeded.code:
        return ContextLengthExceeded(refused.prompt_tokens, context_window)
    kind = _kinds(ChatSafeError).get(refused.code, InternalError)
    come_back = retry_after_s if issubclass(kind, Unavailable) else None
    return kind(refused.message[:MAX_REASON_CHARS], param=refused.param, retry_after_s=come_back)


def _kinds(base: type[ChatSafeError]) -> dict[str, type[ChatSafeError]]:
    """Every error below `base` by its code; each code has one class."""
    found: dict[str, type[ChatSafeError]] = {}
    for kind in base.__subclasses__():
        found |= {kind.code: kind, **_kinds(kind)}
    return found
