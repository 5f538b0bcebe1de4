"""The chat loop: read a message, obey it or answer it, until the person leaves."""

import asyncio

from chatsafe_cli.failure import ExitCode, Failure, from_error
from chatsafe_cli.line_input import LineInput
from chatsafe_cli.render import note, show_failure
from chatsafe_cli.session import ChatSession
from chatsafe_cli.slash import Leave, run_command
from chatsafe_common.errors import ChatSafeError

_BLOCK = '"""'


class Repl:
    """Drives a `ChatSession` from a `LineInput`. `run` returns the exit code."""

    def __init__(self, session: ChatSession, lines: LineInput, runner: asyncio.Runner) -> None:
        self._session = session
        self._lines = lines
        self._runner = runner
        self._was_interrupted = False

    def run(self) -> ExitCode:
        while True:
            try:
                message = self._read_message()
                self._was_interrupted = False
            except EOFError:
                return ExitCode.OK
            except KeyboardInterrupt:
                # The one before stopped an answer or a line; this one is meant.
                if self._was_interrupted:
                    return ExitCode.INTERRUPTED
                self._was_interrupted = True
                note("(Ctrl-C again or Ctrl-D leaves)")
                continue
            if not message.strip():
                continue
            try:
                # One asyncio run per message: its Ctrl-C cancels that answer and nothing else.
                self._runner.run(self._handle(message))
            except Leave:
                return ExitCode.OK
            except KeyboardInterrupt:
                self._was_interrupted = True
                note("(stopped; Ctrl-C again leaves)")
            except Failure as failure:
                show_failure(failure)
            except ChatSafeError as error:
                show_failure(from_error(error))

    async def _handle(self, message: str) -> None:
        question: str | None = message
        if message.startswith("/") and "\n" not in message:
            question = await run_command(self._session, message)
        if question is not None:
            await self._session.ask(question)

    def _read_message(self) -> str:
        line = self._lines.read(">>> ")
        if not line.lstrip().startswith(_BLOCK):
            return line
        text = line.lstrip().removeprefix(_BLOCK)
        while _BLOCK not in text:
            text += "\n" + self._lines.read("... ")
        return text.partition(_BLOCK)[0].strip("\n")
