"""The command itself, as a process: what it prints, how it ends, what it loads."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.daemon import environment

SERVER = str(Path(sys.executable).with_name("chatsafe-server"))
# What is not needed on the way to the first answer must not be loaded for it.
HEAVY = ("numpy", "jinja2", "httpx", "llama_cpp", "prometheus_client", "rich", "click.testing")


def run(home: Path, *flags: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SERVER, *flags],
        cwd=home,
        env=environment(home, **env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [SERVER, "--port", "0"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_three_lines_then_a_clean_end(server: "subprocess.Popen[str]") -> None:
    assert server.stdout is not None
    lines = [server.stdout.readline() for _ in range(3)]
    found = re.search(r"http://127\.0\.0\.1:(\d+)", lines[0])
    assert found
    assert lines[1].startswith(f"curl -s {found.group()}/v1/chat/completions ")
    assert lines[2] == f"export OPENAI_BASE_URL={found.group()}/v1 OPENAI_API_KEY=any\n"
    connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=10)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read().startswith(b'{"status":"healthy"')
    connection.close()
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=20)
    assert (server.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_ctrl_c_ends_with_0(server: "subprocess.Popen[str]") -> None:
    assert server.stdout is not None
    server.stdout.readline()
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=20)
    assert server.returncode == 0


def test_version_and_help(tmp_path: Path) -> None:
    assert re.fullmatch(r"chatsafe-server \d+\.\d+\.\d+\n", run(tmp_path, "--version").stdout)
    text = run(tmp_path, "--help").stdout
    for flag in ("--port", "--model-dir", "--log-level", "--config", "--queue-size"):
        assert flag in text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--port", "many"], "port"),
        (["--host", "0.0.0.0"], "allow_remote"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--prot", "1"], "--prot"),
    ],
)
def test_a_wrong_configuration_ends_with_2(tmp_path: Path, flags: list[str], text: str) -> None:
    ended = run(tmp_path, *flags)
    assert ended.returncode == 2
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_port_in_use_ends_with_1(tmp_path: Path, server: "subprocess.Popen[str]") -> None:
    assert server.stdout is not None
    found = re.search(r":(\d+)", server.stdout.readline().split("http://")[1])
    assert found
    ended = run(tmp_path, "--port", found.group(1))
    assert ended.returncode == 1
    assert "is in use" in ended.stderr


def test_nothing_heavy_is_loaded_for_the_start() -> None:
    code = (
        "import sys, chatsafe_daemon.main; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout == "[]\n"


def test_a_crash_shows_no_text(tmp_path: Path) -> None:
    code = (
        "from chatsafe_daemon.log import start_logging, describe\n"
        "start_logging('info')\n"
        "raise RuntimeError('secretword')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 1
    assert "RuntimeError" in ended.stderr
    assert "secretword" not in ended.stderr


def test_files_and_core_dumps_are_given_up(tmp_path: Path) -> None:
    code = (
        "import os, resource\n"
        "from chatsafe_daemon.hardening import harden\n"
        "harden()\n"
        "open('made', 'w').close()\n"
        "print(oct(os.stat('made').st_mode & 0o777), resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ended.stdout == "0o600 0\n"
