"""Nothing a user typed stays anywhere: canary words are searched in every artefact."""

import base64
from pathlib import Path

import pytest
from tests.support.daemon import DaemonProcess, running_daemon

CANARY = "zyxcanaryquartz"


def forms(word: str) -> list[bytes]:
    """The word as plain bytes, UTF-16, and in the three alignments of base64."""
    raw = word.encode()
    shifted = [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, word.encode("utf-16-le"), *shifted]


def everything_written(home: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_prompt_text_in_any_file_log_metric_or_environment(tmp_path: Path, level: str) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running_daemon(tmp_path / "home", "--log-level", level, TMPDIR=str(temporary)) as daemon:
        seen = []
        seen.append(daemon.chat(f"Hello {CANARY}, please repeat {CANARY}").status_code)
        seen.append(daemon.chat(CANARY, temperature=99).status_code)
        seen.append(daemon.chat(CANARY, model=CANARY).status_code)
        seen.append(daemon.chat(CANARY * 5000).status_code)
        seen.append(daemon.post({"messages": [{"role": CANARY, "content": CANARY}]}).status_code)
        seen.append(daemon.post({"messages": CANARY, CANARY: CANARY}).status_code)
        seen.append(
            daemon.client.post(
                "/v1/chat/completions",
                content=f'{{"messages": "{CANARY}',
                headers={"content-type": "application/json", "x-canary": CANARY},
            ).status_code
        )
        seen.append(daemon.client.get(f"/{CANARY}").status_code)
        daemon.stream_lines({"messages": [{"role": "user", "content": CANARY}]})
        for worker in daemon.worker_ids():
            daemon.chat(f"{CANARY} again")
            process = Path("/proc") / str(worker)
            command = (process / "cmdline").read_bytes() + (process / "comm").read_bytes()
            assert CANARY.encode() not in command
        assert seen == [200, 400, 404, 400, 400, 400, 400, 404]
        shown = [
            daemon.client.get(path, headers={"accept": accept}).text
            for path in ("/metrics", "/v1/status", "/healthz", "/version", "/models")
            for accept in ("*/*", "text/plain")
        ]
        for page in shown:
            assert CANARY not in page
    written = everything_written(tmp_path)
    assert b"level" in written or b"info" in written, "the log itself must have been searched"
    for form in forms(CANARY):
        assert form not in written


def test_errors_do_not_quote_the_prompt(daemon: DaemonProcess) -> None:
    for fields in ({"temperature": 99}, {"stop": [""]}, {"n": 0}, {"logit_bias": {"9999999": 1}}):
        reply = daemon.chat(CANARY, **fields)
        assert reply.status_code == 400
        assert CANARY not in reply.text


def test_files_the_daemon_makes_are_for_its_user_only(daemon: DaemonProcess) -> None:
    daemon.chat("Hi")
    made = [path for path in (daemon.home / "config").rglob("*") if path.is_file()]
    assert [path.name for path in made] == ["admin.key"]
    assert made[0].stat().st_mode & 0o077 == 0


def test_no_socket_but_the_listener_and_its_clients(daemon: DaemonProcess) -> None:
    """Neither daemon nor worker has a connection outward (read from the kernel's tables)."""
    daemon.chat("Hi")
    for process in (daemon.process.pid, *daemon.worker_ids()):
        for table in ("tcp", "tcp6", "udp", "udp6"):
            inodes = sockets_of(process)
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes:
                    assert table == "tcp", line
                    assert fields[1].split(":") == ["0100007F", f"{daemon.port:04X}"], line


def sockets_of(process: int) -> set[str]:
    """Inode numbers of a process's sockets; none for a worker that is not dumpable."""
    inodes = set()
    try:
        for link in Path(f"/proc/{process}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except PermissionError:
        return set()
    return inodes
