"""An answer on its way to the person: raw into a pipe, as markdown onto a terminal."""

import re
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from chatsafe_cli.render import note, printable
from chatsafe_client.conversation import Trimmed
from chatsafe_common.events import (
    ChatEvent,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
REFRESH_PER_SECOND = 12


@dataclass(slots=True)
class AnswerFacts:
    """What is known of one answer apart from its text. Times in seconds, as measured here."""

    model: str = ""
    first_text_s: float = 0.0
    total_s: float = 0.0
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    timings: Timings = field(default_factory=Timings)
    reason: FinishReason | None = None

    @property
    def tokens_per_second(self) -> float:
        """By the daemon's own clock where it tells, else by ours."""
        if self.timings.decode_s > 0:
            return self.timings.tokens_per_second(self.usage.completion_tokens)
        decode_s = self.total_s - self.first_text_s
        return self.usage.completion_tokens / decode_s if decode_s > 0 else 0.0


class AnswerWriter(Protocol):
    """Where the pieces of an answer go. `wait` says that one is on its way."""

    def wait(self) -> None: ...

    def write(self, text: str) -> None: ...

    def end(self) -> None: ...


class RawAnswer:
    """The text as it came, and a line end after it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

    def wait(self) -> None:
        """Nothing: a program waits without being told."""

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._last = text[-1:] or self._last

    def end(self) -> None:
        if self._last and self._last != "\n":
            self.write("\n")
        self._last = ""


class MarkdownAnswer:
    """Markdown, block by block: a block that is complete is printed for good.

    Only the last block is drawn again while it grows, so that nothing above it flickers, and an
    answer longer than the screen scrolls like any other output.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pending = ""
        self._num_blocks = 0
        self._live: Live | None = None

    def wait(self) -> None:
        # A large model takes a while to load and to read a long question.
        self._update(Text("...", style="dim"))

    def write(self, text: str) -> None:
        self._pending += printable(text)
        while (length := end_of_block(self._pending)) > 0:
            block, self._pending = self._pending[:length], self._pending[length:].lstrip("\n")
            self._print(block)
        if self._pending.strip():
            self._draw()

    def end(self) -> None:
        block, self._pending = self._pending, ""
        if block.strip():
            self._print(block)
        self._stop_drawing()
        self._num_blocks = 0

    def _print(self, block: str) -> None:
        self._stop_drawing()
        if self._num_blocks:
            self._console.print()
        self._num_blocks += 1
        self._console.print(_markdown(block))

    def _draw(self) -> None:
        lines = self._pending.splitlines()
        room = max(self._console.height - 2, 1)
        fits = len(lines) <= room and len(self._pending) < room * self._console.width
        tail = Text("\n".join(lines[-room:]), overflow="ellipsis")
        self._update(_markdown(self._pending) if fits else tail)

    def _update(self, content: RenderableType) -> None:
        if self._live is None:
            if self._num_blocks:
                self._console.print()
                self._num_blocks = 0  # the blank line stands already
            self._live = Live(
                console=self._console, transient=True, refresh_per_second=REFRESH_PER_SECOND
            )
            self._live.start()
        self._live.update(content)

    def _stop_drawing(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _markdown(text: str) -> Markdown:
    # Without hyperlinks: an address stands in the text, and no link can say one thing and open
    # another.
    return Markdown(text, code_theme="ansi_dark", hyperlinks=False)


def end_of_block(text: str) -> int:
    """Where the first block of markdown ends that no later text can change; 0 when none does.

    A block ends at a blank line that is followed by a line without indentation, outside of code
    fences; so a list item keeps its continuation.
    """
    fence = ""
    position = 0
    is_after_blank = False
    for line in text.splitlines(keepends=True):
        if not fence and is_after_blank and position > 0 and not line[:1].isspace():
            return position
        if found := _FENCE.match(line):
            mark = found.group(1)
            if not fence:
                fence = mark
            elif mark.startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        is_after_blank = not line.strip() and text[:position].strip() != ""
        position += len(line)
    return 0


def answer_writer() -> AnswerWriter:
    """Markdown when a person reads, raw text when a program does."""
    if sys.stdout.isatty():
        return MarkdownAnswer(Console())
    return RawAnswer(sys.stdout)


async def show_answer(
    events: AsyncGenerator[ChatEvent | Trimmed, None], writer: AnswerWriter
) -> AnswerFacts:
    """Writes an answer as it comes. Raises what the stream raises, after writing what arrived."""
    facts = AnswerFacts()
    begin = time.monotonic()
    try:
        writer.wait()
        async for event in events:
            match event:
                case Started():
                    facts.model = event.model
                case TextDelta():
                    facts.first_text_s = facts.first_text_s or time.monotonic() - begin
                    writer.write(event.text)
                case Finished():
                    facts.usage, facts.timings = event.usage, event.timings
                    facts.reason = event.reason
                case Trimmed():
                    writer.end()
                    note(
                        f"(the conversation is longer than the model's context: the oldest "
                        f"{event.num_messages} messages were left out)"
                    )
                    writer.wait()
    finally:
        facts.total_s = time.monotonic() - begin
        writer.end()
    if facts.reason is FinishReason.LENGTH:
        note("(the answer was cut: its token limit is reached, or the context is full)")
    return facts
