"""A daemon's real API over a scripted backend, and the command run against it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.http_server import serving

from chatsafe_cli.main import cli
from chatsafe_common.testing import ScriptedBackend
from chatsafe_local_api.app import create_app
from chatsafe_local_api.metrics import Metrics
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown

ADMIN_KEY = "an-admin-key-for-tests-only"


@dataclass
class ScriptedDaemon:
    """What answers, and where."""

    backend: ScriptedBackend
    url: str = field(default="")

    @property
    def questions(self) -> list[list[str]]:
        """The texts of each request's messages."""
        return [[m.content for m in request.messages] for request in self.backend.requests]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has set nothing, in an empty folder of theirs."""
    for name in ("CHATSAFE_URL", "CHATSAFE_API_KEY", "CHATSAFE_CONFIG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    """A running daemon that `CHATSAFE_URL` names and whose admin key the user has."""
    backend = ScriptedBackend(["Hello", " **there**", "."])
    options = ApiOptions(version="0.1.0", admin_key=ADMIN_KEY)
    app = create_app(backend, backend, options, Metrics(), Shutdown())
    key = home / "config" / "chatsafe" / "admin.key"
    key.parent.mkdir(parents=True)
    key.touch(mode=0o600)
    key.write_text(ADMIN_KEY)
    with serving(app) as url:
        monkeypatch.setenv("CHATSAFE_URL", url)
        yield ScriptedDaemon(backend, url)


Chatsafe = Callable[..., Result]


@pytest.fixture
def chatsafe() -> Chatsafe:
    """Runs the command in this process; stdout and stderr are apart, and neither is a terminal."""

    def run(*args: str, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(cli, args, input=stdin, prog_name="chatsafe")

    return run
