"""Where the events of one sequence wait for their reader; merged, so that they stay small."""

import asyncio
from typing import assert_never

from chatsafe_common.errors import ChatSafeError
from chatsafe_runtime.channel import Admitted, Delta, Done, FrameError, Refused, SequenceEvent

# An honest answer ends with its context window. This is above any answer we know (a window of a
# million tokens of eight characters); a worker that sends more is broken or hostile.
MAX_WAITING_CHARS = 8 * 1024 * 1024


class Inbox:
    """One sequence's events between the worker's frames and the generation that reads them.

    The worker has no flow control: it decodes for everybody at once and cannot hold one sequence
    back. So a slow reader must cost nobody else anything, and a bounded queue of events could
    only drop text or stop the others. Instead waiting text is kept as one piece, however many
    deltas it came in: what can wait is at most one answer, which the context window bounds.
    """

    def __init__(self) -> None:
        self._admitted: Admitted | None = None
        self._text: list[str] = []
        self._num_chars = 0
        self._end: Done | Refused | ChatSafeError | None = None
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Inbox({self._num_chars} chars waiting, {'ended' if self._end else 'open'})"

    def put(self, event: SequenceEvent) -> None:
        """Take one event. Raises FrameError when more waits than any answer can hold."""
        if self._end is not None:
            return
        match event:
            case Admitted():
                self._admitted = event
            case Delta(text=text):
                self._num_chars += len(text)
                if self._num_chars > MAX_WAITING_CHARS:
                    raise FrameError("more text in one answer than a context window can hold")
                self._text.append(text)
            case Done() | Refused():
                self._end = event
            case _:
                assert_never(event)
        self._news.set()

    def fail(self, error: ChatSafeError) -> None:
        """End the sequence badly; text that waits is still handed out first."""
        if self._end is None:
            self._end = error
            self._news.set()

    async def get(self) -> Admitted | str | Done | Refused:
        """What is next: admission, then text, then the end. Raises the error of `fail`."""
        while True:
            if self._admitted is not None:
                admitted, self._admitted = self._admitted, None
                return admitted
            if self._text:
                text = "".join(self._text)
                self._text.clear()
                self._num_chars = 0
                return text
            if isinstance(self._end, ChatSafeError):
                raise self._end
            if self._end is not None:
                return self._end
            self._news.clear()
            await self._news.wait()
