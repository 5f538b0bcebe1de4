"""scripts/chat.sh, the real script, against the real API."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import ScriptedDaemon
from tests.support.canned_server import CannedServer
from tests.support.http_server import serving, unused_url
from tests.support.terminal import on_terminal

from chatsafe_common.errors import QueueFull, WorkerDied

SCRIPT = str(Path(__file__).resolve().parents[2] / "scripts" / "chat.sh")
SEPARATOR = "-" * 50


def chat(stdin: str, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SCRIPT, *args],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )


def conversation(done: "subprocess.CompletedProcess[str]") -> str:
    """What follows the banner."""
    return done.stdout.partition(SEPARATOR + "\n")[2]


def test_banner_and_farewell(daemon: ScriptedDaemon) -> None:
    done = chat("exit\n")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "ChatSafe, model: scripted",
        "Nothing you type leaves this computer.",
        "Type 'exit' to quit, '/reset' for a new conversation.",
        SEPARATOR,
        "You: Goodbye!",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_history_reset_and_empty_lines(daemon: ScriptedDaemon, flags: list[str]) -> None:
    done = chat("one\n\n   \ntwo\n/reset\nthree\nexit\n", *flags)
    assert conversation(done) == (
        "You: AI: Hello **there**.\n\n"
        "You: You: You: AI: Hello **there**.\n\n"
        "You: The conversation starts anew.\n\n"
        "You: AI: Hello **there**.\n\n"
        "You: Goodbye!\n"
    )
    assert daemon.questions == [["one"], ["one", "Hello **there**.", "two"], ["three"]]
    assert done.stderr == ""


@pytest.mark.parametrize("flags", [[], ["--stream"]])
@pytest.mark.parametrize(
    "text",
    [
        """a "b" 'c' \\ \\n $HOME $(touch /tmp/x) `id` ; | & * ~ {} !!""",
        "grün 😀 e\u0301 中",
        "  blanks around\tand a tab  ",
        "-n",
        "%s %d",
    ],
)
def test_every_character_arrives(daemon: ScriptedDaemon, flags: list[str], text: str) -> None:
    daemon.backend.pieces = ("ok ", '"q" \\n $x `y` 😀', "\nline")
    done = chat(f"{text}\nagain\n", *flags)
    assert daemon.questions == [[text], [text, 'ok "q" \\n $x `y` 😀\nline', "again"]]
    assert 'AI: ok "q" \\n $x `y` 😀\nline\n\n' in done.stdout


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_the_last_line_may_lack_its_end(daemon: ScriptedDaemon, flags: list[str]) -> None:
    done = chat("one", *flags)
    assert done.returncode == 0
    assert daemon.questions == [["one"]]


def test_pasted_dialogue_is_one_message(daemon: ScriptedDaemon) -> None:
    done = chat("You: hello\nAI: hi\n\nexit\n")
    assert done.returncode == 0
    assert daemon.questions == [["You: hello\nAI: hi\n\nexit"]]


def test_pasted_dialogue_at_a_terminal(daemon: ScriptedDaemon) -> None:
    with on_terminal([SCRIPT], os.environ) as terminal:
        terminal.wait_for("You: ")
        terminal.type("AI: hi\n")
        terminal.wait_for("Ctrl-D ends them")
        terminal.type("exit\n\x04")
        terminal.wait_for("AI: Hello **there**.")
        terminal.wait_for("You: ")
        terminal.type("exit\n")
        assert terminal.wait_for_end() == 0
    assert daemon.questions == [["AI: hi\nexit"]]


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_a_refused_question_is_forgotten(daemon: ScriptedDaemon, flags: list[str]) -> None:
    daemon.backend.error = QueueFull("All places are taken. Wait.")
    done = chat("one\ntwo\nexit\n", *flags)
    assert done.returncode == 0
    assert conversation(done) == (
        "You: Error: All places are taken. Wait.\n\n" * 2 + "You: Goodbye!\n"
    )


def test_an_answer_that_breaks_off(daemon: ScriptedDaemon) -> None:
    daemon.backend.error, daemon.backend.error_after = WorkerDied("It died."), 1
    done = chat("one\n", "--stream")
    assert "AI: Hello\nError: It died.\n\n" in done.stdout


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:1", True),
        ("127.0.0.1:1/v1/", True),
        ("localhost:1", True),
        ("http://[::1]:1", True),
        ("http://127.0.0.1.invalid:1", False),
        ("http://localhost:1@box.invalid:1", False),
        ("http://localhost.invalid", False),
    ],
)
def test_who_can_read_along(home: Path, url: str, is_here: bool) -> None:
    said = chat("exit\n", "--url", url).stdout
    assert ("Nothing you type leaves this computer." in said) is is_here
    assert ("whoever runs it can read it" in said) is not is_here


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_nobody_there(home: Path, flags: list[str]) -> None:
    url = unused_url()
    done = chat("one\ntwo\nexit\n", "--url", url, *flags)
    assert done.returncode == 0
    assert done.stdout.count(f"Error: cannot reach the daemon at {url};") == 2
    assert done.stdout.endswith("You: Goodbye!\n")


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_a_server_that_talks_nonsense(home: Path, flags: list[str]) -> None:
    server = CannedServer()
    server.reply("/v1/chat/completions", b"<html>", headers={"content-type": "text/html"})
    server.reply("/version", b"[]")
    with serving(server) as url:
        done = chat("one\nexit\n", *flags, CHATSAFE_URL=url + "/v1/")
    assert done.stdout.startswith("ChatSafe, model: unknown\n")  # somebody does answer there
    assert done.stdout.count("Error: ") == 1
    assert done.stdout.endswith("You: Goodbye!\n")
    assert done.stderr == ""


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_the_terminal_obeys_no_model(daemon: ScriptedDaemon, flags: list[str]) -> None:
    daemon.backend.pieces = ("\x1b]0;x\x07", "a\tb\u009b31m")
    assert "AI: ]0;xa\tb31m\n" in chat("one\n", *flags).stdout


def test_the_key_goes_into_a_header(home: Path) -> None:
    server = CannedServer()
    with serving(server) as url:
        chat("exit\n", "--url", url, CHATSAFE_API_KEY="a-key")
        assert server.requests[-1][2]["authorization"] == "Bearer a-key"
        count = len(server.requests)
        bad = chat("exit\n", "--url", url, CHATSAFE_API_KEY='x"\nurl = "http://192.0.2.1')
    assert bad.returncode == 2
    assert len(server.requests) == count


def test_nothing_typed_is_an_argument_or_a_file(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    """Stands in for curl and jq, and looks at how they are called."""
    for tool in ("curl", "jq"):
        wrapper = tmp_path / "bin" / tool
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {shutil.which(tool)} "$@"\n'
        )
        wrapper.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for flags in ([], ["--stream"]):
        chat("wagtail-4711\nagain\n", *flags, PATH=path, TMPDIR=str(temporary))
    assert daemon.questions[0] == ["wagtail-4711"]
    calls = (tmp_path / "calls").read_text()
    assert "chat/completions" in calls
    assert "wagtail" not in calls
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("args", [["--nonsense"], ["--url"], ["words"]])
def test_wrong_arguments(home: Path, args: list[str]) -> None:
    done = chat("", *args)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")


def test_help(home: Path) -> None:
    done = chat("", "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--stream", "--url", "/reset", "exit"))
