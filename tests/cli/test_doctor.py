"""What the doctor finds, and what it says to do about it."""

import json
import socket
from pathlib import Path

import pytest
from tests.cli.conftest import Chatsafe, ScriptedDaemon
from tests.config.gguf_writer import good_draft
from tests.support.canned_server import CannedServer
from tests.support.http_server import serving, unused_url

from chatsafe_cli import machine_checks
from chatsafe_common.backend import ModelStatus

Findings = dict[str, tuple[str, str, str]]


@pytest.fixture
def model_dir(home: Path) -> Path:
    """An empty model directory."""
    folder = home / "data" / "chatsafe" / "models"
    folder.mkdir(parents=True)
    return folder


def findings(chatsafe: Chatsafe, *args: str) -> tuple[int, Findings]:
    """The exit code, and by subject the level, the text and the fix."""
    result = chatsafe("doctor", "--json", *args)
    report = json.loads(result.stdout)
    assert report["problems"] == sum(f["level"] == "problem" for f in report["findings"])
    assert result.exit_code == (1 if report["problems"] else 0)
    return result.exit_code, {
        finding["subject"]: (finding["level"], finding["text"], finding["fix"])
        for finding in report["findings"]
    }


def test_a_healthy_daemon(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    _, found = findings(chatsafe)
    assert found["python"][0] == "ok"
    assert found["settings"][0] == "ok"
    assert found["daemon"][:2] == ("ok", f"healthy at {daemon.url}, up for 0 s")
    assert found["admin key"][1].endswith("mode 0600")
    assert found["privacy"][0] == "ok"
    assert "version" not in found


def test_for_people(chatsafe: Chatsafe, home: Path) -> None:
    url = unused_url()
    lines = chatsafe("doctor", "--url", url).stdout.splitlines()
    at = lines.index(f"warning  daemon: is not running at {url}")
    assert lines[at + 1] == "         do: chatsafe serve"
    assert lines[-1].endswith(("problems", "problem"))


def test_every_problem_names_a_fix(chatsafe: Chatsafe, home: Path) -> None:
    Path("config.toml").write_text("[server]\nport = 99999\n")
    code, found = findings(chatsafe, "--url", unused_url())
    assert code == 1
    assert found["settings"][0] == "problem"
    assert "config.toml" in found["settings"][1]
    assert all(fix for level, _, fix in found.values() if level != "ok")


def test_another_version(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsafe_cli.doctor.version", lambda name: "0.0.1")
    _, found = findings(chatsafe)
    assert found["version"][:2] == ("warning", "the daemon is 0.1.0, this command is 0.0.1")


def test_isolation(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelStatus(id="m", state="ready", missing_isolation=("no Landlock: kernel 5.10",))
    monkeypatch.setattr(daemon.backend, "status", lambda: (model,))
    _, found = findings(chatsafe)
    assert found["isolation"][:2] == ("warning", "m runs without: no Landlock: kernel 5.10")


def test_a_model_that_does_not_load(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelStatus(id="m", state="failed", error="too big")
    monkeypatch.setattr(daemon.backend, "status", lambda: (model,))
    code, found = findings(chatsafe)
    assert code == 1
    assert found["model"][1] == "m does not load: too big"
    assert found["model"][2].endswith("chatsafe stop m")


def test_a_key_that_others_can_read(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    key = Path("config/chatsafe/admin.key").absolute()
    key.chmod(0o644)
    code, found = findings(chatsafe)
    assert code == 1
    assert found["admin key"][2] == f"chmod 600 {key}"


def test_settings_with_a_key_that_others_can_read(chatsafe: Chatsafe, home: Path) -> None:
    file = Path("config.toml").absolute()
    file.write_text('[server]\napi_key = "secret-word"\n')
    file.chmod(0o644)
    result = chatsafe("doctor", "--url", unused_url())
    assert f"do: chmod 600 {file}" in result.stdout
    assert "secret-word" not in result.stdout


def test_the_port_is_taken(chatsafe: Chatsafe, home: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))  # holds the port and does not listen
        port = mute.getsockname()[1]
        code, found = findings(chatsafe, "--url", f"http://127.0.0.1:{port}")
    assert code == 1
    assert found["daemon"][1] == f"port {port} is taken by a program that does not answer"


def test_another_program_answers(chatsafe: Chatsafe, home: Path) -> None:
    with serving(CannedServer()) as url:
        code, found = findings(chatsafe, "--url", url)
    assert code == 1
    assert "answered by another program" in found["daemon"][1]


def test_a_broken_model_file(chatsafe: Chatsafe, model_dir: Path) -> None:
    (model_dir / "broken.gguf").write_bytes(b"GGUF nonsense")
    _, found = findings(chatsafe, "--url", unused_url())
    level, text, fix = found["model file"]
    assert level == "warning"
    assert text.startswith("broken.gguf cannot be used: ")
    assert fix == f"replace it, or: rm {model_dir / 'broken.gguf'}"


def test_a_model_directory_that_is_none(
    chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("models").touch()
    monkeypatch.setenv("CHATSAFE_RUNTIME_MODEL_DIR", "models")
    code, found = findings(chatsafe, "--url", unused_url())
    assert code == 1
    assert "which is no directory" in found["models"][1]


def test_a_model_directory_that_is_closed(
    chatsafe: Chatsafe, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)  # root, who may run the tests, reads everything
    code, found = findings(chatsafe, "--url", unused_url())
    assert code == 1
    assert found["model directory"][1] == f"{model_dir} cannot be read: Permission denied"


def test_a_path_with_a_blank_is_quoted(chatsafe: Chatsafe, model_dir: Path) -> None:
    (model_dir / "my model.gguf").write_bytes(b"GGUF nonsense")
    _, found = findings(chatsafe, "--url", unused_url())
    assert found["model file"][2] == f"replace it, or: rm '{model_dir / 'my model.gguf'}'"


def test_another_computer_is_not_started_from_here(chatsafe: Chatsafe, home: Path) -> None:
    _, found = findings(chatsafe, "--url", "http://box.invalid")
    assert found["daemon"][0] == "warning"
    assert "chatsafe serve" not in found["daemon"][2]


def test_a_broken_registry(chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("models.json").write_text("{")
    monkeypatch.setenv("CHATSAFE_MODELS_REGISTRY_FILE", "models.json")
    code, found = findings(chatsafe, "--url", unused_url())
    assert code == 1
    assert "models.json" in found["models"][1]


def test_no_engine(chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "find_spec", lambda name: None)
    code, found = findings(chatsafe, "--url", unused_url())
    assert code == 1
    assert found["engine"][0] == "problem"
    assert found["built-in model"][0] == "problem"
    assert found["default model"][0] == "problem"


def test_little_memory(
    chatsafe: Chatsafe, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = model_dir / "guide.gguf"
    guide.write_bytes(good_draft().encode())
    monkeypatch.setattr(machine_checks, "guide_path", lambda: guide)
    monkeypatch.setattr(machine_checks, "_refusal", lambda catalog, entry: "")
    monkeypatch.setattr(machine_checks, "available_bytes", lambda: 1024)
    _, found = findings(chatsafe, "--url", unused_url())
    assert found["default model"][1].startswith("chatsafe-guide")
    assert found["memory"][0] == "warning"


def test_remote_access_is_pointed_out(
    chatsafe: Chatsafe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATSAFE_SERVER_ALLOW_REMOTE", "true")
    _, found = findings(chatsafe, "--url", unused_url())
    assert found["privacy"][0] == "warning"
