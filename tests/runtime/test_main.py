"""The worker as a process: Load, chats and the end, over a real socket pair with a real model."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.config.gguf_writer import CONTEXT, STRING, good_draft, string, write_good

from chatsafe_common.chat import Message, Sampling
from chatsafe_runtime.channel import (
    Admitted,
    Cancel,
    Delta,
    Done,
    Events,
    FrameReader,
    Load,
    LoadFailed,
    Ready,
    Refused,
    SequenceEvent,
    Submit,
    ToDaemon,
    ToWorker,
    daemon_reader,
    encode,
)

PATIENCE_S = 60.0
CANARY = "xylophone-canary"
ENDLESS = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


class Client:
    """The daemon's end of a worker."""

    def __init__(self, connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        self.connection = connection
        self.process = process
        self._reader: FrameReader[ToDaemon] = daemon_reader()
        self._frames: list[ToDaemon] = []

    def send(self, *frames: ToWorker) -> None:
        self.connection.sendall(b"".join(map(encode, frames)))

    def receive(self) -> ToDaemon | None:
        while not self._frames:
            data = self.connection.recv(65536)
            if not data:
                return None
            self._frames += self._reader.receive(data)
        return self._frames.pop(0)

    def events(self) -> Iterator[SequenceEvent]:
        while isinstance(frame := self.receive(), Events):
            yield from frame.items

    def until_the_end_of(self, *seqs: int) -> dict[int, list[SequenceEvent]]:
        by_seq: dict[int, list[SequenceEvent]] = {seq: [] for seq in seqs}
        open_seqs = set(seqs)
        for event in self.events():
            by_seq.setdefault(event.seq, []).append(event)
            if isinstance(event, Done | Refused):
                open_seqs.discard(event.seq)
            if not open_seqs:
                return by_seq
        raise AssertionError("the worker is gone")

    def stop(self) -> int:
        self.connection.close()
        return self.process.wait(PATIENCE_S)


@contextmanager
def worker() -> Iterator[Client]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "chatsafe_runtime.worker.main", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
        theirs.close()
        try:
            yield Client(ours, process)
        finally:
            process.kill()
            process.communicate()


def load(path: Path, **more: object) -> Load:
    options = {
        "context_window": 0,
        "max_parallel": 8,
        "batch_size": 512,
        "threads": 0,
        "gpu_layers": -1,
        "template": None,
    }
    return Load(str(path), **(options | more))  # type: ignore[arg-type]


def guide() -> Path:
    return Path(str(files("chatsafe_guide_model") / "chatsafe-guide.gguf"))


def ask(seq: int, text: str, **more: object) -> Submit:
    fields = {"sampling": Sampling(temperature=0.0), "max_tokens": 64, **more}
    return Submit(seq, (Message("user", text),), **fields)  # type: ignore[arg-type]


def text_of(events: list[SequenceEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_a_chat_from_load_to_exit() -> None:
    with worker() as client:
        client.send(load(guide()), ask(1, "Hello, how are you?"))
        ready = client.receive()
        assert isinstance(ready, Ready)
        assert (ready.max_parallel, ready.template) == (8, "file")
        assert ready.context_window > 500
        assert ready.isolation or ready.missing_isolation
        events = client.until_the_end_of(1)[1]
        assert isinstance(events[0], Admitted)
        assert isinstance(events[-1], Done)
        assert len(text_of(events).split()) > 2
        assert "<|" not in text_of(events)
        assert client.stop() == 0


def test_eight_at_once_get_what_each_gets_alone() -> None:
    questions = ["Hello!", "How do I stop the server?", "what is 2+2?", "thanks"] * 2
    with worker() as client:
        client.send(load(guide()))
        assert isinstance(client.receive(), Ready)
        alone = []
        for seq, question in enumerate(questions):
            client.send(ask(seq, question))
            alone.append(text_of(client.until_the_end_of(seq)[seq]))
        client.send(*(ask(100 + seq, question) for seq, question in enumerate(questions)))
        together = client.until_the_end_of(*(100 + seq for seq in range(8)))
        assert [text_of(together[100 + seq]) for seq in range(8)] == alone


def test_a_cancelled_chat_falls_silent_and_frees_its_place(tmp_path: Path) -> None:
    with worker() as client:
        client.send(load(write_good(tmp_path / "tiny.gguf"), max_parallel=1))
        assert isinstance(client.receive(), Ready)
        client.send(ask(1, "a", max_tokens=None), ask(2, "b", max_tokens=1), Cancel(1))
        events = client.until_the_end_of(2)
        assert not any(isinstance(event, Done | Refused) for event in events[1])


def test_a_prompt_over_the_window_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with worker() as client:
        client.send(load(write_good(tmp_path / "tiny.gguf")), ask(1, "x " * CONTEXT))
        client.receive()
        refused = client.until_the_end_of(1)[1][-1]
        assert isinstance(refused, Refused)
        assert refused.code == "context_length_exceeded"
        assert refused.prompt_tokens > CONTEXT
        assert str(CONTEXT) in refused.message


def test_a_huge_message_is_refused_quickly_enough_for_the_others() -> None:
    with worker() as client:
        client.send(load(guide()), ask(1, "word " * 2_000_000), ask(2, "Hello!"))
        client.receive()
        events = client.until_the_end_of(1, 2)
        assert isinstance(events[1][-1], Refused)
        assert isinstance(events[2][-1], Done)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ENDLESS, "runs for more than 1 s"),
        ("{% for %}", "line 1"),
        ("{{ 'x' * 99999999999 }}", "SecurityError"),
    ],
)
def test_a_hostile_template_in_the_file_fails_the_load(
    tmp_path: Path, template: str, reason: str
) -> None:
    path = tmp_path / f"{CANARY}.gguf"
    draft = good_draft().with_field("tokenizer.chat_template", STRING, string(template))
    path.write_bytes(draft.encode())
    with worker() as client:
        client.send(load(path))
        failed = client.receive()
        assert isinstance(failed, LoadFailed)
        assert reason in failed.reason
        assert CANARY not in failed.reason
        assert client.receive() is None
        assert client.process.wait(PATIENCE_S) == 0


def test_the_registrys_template_goes_before_the_files(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(
        good_draft().with_field("tokenizer.chat_template", STRING, string(ENDLESS)).encode()
    )
    with worker() as client:
        client.send(load(path, template="{{ messages[-1].content }}"), ask(1, "12345678"))
        ready = client.receive()
        assert isinstance(ready, Ready)
        assert ready.template == "registry"
        admitted = client.until_the_end_of(1)[1][0]
        assert admitted == Admitted(1, 8)


def test_without_any_template_there_is_a_generic_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(good_draft().without_field("tokenizer.chat_template").encode())
    with worker() as client:
        client.send(load(path), ask(1, "hi", max_tokens=1))
        ready = client.receive()
        assert isinstance(ready, Ready)
        assert ready.template == "generic"
        assert isinstance(client.until_the_end_of(1)[1][-1], Done)


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(64), b"no model at all" * 100])
def test_a_damaged_file_is_refused_or_ends_the_worker(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with worker() as client:
        client.send(load(path))
        failed = client.receive()
        assert failed is None or isinstance(failed, LoadFailed)
        assert client.process.wait(PATIENCE_S) in (0, -signal.SIGABRT, -signal.SIGSEGV)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    spoiled = good_draft().with_tensor(
        "output_norm.weight",
        lambda tensor: replace(tensor, data=b"\x00\x00\xc0\x7f" * (len(tensor.data) // 4)),
    )
    path.write_bytes(spoiled.encode())
    with worker() as client:
        client.send(load(path))
        failed = client.receive()
        assert isinstance(failed, LoadFailed)
        assert "weights are damaged" in failed.reason


def test_the_worker_ends_with_the_connection_even_while_it_works(tmp_path: Path) -> None:
    with worker() as client:
        client.send(load(write_good(tmp_path / "tiny.gguf")))
        assert isinstance(client.receive(), Ready)
        client.send(*(ask(seq, "a" * 300, max_tokens=None) for seq in range(8)))
        assert isinstance(client.receive(), Events)
        assert client.stop() == 0


@pytest.mark.parametrize("junk", [b"\x00\x00\x00\x04junk", encode(Cancel(1)), b"\xff" * 8])
def test_junk_instead_of_load_ends_the_worker(junk: bytes) -> None:
    with worker() as client:
        client.connection.sendall(junk)
        assert client.receive() is None
        assert client.process.wait(PATIENCE_S) != -signal.SIGKILL


def test_ctrl_c_is_for_the_daemon(tmp_path: Path) -> None:
    with worker() as client:
        client.send(load(write_good(tmp_path / "tiny.gguf")))
        assert isinstance(client.receive(), Ready)
        client.process.send_signal(signal.SIGINT)
        client.send(ask(1, "hi", max_tokens=2))
        assert isinstance(client.until_the_end_of(1)[1][-1], Done)


def test_no_text_is_written_to_standard_error() -> None:
    with worker() as client:
        client.send(load(guide()), ask(1, CANARY), ask(2, CANARY * 100_000))
        client.receive()
        client.until_the_end_of(1, 2)
        client.connection.close()
        _, output = client.process.communicate(timeout=PATIENCE_S)
        assert CANARY.encode() not in output
        assert output == b""


def test_the_worker_imports_neither_numpy_nor_the_high_level_engine() -> None:
    code = (
        "import json, sys, chatsafe_runtime.worker.main;"
        "print(json.dumps([m in sys.modules for m in ('numpy', 'llama_cpp.llama', 'asyncio')]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert json.loads(output) == [False, False, False]
