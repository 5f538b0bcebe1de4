"""The real command on a real terminal: prompts, markdown, Ctrl-C."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Literal

from tests.cli.conftest import ScriptedDaemon
from tests.support.terminal import on_terminal

PROGRAM = str(Path(sys.executable).with_name("chatsafe"))


def test_a_chat_at_a_terminal(daemon: ScriptedDaemon) -> None:
    daemon.backend.pieces = ("A **bold", "** word", ".\n\n```\nx\n```\n")
    with on_terminal([PROGRAM, "chat"], os.environ) as terminal:
        before = terminal.wait_for(">>>")
        assert "Nothing you type leaves this computer." in before
        terminal.type("Hi\r")
        terminal.wait_for("A \x1b[1mbold\x1b[0m word.")
        assert "```" not in terminal.wait_for(">>>")
        terminal.type("/cl\t")
        terminal.wait_for("/clear")
        terminal.type("\r")
        terminal.wait_for("forgotten")
        terminal.wait_for(">>>")
        terminal.type("\x04")
        assert terminal.wait_for_end() == 0
    assert daemon.questions == [["Hi"]]


class OneStep(asyncio.Event):
    """Lets the first who waits pass, and nobody after."""

    def __init__(self) -> None:
        super().__init__()
        self._num_passed = 0

    async def wait(self) -> Literal[True]:
        self._num_passed += 1
        return True if self._num_passed == 1 else await super().wait()


def hang_after(daemon: ScriptedDaemon, text: str) -> None:
    """From now on, an answer begins with `text` and never goes on."""
    daemon.backend.pieces = (text, "never")
    daemon.backend.gate = OneStep()


def test_ctrl_c_once_stops_the_answer_and_twice_leaves(daemon: ScriptedDaemon) -> None:
    hang_after(daemon, "Endless")
    with on_terminal([PROGRAM, "chat"], os.environ) as terminal:
        terminal.wait_for(">>>")
        terminal.type("Hi\r")
        terminal.wait_for("Endless")
        terminal.type("\x03")
        terminal.wait_for("(stopped; Ctrl-C again leaves)")
        terminal.wait_for(">>>")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130


def test_ctrl_c_ends_a_single_answer(daemon: ScriptedDaemon) -> None:
    hang_after(daemon, "Endless")
    with on_terminal([PROGRAM, "run", "a question"], os.environ) as terminal:
        terminal.wait_for("Endless")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130
        assert "Traceback" not in terminal.shown
