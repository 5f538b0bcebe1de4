"""What the daemon costs: start, memory, first answer, idle CPU, waiting clients, parallel streams.

Every figure comes from a real `chatsafe-server` with the guide model over HTTP on loopback. Each is
the median of several runs with its spread; ratios are taken side by side in one run.
"""

import argparse
import asyncio
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.daemon import DaemonProcess, environment, running_daemon  # noqa: E402
from tests.support.guide import endless_chat  # noqa: E402

TOKENS = 400


def memory_kib(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(process)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(port: int, payload: bytes) -> None:
    """Connect until the daemon answers with its first byte."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as link:
                link.sendall(payload)
                if link.recv(1):
                    return
        except OSError:
            time.sleep(0.002)


@contextmanager
def started(home: Path) -> Iterator[tuple[int, int, float]]:
    """A fresh daemon: its process id, its port, and when it was started."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    program = str(Path(sys.executable).with_name("chatsafe-server"))
    begun = time.perf_counter()
    process = subprocess.Popen(
        [program, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
        env=environment(home),
    )
    try:
        yield process.pid, port, begun
    finally:
        process.terminate()
        process.wait()


def start_times(home: Path, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the first byte of /healthz, MiB at that moment, seconds to a cold first answer."""
    health, memory, answer = [], [], []
    for _ in range(rounds):
        with started(home) as (process, port, begun):
            poll(port, f"GET /healthz HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
            health.append(time.perf_counter() - begun)
            memory.append(memory_kib(process) / 1024)
        with started(home) as (process, port, begun):
            hello = {"messages": [{"role": "user", "content": "Hello!"}]}
            poll(port, chat_request(port, hello))
            answer.append(time.perf_counter() - begun)
    return health, memory, answer


def idle_cpu(daemon: DaemonProcess, seconds: float) -> float:
    """CPU share in percent of daemon and worker together, with the model loaded and no request."""
    processes = [daemon.process.pid, *daemon.worker_ids()]
    before = sum(cpu_seconds(process) for process in processes)
    time.sleep(seconds)
    return 100 * (sum(cpu_seconds(process) for process in processes) - before) / seconds


async def one_stream(port: int, request: bytes) -> None:
    """Ask and read to the end, doing as little as a client can: the cores are the daemon's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    tail = b""
    while b"data: [DONE]" not in tail:
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the stream ended without its last event")
        tail = tail[-16:] + data
    writer.close()
    await writer.wait_closed()


async def rate(port: int, body: dict[str, object], streams: int) -> float:
    """Tokens per second of all streams together."""
    request = chat_request(port, body)
    begun = time.perf_counter()
    await asyncio.gather(*(one_stream(port, request) for _ in range(streams)))
    return streams * TOKENS / (time.perf_counter() - begun)


def chat_request(port: int, body: dict[str, object]) -> bytes:
    document = json.dumps(body)
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:{port}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(document)}\r\n\r\n{document}"
    ).encode()


def waiting_clients(daemon: DaemonProcess, body: dict[str, object], count: int) -> float:
    """MiB that `count` admitted, waiting SSE clients add to the daemon."""

    async def grow() -> float:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60, limits=limits) as client:
            streams: list[httpx.Response] = []

            async def join(number: int) -> None:
                for _ in range(number):
                    request = client.build_request("POST", "/v1/chat/completions", json=body)
                    streams.append(await client.send(request, stream=True))

            await join(8)
            before = memory_kib(daemon.process.pid)
            await join(count)
            after = memory_kib(daemon.process.pid)
            for stream in streams:
                await stream.aclose()
            return (after - before) / 1024

    return asyncio.run(grow())


def row(name: str, values: list[float], unit: str, goal: str) -> str:
    middle = statistics.median(values)
    digits = 2 if middle < 10 else 0
    spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    return f"| {name} | {middle:.{digits}f} {unit} | {spread} | {goal} |"


def measure(rounds: int) -> list[str]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        health, memory, answer = start_times(home / "start", rounds)
        rows.append(row("start to first byte of `/healthz`", health, "s", "≤ 0.5 s"))
        rows.append(row("resident memory before a model is loaded", memory, "MiB", "≤ 60 MB"))
        rows.append(row("cold start to the guide model's first answer", answer, "s", "≤ 3 s"))
        with running_daemon(
            home / "run", "--queue-size", "256", "--queue-timeout-s", "600"
        ) as daemon:
            daemon.chat("Hello!")
            bias = endless_chat(max_tokens=TOKENS)
            idle = [idle_cpu(daemon, 3) for _ in range(rounds)]
            rows.append(row("idle CPU, daemon and loaded worker", idle, "%", "0 %"))
            alone, together, ratio = [], [], []
            for _ in range(rounds):
                alone.append(asyncio.run(rate(daemon.port, bias, 1)))
                together.append(asyncio.run(rate(daemon.port, bias, 8)))
                ratio.append(together[-1] / alone[-1])
            rows.append(row("one stream, over HTTP", alone, "tokens/s", "≥ 200"))
            rows.append(row("eight streams together", together, "tokens/s", "above one stream"))
            rows.append(row("eight streams ÷ one stream", ratio, "x", "> 1"))
            waiting = [waiting_clients(daemon, bias, 200) for _ in range(rounds)]
            rows.append(row("200 waiting SSE clients add", waiting, "MiB", "≤ 20 MB"))
    return rows


def report(rows: list[str], rounds: int) -> str:
    packages = ("llama-cpp-python", "starlette", "uvicorn", "msgspec")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Made by `scripts/bench`; every figure is a median over "
            f"{rounds} rounds against a real daemon with the guide model on loopback.",
            "",
            f"- {datetime.date.today()}, {platform.system()} {platform.machine()}, "
            f"{os.cpu_count()} cores, Python {platform.python_version()}",
            f"- {versions}",
            "",
            "| what | median | spread | goal |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="print, do not write the page")
    options = parser.parse_args()
    page = report(measure(options.rounds), options.rounds)
    print(page)
    if not options.dry_run:
        (ROOT / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
