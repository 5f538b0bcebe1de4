"""The real command on a real terminal: prompts, markdown, Ctrl-C."""

import asyncio
import os
import sys
from pathlib import Path

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


def test_ctrl_c_once_stops_the_answer_and_twice_leaves(daemon: ScriptedDaemon) -> None:
    daemon.backend.pieces = ("Endless",)
    daemon.backend.gate = asyncio.Event()  # never set: the answer hangs
    with on_terminal([PROGRAM, "chat"], os.environ) as terminal:
        terminal.wait_for(">>>")
        terminal.type("Hi\r")
        while not daemon.backend.num_open:
            assert terminal.process.poll() is None
        terminal.type("\x03")
        terminal.wait_for("(stopped; Ctrl-C again leaves)")
        terminal.wait_for(">>>")
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130


def test_ctrl_c_ends_a_single_answer(daemon: ScriptedDaemon) -> None:
    daemon.backend.pieces = ("Endless",)
    daemon.backend.gate = asyncio.Event()
    with on_terminal([PROGRAM, "run", "a question"], os.environ) as terminal:
        while not daemon.backend.num_open:
            assert terminal.process.poll() is None
        terminal.type("\x03")
        assert terminal.wait_for_end() == 130
        assert "Traceback" not in terminal.shown
