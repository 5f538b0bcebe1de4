"""Where the lines of a chat come from: a person at a terminal, or a file or pipe."""

from typing import Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output


class LineInput(Protocol):
    """Raises EOFError at the end and KeyboardInterrupt on Ctrl-C."""

    def read(self, prompt: str) -> str: ...


class TerminalInput:
    """Editing, completion of commands, and earlier lines by arrow key, kept in memory only.

    Pasted text arrives whole, line ends included (bracketed paste): it is sent by Enter, never by
    what was pasted.
    """

    def __init__(
        self,
        words: list[str],
        *,
        source: Input | None = None,
        screen: Output | None = None,
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            completer=WordCompleter(words, sentence=True),
            complete_while_typing=False,
            input=source,
            output=screen,
        )

    def read(self, prompt: str) -> str:
        return self._session.prompt(prompt)


class PlainInput:
    """The lines of a stream; the prompt is not shown, since nobody waits for it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def read(self, prompt: str) -> str:
        del prompt
        line = self._stream.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")
