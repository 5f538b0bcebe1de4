"""`chatsafe run` and `chatsafe chat` from end to end, through pipes."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Chatsafe, ScriptedDaemon

from chatsafe_common.errors import ContextLengthExceeded, QueueFull, WorkerDied
from chatsafe_common.events import FinishReason


@pytest.mark.parametrize(
    ("args", "stdin", "question"),
    [
        (["two words"], "", "two words"),
        (["scr", "why"], "", "why"),
        (["scripted", "why", "is", "it"], "", "why is it"),
        (["-m", "scr", "why"], "", "why"),
        ([], "from stdin\n", "from stdin\n"),
        (["scripted"], "from stdin", "from stdin"),
        (["sum up:"], "some text\n", "sum up:\n\nsome text\n"),
    ],
)
def test_run(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, args: list[str], stdin: str, question: str
) -> None:
    result = chatsafe("run", *args, stdin=stdin)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello **there**.\n", "")
    assert daemon.questions == [[question]]


def test_run_keeps_every_character(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.pieces = ("\x1b[31m", "grün 😀", "\n")
    result = chatsafe("run", stdin='`$(x)` "q" \\ 😀 \x07'.encode())
    assert result.stdout == "\x1b[31mgrün 😀\n"
    assert daemon.questions == [['`$(x)` "q" \\ 😀 \x07']]


def test_run_without_a_question(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("run", stdin=" \n")
    assert result.exit_code == 2
    assert daemon.questions == []


@pytest.mark.parametrize("data", [b"\x89PNG\xff", b"x" * 101])
def test_run_with_what_is_no_question(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("chatsafe_cli.chat.MAX_INPUT_BYTES", 100)
    result = chatsafe("run", stdin=data)
    assert result.exit_code == 1
    assert "Error: stdin is" in result.stderr
    assert daemon.questions == []


def test_half_a_character_is_no_crash(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    assert chatsafe("run", "odd \udcff name").exit_code == 0
    assert daemon.questions == [["odd ? name"]]


def test_one_word_is_a_model(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("run", "Hello", stdin="")
    assert result.exit_code == 2
    assert "'Hello' names the model" in result.stderr


def test_run_with_an_unknown_model(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("run", "scriptedd", "why")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "Did you mean scripted?" in result.stderr
    # The list of models that can answer is not the list of all.
    assert "there is no model 'scriptedd' that can answer" in result.stderr
    assert daemon.questions == []


def test_a_failure_is_told_once(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.error = WorkerDied("The process ended. Ask again: the next one starts.")
    result = chatsafe("run", "two words")
    assert result.stderr.splitlines() == [
        "Error: The process ended (worker_died)",
        "  do:  Ask again: the next one starts.",
    ]


def test_a_refusal_leaves_stdout_empty(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.error = QueueFull("The queue is full. Wait a little.", retry_after_s=7)
    result = chatsafe("run", "two words")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "Error: The queue is full (queue_full)",
        "  why: Wait a little.",
        "  do:  try again in 7 s; `chatsafe ps` shows what is running",
    ]


def test_too_long(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.error = ContextLengthExceeded(3000, 2048)
    assert chatsafe("run", "two words").stderr.splitlines()[:2] == [
        "Error: the messages are too long (context_length_exceeded)",
        "  why: they make 3000 tokens, and the model's context holds 2048, the answer included",
    ]


def test_a_break_in_mid_answer_shows_what_arrived(
    chatsafe: Chatsafe, daemon: ScriptedDaemon
) -> None:
    daemon.backend.error, daemon.backend.error_after = WorkerDied("The model's process died."), 1
    result = chatsafe("run", "two words")
    assert (result.exit_code, result.stdout) == (1, "Hello\n")
    assert "(worker_died)" in result.stderr


def test_a_cut_answer_is_said_to_be_cut(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.reason = FinishReason.LENGTH
    result = chatsafe("run", "two words")
    assert result.stdout == "Hello **there**.\n"
    assert "the answer was cut" in result.stderr


def test_chat_through_a_pipe(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("chat", stdin='Hi\n\n"""\nseveral\nlines\n"""\n/bye\nnever\n')
    assert result.exit_code == 0
    assert result.stdout == "Hello **there**.\n" * 2
    assert daemon.questions == [["Hi"], ["Hi", "Hello **there**.", "several\nlines"]]
    greeting = result.stderr.splitlines()
    assert "model scripted" in greeting[0]
    assert greeting[1] == "Nothing you type leaves this computer."


def test_chat_goes_on_after_an_error(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    daemon.backend.error = QueueFull("The queue is full.")
    result = chatsafe("chat", stdin="one\n/nonsense\n/clera\ntwo\n")
    assert result.exit_code == 0
    assert result.stderr.count("(queue_full)") == 2
    assert "Did you mean /clear?" in result.stderr


def test_chat_needs_a_daemon(chatsafe: Chatsafe, home: Path) -> None:
    assert chatsafe("chat", "--url", "http://127.0.0.1:1", stdin="Hi\n").exit_code == 3


def test_nothing_is_left_on_disk(chatsafe: Chatsafe, daemon: ScriptedDaemon, home: Path) -> None:
    canary = "wagtail-4711"
    chatsafe("chat", stdin=f"{canary}\n/stats\n/show\n/retry\n")
    assert daemon.questions[0] == [canary]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["admin.key"]


def test_save_and_load(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("chat", stdin="Hi\n/save chat.json\n")
    path = Path("chat.json").absolute()
    assert str(path) in result.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello **there**."},
    ]
    chatsafe("chat", stdin="/load chat.json\nAnd now?\n")
    assert daemon.questions[-1] == ["Hi", "Hello **there**.", "And now?"]
