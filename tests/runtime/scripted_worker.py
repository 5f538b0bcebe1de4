"""A worker without an engine: speaks the frames, and misbehaves as its mode or a message says.

Run as `python scripted_worker.py MODE FD`. Modes: ok, load-fails, load-dies, load-hangs,
load-garbage, stubborn (ignores SIGTERM and the end of its socket), chatty (floods its error
output). What the last message of a chat says is what happens:

    say WORDS      the words, one delta each, then the end
    hold           "begun", then silence until the chat is cancelled
    tick           a delta every few milliseconds until the chat is cancelled
    silent         nothing at all, not even an admission
    abort, exit    the process ends after "begun"
    garbage        bytes that are no frame after "begun"
    flood          more text than any context window can hold
    refuse CODE    a refusal
    odd            an end with a reason that does not exist
    submit         the Submit frame, as JSON
    load           the Load frame, as JSON
    open           how many chats are open here
"""

import os
import select
import signal
import socket
import sys

import msgspec

from chatsafe_runtime.channel import (
    Admitted,
    Cancel,
    Delta,
    Done,
    Events,
    Load,
    LoadFailed,
    Ready,
    Refused,
    SequenceEvent,
    Submit,
    encode,
    worker_reader,
)

TICK_S = 0.005


class Script:
    def __init__(self, mode: str, channel: socket.socket) -> None:
        self.mode = mode
        self.channel = channel
        self.load: Load | None = None
        self.open: set[int] = set()
        self.ticking: set[int] = set()

    def run(self) -> None:
        reader = worker_reader()
        while True:
            ready, _, _ = select.select([self.channel], [], [], TICK_S if self.ticking else None)
            if not ready:
                self.send([Delta(seq, "tick ") for seq in sorted(self.ticking)])
                continue
            data = self.channel.recv(65536)
            if not data:
                self.hang_if_stubborn()
                return
            for frame in reader.receive(data):
                match frame:
                    case Load():
                        self.on_load(frame)
                    case Submit():
                        self.on_submit(frame)
                    case Cancel(seq=seq):
                        self.open.discard(seq)
                        self.ticking.discard(seq)

    def on_load(self, load: Load) -> None:
        self.load = load
        match self.mode:
            case "load-fails":
                self.channel.sendall(encode(LoadFailed("The engine does not know this kind.")))
                sys.exit(1)
            case "load-dies":
                os.abort()
            case "load-hangs":
                signal.pause()
            case "load-garbage":
                self.channel.sendall(b"\xff\xff\xff\xff no frame")
            case "chatty":
                sys.stderr.write("canary-output " * 10_000)
                sys.stderr.flush()
        ready = Ready(load.context_window, load.max_parallel, ("no network",), (), "registry")
        self.channel.sendall(encode(ready))

    def on_submit(self, submit: Submit) -> None:
        seq = submit.seq
        self.open.add(seq)
        what, _, rest = submit.messages[-1].content.partition(" ")
        if what == "silent":
            return
        items: list[SequenceEvent] = [Admitted(seq, len(submit.messages))]
        match what:
            case "say":
                items += [Delta(seq, word) for word in rest.split()]
            case "submit":
                items.append(Delta(seq, msgspec.json.encode(submit).decode()))
            case "load":
                items.append(Delta(seq, msgspec.json.encode(self.load).decode()))
            case "open":
                items.append(Delta(seq, str(len(self.open))))
            case "refuse":
                items = [Refused(seq, rest, "Refused by the script.", prompt_tokens=99)]
            case "flood":
                items += [Delta(seq, "x" * 1024 * 1024) for _ in range(9)]
            case "tick":
                self.ticking.add(seq)
            case _:
                items.append(Delta(seq, "begun"))
        if what in ("say", "submit", "load", "open", "odd"):
            reason = "made-up" if what == "odd" else "stop"
            items.append(Done(seq, reason, 7, len(items) - 1, 2, 0.25, 0.5, 1.0))
        if isinstance(items[-1], Done | Refused):
            self.open.discard(seq)
        self.send(items)
        match what:
            case "abort":
                os.abort()
            case "exit":
                sys.exit(0)
            case "garbage":
                self.channel.sendall(b"\x00\x00\x00\x02\xc1\xc1")

    def send(self, items: list[SequenceEvent]) -> None:
        self.channel.sendall(encode(Events(tuple(items), len(self.open), 0, prefilling=False)))

    def hang_if_stubborn(self) -> None:
        while self.mode == "stubborn":
            signal.pause()


def main() -> None:
    mode, descriptor = sys.argv[1:]
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as channel:
        Script(mode, channel).run()


if __name__ == "__main__":
    main()
