"""list, ps, show, stop and status against the real API."""

import json

import msgspec
import pytest
from tests.cli.conftest import Chatsafe, ScriptedDaemon

from chatsafe_common.backend import ModelStatus
from chatsafe_common.chat import ModelCard
from chatsafe_common.errors import ModelBusy


class TwoModels:
    """What a scripted backend says when it has two models, one of them without a file."""

    def __init__(self, daemon: ScriptedDaemon) -> None:
        self.cards = (
            msgspec.structs.replace(daemon.backend.card, size_bytes=5 * 1024**3, loaded=True),
            ModelCard(id="scripted-2", name="Two", context_window=64, available=False),
        )

    async def models(self) -> tuple[ModelCard, ...]:
        return self.cards


@pytest.fixture
def two(daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> ScriptedDaemon:
    monkeypatch.setattr(daemon.backend, "models", TwoModels(daemon).models)
    return daemon


def test_list(chatsafe: Chatsafe, two: ScriptedDaemon) -> None:
    lines = chatsafe("list").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "SIZE", "CONTEXT", "QUANTIZATION", "STATE"]
    assert lines[1].split() == ["scripted", "5.0", "GiB", "2048", "in", "memory,", "default"]
    assert lines[2].split() == ["scripted-2", "64", "no", "file"]


def test_a_file_that_is_refused_is_not_called_absent(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = TwoModels(daemon)
    broken = msgspec.structs.replace(models.cards[1], size_bytes=8)
    models.cards = (models.cards[0], broken)
    monkeypatch.setattr(daemon.backend, "models", models.models)
    result = chatsafe("list")
    assert result.stdout.splitlines()[2].split() == ["scripted-2", "8", "bytes", "64", "refused"]
    assert "`chatsafe doctor` says why" in result.stderr


def test_list_as_json(chatsafe: Chatsafe, two: ScriptedDaemon) -> None:
    models = json.loads(chatsafe("list", "--json").stdout)
    assert [(m["id"], m["available"], m["is_default"]) for m in models] == [
        ("scripted", True, True),
        ("scripted-2", False, False),
    ]


def test_show(chatsafe: Chatsafe, two: ScriptedDaemon) -> None:
    assert "64 tokens" in chatsafe("show", "scripted-").stdout
    assert json.loads(chatsafe("show", "scripted", "--json").stdout)["id"] == "scripted"


def test_several_models_begin_like_that(chatsafe: Chatsafe, two: ScriptedDaemon) -> None:
    result = chatsafe("show", "scr")
    assert result.exit_code == 2
    assert "scripted, scripted-2" in result.stderr


def test_no_model_begins_like_that(chatsafe: Chatsafe, two: ScriptedDaemon) -> None:
    result = chatsafe("show", "scirpted")
    assert result.exit_code == 4
    assert "Did you mean scripted?" in result.stderr


def test_ps(chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    models = (
        ModelStatus(
            id="a",
            state="ready",
            num_running=2,
            num_waiting=1,
            context_window=512,
            max_parallel=8,
            memory_bytes=10 * 1024**2,
        ),
        ModelStatus(id="b", state="ready", max_parallel=8, expires_in_s=299.0),
        ModelStatus(id="c", state="failed", error="the file is broken\x1b[31m"),
    )
    monkeypatch.setattr(daemon.backend, "status", lambda: models)
    result = chatsafe("ps")
    lines = result.stdout.splitlines()
    assert lines[1].split()[:9] == ["a", "ready", "10.0", "MiB", "512", "2", "of", "8", "1"]
    assert lines[2].endswith("in 4 min")
    assert lines[3].split() == ["c", "failed", "0", "of", "0", "0"]
    assert "c failed: the file is broken[31m" in result.stderr
    assert "\x1b" not in result.output
    assert [m["id"] for m in json.loads(chatsafe("ps", "--json").stdout)] == ["a", "b", "c"]


def test_ps_of_nothing(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.backend, "status", tuple)
    result = chatsafe("ps")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no model is in memory" in result.stderr
    assert json.loads(chatsafe("ps", "--json").stdout) == []


def test_stop_uses_the_admin_key(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("stop", "scr")
    assert result.exit_code == 0
    assert daemon.backend.unloaded == ["scripted"]


def test_stop_of_a_model_that_rests(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.backend, "status", tuple)
    result = chatsafe("stop", "scripted")
    assert result.exit_code == 0
    assert "is not in memory" in result.stderr
    assert daemon.backend.unloaded == []


def test_stop_of_a_busy_model(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(model: str) -> None:
        raise ModelBusy(f"{model} is answering. Wait.")

    monkeypatch.setattr(daemon.backend, "unload", refuse)
    result = chatsafe("stop", "scripted")
    assert result.exit_code == 1
    assert "(model_busy)" in result.stderr


def test_stop_without_the_key(
    chatsafe: Chatsafe, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    result = chatsafe("stop", "scripted")
    assert result.exit_code == 1
    assert "admin key" in result.stderr
    assert daemon.backend.unloaded == []


def test_status(chatsafe: Chatsafe, daemon: ScriptedDaemon) -> None:
    result = chatsafe("status")
    assert result.exit_code == 0
    for text in (daemon.url, "healthy", "scripted (ready)", "Nothing you type leaves"):
        assert text in result.stdout
    status = json.loads(chatsafe("status", "--json").stdout)
    assert status["url"] == daemon.url
    assert status["models"][0]["id"] == "scripted"
