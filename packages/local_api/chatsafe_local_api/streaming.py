"""Events to server-sent events: role frame at once, deltas as they come, and an honest end.

A stream ends with `[DONE]`, or with one error event and no `[DONE]`. While no text comes, a
comment keeps the connection alive.
"""

import asyncio
from collections.abc import Sequence
from typing import assert_never

from starlette.types import Send

from chatsafe_common.errors import ChatSafeError
from chatsafe_common.events import Finished, Started, TextDelta
from chatsafe_common.openai_result import Envelope
from chatsafe_common.sse import DONE, KEEP_ALIVE, encode_event
from chatsafe_local_api.answers import Answers
from chatsafe_local_api.errors import error_json
from chatsafe_local_api.inbox import Arrival, Inbox
from chatsafe_local_api.metrics import Metrics

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class SseReply:
    """One streamed reply, from its headers to its end."""

    def __init__(
        self, send: Send, envelope: Envelope, metrics: Metrics, keep_alive_s: float
    ) -> None:
        self._send = send
        self._envelope = envelope
        self._metrics = metrics
        self._keep_alive_s = keep_alive_s

    async def run(self, inbox: Inbox, answers: Answers, early: Sequence[Arrival]) -> None:
        """Send the answers: `early` has arrived already, the rest comes from `inbox`.

        Raises what ended the inbox, with the headers sent.
        """
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._write(
            [encode_event(self._envelope.role(index)) for index in range(answers.number)]
        )
        arrivals = early
        while True:
            await self._write(self._frames(arrivals, answers))
            if answers.are_complete:
                break
            arrivals = await self._next(inbox)
        frames = []
        if self._envelope.has_usage:
            frames.append(encode_event(self._envelope.usage(answers.usage, answers.timings)))
        await self._write([*frames, DONE], is_last=True)

    async def fail(self, error: ChatSafeError, request_id: str) -> None:
        """The end of a stream that broke after its headers."""
        await self._write([encode_event(error_json(error, request_id))], is_last=True)

    async def _next(self, inbox: Inbox) -> Sequence[Arrival]:
        while True:
            try:
                async with asyncio.timeout(self._keep_alive_s):
                    return await inbox.take()
            except TimeoutError:
                await self._send(
                    {"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True}
                )

    def _frames(self, arrivals: Sequence[Arrival], answers: Answers) -> list[bytes]:
        frames = []
        for index, event in arrivals:
            answers.add(index, event)
            match event:
                case TextDelta(text=text):
                    if text:
                        frames.append(encode_event(self._envelope.text(index, text)))
                case Finished(reason=reason):
                    frames.append(encode_event(self._envelope.finish(index, reason)))
                case Started():
                    pass
                case _:
                    assert_never(event)
        return frames

    async def _write(self, frames: Sequence[bytes], *, is_last: bool = False) -> None:
        if not frames:
            return
        self._metrics.count_chunks(len(frames))
        await self._send(
            {
                "type": "http.response.body",
                "body": b"".join(frames),
                "more_body": not is_last,
            }
        )
