"""The chat loop and its commands."""

import asyncio
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from chatsafe_cli.answer import RawAnswer
from chatsafe_cli.failure import ExitCode
from chatsafe_cli.line_input import LineInput, TerminalInput
from chatsafe_cli.repl import Repl
from chatsafe_cli.session import ChatSession
from chatsafe_cli.slash import COMMANDS
from chatsafe_common.chat import Sampling
from chatsafe_common.errors import WorkerDied
from chatsafe_common.testing import ScriptedBackend


class Typed:
    """Lines as if somebody typed them; an exception is raised in its turn."""

    def __init__(self, lines: list[str | type[BaseException]]) -> None:
        self._lines = iter(lines)

    def read(self, prompt: str) -> str:
        del prompt
        line = next(self._lines, EOFError)
        if isinstance(line, str):
            return line
        raise line


class Chat:
    """A session with a scripted backend, and what it wrote."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.backend = ScriptedBackend(["An", "swer"])
        self.session = ChatSession(self.backend, RawAnswer(self.out))

    def type(self, *lines: str | type[BaseException]) -> ExitCode:
        return self.run(Typed(list(lines)))

    def run(self, lines: LineInput) -> ExitCode:
        with asyncio.Runner() as runner:
            return Repl(self.session, lines, runner).run()

    @property
    def questions(self) -> list[list[str]]:
        return [[m.content for m in request.messages] for request in self.backend.requests]


@pytest.fixture
def chat() -> Chat:
    return Chat()


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().err


def test_the_conversation_is_remembered(chat: Chat) -> None:
    assert chat.type("one", "two") is ExitCode.OK
    assert chat.questions == [["one"], ["one", "Answer", "two"]]
    assert chat.out.getvalue() == "Answer\nAnswer\n"


def test_several_lines(chat: Chat) -> None:
    chat.type('"""', "a", "", "/bye", 'b"""', '"""c"""', "  ")
    assert chat.questions[0] == ["a\n\n/bye\nb"]
    assert chat.questions[1][-1] == "c"
    assert len(chat.questions) == 2


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["/bye"], ExitCode.OK),
        ([EOFError], ExitCode.OK),
        ([KeyboardInterrupt, KeyboardInterrupt, "never"], ExitCode.INTERRUPTED),
        ([KeyboardInterrupt, "one", KeyboardInterrupt, "/bye"], ExitCode.OK),
        (['"""', KeyboardInterrupt, KeyboardInterrupt], ExitCode.INTERRUPTED),
    ],
)
def test_leaving(chat: Chat, lines: list[str | type[BaseException]], code: ExitCode) -> None:
    assert chat.type(*lines) is code


def test_clear_retry_and_system(chat: Chat) -> None:
    chat.type("/system be kind", "one", "/retry", "/clear", "two", "/system default", "three")
    assert chat.questions == [
        ["be kind", "one"],
        ["be kind", "one"],
        ["be kind", "two"],
        ["two", "Answer", "three"],
    ]


def test_set(chat: Chat, said: Said) -> None:
    chat.type("/set temperature 0.2", "/set top_k 7", "/set max_tokens 9", "/set", "one")
    chat.type("/set temperature default", "/set max_tokens default", "two")
    assert chat.backend.requests[0].sampling == Sampling(temperature=0.2, top_k=7)
    assert chat.backend.requests[0].max_tokens == 9
    assert chat.backend.requests[1].sampling == Sampling(top_k=7)
    assert chat.backend.requests[1].max_tokens is None
    assert "temperature 0.2, top_k 7, max_tokens 9" in said()


@pytest.mark.parametrize(
    "line",
    [
        "/set temperature 2.1",
        "/set temperature nan",
        "/set temperature hot",
        "/set top_k 1.5",
        "/set max_tokens 0",
        "/set logit_bias 1",
        "/set temperature",
        "/set seed 99999999999999999999",
        "/retry",
        "/edit",
        "/model nope",
        "/file /nonexistent",
        "/file",
        "/file .",
        "/save",
        "/load /nonexistent",
        "/nonsense",
    ],
)
def test_commands_that_cannot_be_obeyed(chat: Chat, said: Said, line: str) -> None:
    assert chat.type(line, "still here") is ExitCode.OK
    assert "Error: " in said()
    assert chat.questions == [["still here"]]
    assert chat.backend.requests[0].sampling == Sampling()


def test_each_command_gives_its_own_example(chat: Chat, said: Said) -> None:
    chat.type("/file", "/save", "/load", "/set temperature", "/set seed x", "/edit")
    text = said()
    for example in ("/file notes.txt", "/save chat.json", "/load chat.json"):
        assert f"  do:  {example}" in text
    assert "temperature needs a value" in text
    assert f"between {-(2**63)} and {2**63 - 1}" in text
    assert "editor" not in text  # nothing was opened


def test_model(chat: Chat, said: Said) -> None:
    chat.type("/model", "/model scr", "one")
    assert "* scripted" in said()
    assert chat.backend.requests[0].model == "scripted"


def test_show_stats_and_help(chat: Chat, said: Said) -> None:
    chat.type("/stats", "one", "/stats", "/show", "/help")
    text = said()
    assert "(no answer yet)" in text
    assert "answer: 2 tokens" in text
    assert "2 messages so far, kept in memory only" in text
    assert all(usage.partition(" ")[0] in text for usage in COMMANDS)


def test_a_question_without_an_answer_is_forgotten(chat: Chat) -> None:
    chat.backend.error = WorkerDied("x")
    chat.type("one")
    chat.backend.error = None
    chat.type("two")
    assert chat.questions == [["two"]]


def test_half_an_answer_is_remembered(chat: Chat) -> None:
    chat.backend.error, chat.backend.error_after = WorkerDied("x"), 1
    chat.type("one")
    chat.backend.error = None
    chat.type("two")
    assert chat.questions[-1] == ["one", "An", "two"]


def test_file(chat: Chat, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes")
    chat.type(f"/file '{path}'", "sum up", "and again")
    assert chat.questions == [
        ["some notes\n\nsum up"],
        ["some notes\n\nsum up", "Answer", "and again"],
    ]


@pytest.mark.parametrize("data", [b"", b"a\0b", b"\xff\xfe", b"x" * 9000, b"x" * 1_100_000])
def test_files_that_cannot_be_sent(chat: Chat, said: Said, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    chat.type(f"/file {path}", "one")
    assert "Error: " in said()
    assert chat.questions == [["one"]]


def test_save_replaces_conversations_only(chat: Chat, said: Said, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.json", tmp_path / "other.json"
    other.write_text("precious")
    chat.type("one", f"/save {mine}", "two", f"/save {mine}", f"/save {other}")
    assert len(json.loads(mine.read_text())["messages"]) == 4
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    assert other.read_text() == "precious"
    text = said()
    assert f"saved to {mine}" in text
    assert "is no saved conversation" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "other.json"]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An editor that notes which file it got, with which modes, and adds a word."""
    seen = tmp_path / "seen"
    program = tmp_path / "editor.sh"
    program.write_text(
        '#!/bin/sh\nstat -c "%a %n" "$1" "$(dirname "$1")" > ' + str(seen) + "\n"
        'echo " changed" >> "$1"\ntouch "$1~"\n'
    )
    program.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(program))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return seen


def test_edit(chat: Chat, said: Said, editor: Path) -> None:
    chat.type("one", "/edit")
    assert chat.questions == [["one"], ["one changed"]]
    file, folder = [line.split() for line in editor.read_text().splitlines()]
    assert (file[0], folder[0]) == ("600", "700")
    assert not Path(folder[1]).exists()
    assert "private temporary file that is removed" in said()


def test_an_editor_that_fails(chat: Chat, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "/nonexistent/editor")
    chat.type("one", "/edit")
    monkeypatch.setenv("EDITOR", "false")
    chat.type("/edit", "two")
    assert said().count("Error: the editor") == 2
    assert chat.questions == [["one"], ["one", "Answer", "two"]]


def test_typing_at_a_terminal(chat: Chat) -> None:
    with create_pipe_input() as keys:
        # A paste is sent by Enter alone; Ctrl-C gives a line up; Ctrl-D leaves.
        keys.send_text("\x1b[200~first\nsecond\x1b[201~ third\r")
        keys.send_text("given up\x03")
        keys.send_text("last\r\x04")
        lines = TerminalInput(list(COMMANDS), source=keys, screen=DummyOutput())
        assert chat.run(lines) is ExitCode.OK
    assert chat.questions == [
        ["first\nsecond third"],
        ["first\nsecond third", "Answer", "last"],
    ]
