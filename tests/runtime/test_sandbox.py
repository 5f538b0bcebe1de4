"""drop_rights: afterwards only the model can be read, and nothing can be reached.

Each check runs in a process of its own, since rights do not come back.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from chatsafe_runtime.worker import landlock

PRELUDE = """
import os, socket, sys
from chatsafe_runtime.worker.sandbox import drop_rights
applied, missing = drop_rights(sys.argv[1], uses_gpu=len(sys.argv) > 2)
def check(what):
    try:
        what()
    except OSError as error:
        print(type(error).__name__)
    else:
        print("allowed")
"""
needs_landlock = pytest.mark.skipif(
    sys.platform != "linux" or landlock.version() < landlock.SCOPE_VERSION,
    reason="this kernel has no full Landlock",
)


def run(code: str, model: Path, *more: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, str(model), *more],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout.splitlines()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_text("weights")
    (tmp_path / "secret.txt").write_text("secret")
    return path


def test_every_measure_is_either_applied_or_missing_with_a_reason(model: Path) -> None:
    for more in ((), ("gpu",)):
        applied, missing = map(eval_tuple, run("print(applied); print(missing)", model, *more))
        assert len({*applied, *missing}) == len(applied) + len(missing) >= 8
        assert all(item.endswith(")") and " (" in item for item in missing)
        if sys.platform == "linux":
            assert "no new privileges" in applied
            assert "no core file" in applied
            assert "memory closed to other programs" in applied


def eval_tuple(text: str) -> tuple[str, ...]:
    value = ast.literal_eval(text)
    assert isinstance(value, tuple)
    return value


@needs_landlock
def test_only_the_model_can_be_read(model: Path) -> None:
    code = """
check(lambda: open(sys.argv[1]).read())
check(lambda: open(sys.argv[1], "a"))
check(lambda: open(os.path.dirname(sys.argv[1]) + "/secret.txt"))
check(lambda: open("/etc/passwd"))
check(lambda: os.listdir("/"))
check(lambda: open(os.path.dirname(sys.argv[1]) + "/new.txt", "w"))
check(lambda: os.execv("/bin/sh", ["sh"]))
"""
    assert run(code, model) == ["allowed", *["PermissionError"] * 6]


@needs_landlock
def test_a_model_behind_a_link_can_be_read(model: Path) -> None:
    link = model.with_name("link.gguf")
    link.symlink_to(model)
    assert run("check(lambda: open(sys.argv[1]).read())", link) == ["allowed"]


@needs_landlock
def test_nothing_can_be_connected_or_bound(model: Path) -> None:
    code = """
check(lambda: socket.create_connection(("127.0.0.1", 9), 1))
check(lambda: socket.create_server(("127.0.0.1", 0)))
check(lambda: os.kill(os.getppid(), 0))
"""
    results = run(code, model)
    assert "allowed" not in results


def test_datagrams_stay_here_where_a_namespace_could_be_made(model: Path) -> None:
    code = """
import errno
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    sender.sendto(b"x", ("192.0.2.1", 9))
except OSError as error:
    print(errno.errorcode[error.errno])
else:
    print("sent")
print("no network" in applied)
"""
    result, is_applied = run(code, model)
    assert is_applied == "False" or result == "ENETUNREACH"


@needs_landlock
def test_with_a_graphics_processor_drivers_can_be_read_and_homes_cannot(model: Path) -> None:
    code = """
check(lambda: open("/etc/passwd").read())
check(lambda: open("/dev/null", "w").write("x"))
check(lambda: open(os.path.dirname(sys.argv[1]) + "/secret.txt"))
check(lambda: socket.create_connection(("127.0.0.1", 9), 1))
"""
    first, second, *rest = run(code, model, "gpu")
    assert (first, second) == ("allowed", "allowed")
    assert "allowed" not in rest


def test_no_core_and_no_reading_by_others(model: Path) -> None:
    code = """
import resource
check(lambda: open("/proc/self/mem", "rb"))
print(resource.getrlimit(resource.RLIMIT_CORE))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 64)
"""
    if sys.platform == "linux":
        assert run(code, model) == ["PermissionError", "(0, 0)", "True"]
