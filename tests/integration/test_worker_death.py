"""`kill -9` of a worker in mid-stream: a typed error soon, and the next request works."""

import json
import os
import signal
import time
from pathlib import Path

from tests.support.daemon import running_daemon
from tests.support.guide import endless_chat


def test_stream_ends_with_a_typed_error_and_the_next_request_works(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "home") as daemon:
        assert daemon.chat("Hi").status_code == 200
        (worker,) = daemon.worker_ids()
        with daemon.client.stream("POST", "/v1/chat/completions", json=endless_chat()) as reply:
            lines = reply.iter_lines()
            assert '"role":"assistant"' in next(lines)
            os.kill(worker, signal.SIGKILL)
            killed_at = time.monotonic()
            rest = [line for line in lines if line]
            took = time.monotonic() - killed_at
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "worker_died"
        assert "data: [DONE]" not in rest
        assert took < 1.0
        assert daemon.client.get("/healthz").status_code == 200
        assert daemon.chat("Hello!").status_code == 200
        assert daemon.worker_ids() != [worker]
        assert daemon.client.get("/healthz").json()["status"] == "healthy"


def test_leaving_in_mid_stream_frees_the_slot(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "home", "--parallel", "1") as daemon:
        with daemon.client.stream("POST", "/v1/chat/completions", json=endless_chat()) as reply:
            assert '"role":"assistant"' in next(reply.iter_lines())
        # With one slot only, this answer needs the slot that the other stream left.
        assert daemon.chat("Hello!").status_code == 200
        (model,) = daemon.client.get("/v1/status").json()["models"]
        assert model["num_running"] == 0
        assert daemon.client.get("/metrics").json()["cancelled_requests"] == 1


def test_workers_end_with_a_killed_daemon(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "home") as daemon:
        daemon.chat("Hi")
        (worker,) = daemon.worker_ids()
        daemon.process.kill()
        daemon.process.wait()
        wait_until_gone(worker)


def wait_until_gone(process: int) -> None:
    """Poll the process table; the test runner's own time limit ends a process that stays."""
    deadline = time.monotonic() + 10
    while is_alive(process):
        assert time.monotonic() < deadline, "the worker outlived its daemon"
        os.sched_yield()


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
