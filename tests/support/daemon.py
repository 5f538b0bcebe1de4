"""A real `chatsafe-server` process in a home of its own, for tests that look from outside."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


class DaemonProcess:
    """One running daemon: its URL, its home directory, what it printed."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, home: Path, log: Path) -> None:
        self.process = process
        self.url = url
        self.home = home
        self.log_path = log
        self.client = httpx.Client(base_url=url, timeout=120)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def model_dir(self) -> Path:
        return self.home / "data" / "chatsafe" / "models"

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def chat(self, text: str, **fields: object) -> httpx.Response:
        return self.post({"messages": [{"role": "user", "content": text}], **fields})

    def post(self, body: object) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=body)

    def stream_lines(self, body: dict[str, object]) -> list[str]:
        with self.client.stream(
            "POST", "/v1/chat/completions", json={**body, "stream": True}
        ) as reply:
            assert reply.status_code == 200, reply.read()
            return "".join(reply.iter_text()).split("\n")

    def worker_ids(self) -> list[int]:
        models = self.client.get("/v1/status").json()["models"]
        return [model["process_id"] for model in models if model.get("process_id")]

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a user whose home is `home` and who set nothing else."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        **extra,
    }


@contextmanager
def running_daemon(home: Path, *flags: str, **env: str) -> Iterator[DaemonProcess]:
    """Start `chatsafe-server` on a free port, wait until it says its URL, stop it at the end."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "stderr.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("chatsafe-server")), "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=home,
            env=environment(home, **env),
        )
    assert process.stdout is not None
    daemon: DaemonProcess | None = None
    try:
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                daemon = DaemonProcess(process, found.group(), home, log)
                break
        if daemon is None:
            raise AssertionError(f"the daemon did not start: {log.read_text()}")
        yield daemon
    finally:
        if daemon is not None:
            daemon.stop()
        else:
            process.kill()
            process.wait()
        process.stdout.close()
