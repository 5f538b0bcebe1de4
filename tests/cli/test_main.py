"""The list of commands, completion, failures in three parts and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from tests.cli.conftest import Chatsafe, ScriptedDaemon
from tests.support.http_server import unused_url

from chatsafe_cli.main import COMMANDS, cli


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_says_what_it_does(chatsafe: Chatsafe, name: str) -> None:
    entry = COMMANDS[name]
    command = entry.load()
    assert command.name == name
    assert entry.help
    if name != "serve":  # its --help is that of chatsafe-server
        result = chatsafe(name, "--help")
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: chatsafe {name}")


def test_help_lists_the_commands_without_loading_them() -> None:
    program = (
        "import sys\n"
        "from chatsafe_cli.main import cli\n"
        "try:\n    cli(['--help'], prog_name='chatsafe')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'httpx', 'rich', 'prompt_toolkit', 'llama_cpp', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_version(chatsafe: Chatsafe) -> None:
    assert chatsafe("--version").stdout == "chatsafe, version 0.1.0\n"


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(chatsafe: Chatsafe) -> None:
    result = chatsafe("statsu")
    assert result.exit_code == 2
    assert "Did you mean status?" in result.stderr
    assert result.stdout == ""


def test_ls_is_list(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    assert chatsafe("ls").stdout == chatsafe("list").stdout


def test_bare_names_the_next_command(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe()
    assert result.exit_code == 0
    assert "answers at" in result.stdout
    assert "chatsafe chat" in result.stdout


def test_bare_without_a_daemon(chatsafe: Chatsafe, home: Path) -> None:
    result = chatsafe("--url", unused_url())
    assert result.exit_code == 0
    assert "chatsafe serve" in result.stdout


def test_bare_where_another_computer_is_silent(chatsafe: Chatsafe, home: Path) -> None:
    result = chatsafe("--url", "http://192.0.2.1.invalid")
    assert result.exit_code == 0
    assert "chatsafe serve" not in result.stdout
    assert "CHATSAFE_URL" in result.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["run 'Hello there'", "list", "chat"])
def test_closed_streams_are_no_crash(home: Path, command: str, closed: str) -> None:
    url = unused_url()
    program = "from chatsafe_cli.main import main; main()"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" --url {url} {command} {closed}', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nend"])
def test_a_key_that_is_none(
    chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("CHATSAFE_API_KEY", key)
    result = chatsafe("ps")
    assert result.exit_code == 2
    assert "Error: The access key holds a character that no key has" in result.stderr
    assert "do:  correct CHATSAFE_API_KEY" in result.stderr
    assert key not in result.output


def test_a_full_disk_behind_stdout(home: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    program = "from chatsafe_cli.main import main; main()"
    with full.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", program, "config", "show"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "Error: cannot use the output",
        "  why: No space left on device",
    ]
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize("command", [["list"], ["ps"], ["show", "x"], ["stop", "x"], ["status"]])
def test_nobody_there(chatsafe: Chatsafe, home: Path, command: list[str]) -> None:
    url = unused_url()
    result = chatsafe(*command, "--url", url)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert f"Error: Nothing answers at {url}" in result.stderr
    assert "  do:  start the daemon with `chatsafe serve`" in result.stderr


def test_the_address_may_stand_before_or_after_the_command(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATSAFE_URL", unused_url())
    assert chatsafe("--url", daemon.url, "status").exit_code == 0
    assert chatsafe("status", "--url", daemon.url + "/v1").exit_code == 0


@pytest.mark.parametrize("url", ["ftp://x", "http://u:p@x", ""])
def test_an_address_that_is_none(chatsafe: Chatsafe, home: Path, url: str) -> None:
    result = chatsafe("--url", url or "http://", "status")
    assert result.exit_code == 2
    assert "http://127.0.0.1:8081" in result.stderr


def test_a_broken_settings_file_is_named(chatsafe: Chatsafe, home: Path) -> None:
    Path("config.toml").write_text("[server]\nprot = 1\n")
    result = chatsafe("status")
    assert result.exit_code == 1
    assert "config.toml" in result.stderr
    assert "Did you mean port?" in result.stderr


def test_a_settings_file_cannot_send_questions_elsewhere(chatsafe: Chatsafe, home: Path) -> None:
    Path("config.toml").write_text(
        '[server]\nhost = "192.0.2.7"\nallow_remote = true\napi_key = "k"\n'
    )
    result = chatsafe("run", "a question")
    assert result.exit_code == 1
    assert "192.0.2.7 is no address of this machine" in result.stderr


def test_the_settings_say_where_the_daemon_is(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATSAFE_URL")
    port = daemon.url.rpartition(":")[2]
    monkeypatch.setenv("CHATSAFE_SERVER_PORT", port)
    assert daemon.url in chatsafe("status").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(chatsafe: Chatsafe, shell: str) -> None:
    result = chatsafe("completion", shell)
    assert result.exit_code == 0
    assert "_CHATSAFE_COMPLETE" in result.stdout


def test_completion_completes() -> None:
    found = BashComplete(cli, {}, "chatsafe", "_CHATSAFE_COMPLETE")
    assert [item.value for item in found.get_completions([], "st")] == ["stop", "status"]
    assert "--json" in [item.value for item in found.get_completions(["ps"], "--")]


def test_config_show(chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text('[server]\nport = 9000\napi_key = "very-secret"\n')
    monkeypatch.setenv("CHATSAFE_LIMITS_QUEUE_SIZE", "3")
    plain = chatsafe("config", "show")
    with_origin = chatsafe("config", "show", "--origin")
    as_json = chatsafe("config", "show", "--json")
    assert "very-secret" not in plain.stdout + with_origin.stdout + as_json.stdout
    lines = {line.split()[0]: line for line in with_origin.stdout.splitlines()}
    assert lines["server.port"].split() == [
        "server.port",
        "9000",
        "project",
        "file",
        "./config.toml",
    ]
    assert lines["limits.queue_size"].endswith("environment CHATSAFE_LIMITS_QUEUE_SIZE")
    assert "ORIGIN" not in plain.stdout
    assert '"server.port": {\n    "value": 9000' in as_json.stdout


def test_serve_becomes_the_server(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "chatsafe-server"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "server $@"\n')
    program.chmod(0o755)
    code = (
        "import sys; sys.argv = [sys.argv[1], 'serve', '--port', '9', '--help'];"
        "from chatsafe_cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(program.with_name("chatsafe"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "server --port 9 --help\n"


def test_no_color(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    colored = CliRunner().invoke(cli, ["list"], color=True)
    assert "\x1b[" in colored.stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(cli, ["list"], color=True).stdout
