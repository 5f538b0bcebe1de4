"""Server-sent events as bytes: an encoder and an incremental decoder, no I/O.

The decoder follows the HTML Living Standard, section 9.2.6: lines end with LF, CR or CRLF, a
blank line ends an event, a last event without its blank line is dropped. `id:` and `retry:` ask
for reconnection, which no answer of ours can do, so they are skipped.
"""

import re
from collections.abc import Iterator

import msgspec

# Most proxies and browsers give an idle connection up after 30 to 60 s.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_encoder = msgspec.json.Encoder()


def encode_event(document: object) -> bytes:
    """One event that holds `document` as compact JSON on one line."""
    return b"data: " + _encoder.encode(document) + b"\n\n"


class SseEvent(msgspec.Struct, frozen=True):
    """One event: its data lines joined with LF, and its type."""

    data: str
    event: str = "message"

    def __repr__(self) -> str:
        return f"SseEvent({self.event}, {len(self.data)} chars)"


class SseError(Exception):
    """What arrives is no event stream that we are willing to read."""


class SseDecoder:
    """Bytes in, events out; any split of the same bytes gives the same events."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[str] = []
        self._event = ""
        self._num_bytes = 0  # in the lines of the current event that are complete
        self._is_after_cr = False
        self._is_first_line = True

    def receive(self, data: bytes) -> Iterator[SseEvent]:
        """The events that `data` completes. Raises SseError when one is over the size limit."""
        if not data:
            return
        if self._is_after_cr and data[:1] == b"\n":
            data = data[1:]
            self._is_after_cr = False
        if data:
            self._is_after_cr = data[-1:] == b"\r"
        *ended, rest = _LINE_END.split(data)
        for piece in ended:
            self._line += piece
            self._check_size()
            line = bytes(self._line)
            self._line.clear()
            if self._is_first_line:
                self._is_first_line = False
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line[:1] == b":":  # a comment: keeps the connection alive, says nothing
                continue
            if line:
                self._num_bytes += len(line)
                self._take(line)
            elif event := self._end_event():
                yield event
        self._line += rest
        self._check_size()

    def _check_size(self) -> None:
        if self._num_bytes + len(self._line) > self._max_event_bytes:
            raise SseError(f"an event of more than {self._max_event_bytes} bytes")

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
        elif name == b"event":
            self._event = text

    def _end_event(self) -> SseEvent | None:
        data, event = self._data, self._event
        self._data, self._event, self._num_bytes = [], "", 0
        return SseEvent("\n".join(data), event or "message") if data else None
