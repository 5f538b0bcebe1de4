"""Frames survive any split, and nothing malformed gets through."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.chat import Message, Sampling
from chatsafe_runtime.channel import (
    MAX_FRAME_BYTES,
    Admitted,
    Cancel,
    Delta,
    Done,
    Events,
    FrameError,
    Load,
    LoadFailed,
    Ready,
    Refused,
    Submit,
    ToDaemon,
    ToWorker,
    daemon_reader,
    encode,
    worker_reader,
)

TO_DAEMON: list[ToDaemon] = [
    Ready(2048, 8, ("no network",), ("no Landlock: old kernel",), "file"),
    LoadFailed("no such architecture"),
    Events((), 0, 0, False),
    Events(
        (
            Admitted(1, 12),
            Delta(1, "naïve 🙂"),
            Done(1, "stop", 12, 3, 0, 0.0, 0.5, 1.5),
            Refused(2, "queue_timeout", "No slot came free in time.", 0),
        ),
        1,
        2,
        True,
    ),
]
TO_WORKER: list[ToWorker] = [
    Load("/m.gguf", 0, 8, 512, 0, -1, None, stop=("</s>",)),
    Submit(
        1,
        (Message("system", ""), Message("user", "Hi\x00 <|eot_id|>")),
        Sampling(temperature=0.0, seed=2**63, logit_bias=((5, -100.0),)),
        None,
        ("x",),
    ),
    Cancel(1),
]


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_any_split_gives_the_same_frames(sizes: list[int]) -> None:
    data = b"".join(encode(frame) for frame in TO_DAEMON)
    reader = daemon_reader()
    frames: list[ToDaemon] = []
    for size in sizes:
        frames += reader.receive(data[:size])
        data = data[size:]
    frames += reader.receive(data)
    assert frames == TO_DAEMON


def test_worker_side_round_trip() -> None:
    data = b"".join(encode(frame) for frame in TO_WORKER)
    assert list(worker_reader().receive(data)) == TO_WORKER


@given(st.binary(max_size=64))
def test_noise_is_no_frame(noise: bytes) -> None:
    reader = daemon_reader()
    framed = len(noise).to_bytes(4, "big") + noise
    try:
        frames = list(reader.receive(framed))
    except FrameError:
        return
    # Whatever gets through is one of ours, byte for byte in meaning.
    assert all(list(daemon_reader().receive(encode(frame))) == [frame] for frame in frames)


@pytest.mark.parametrize("frame", TO_WORKER)
def test_a_frame_for_the_other_side_is_refused(frame: ToWorker) -> None:
    with pytest.raises(FrameError):
        list(daemon_reader().receive(encode(frame)))


def test_an_announced_size_over_the_limit_is_refused_before_its_body() -> None:
    with pytest.raises(FrameError):
        list(daemon_reader().receive((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))


def test_a_frame_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError):
        encode(LoadFailed("x" * MAX_FRAME_BYTES))


def test_good_frames_before_a_bad_one_are_handed_out() -> None:
    reader = daemon_reader()
    frames = reader.receive(encode(TO_DAEMON[0]) + b"\0\0\0\1\xc1")
    assert next(frames) == TO_DAEMON[0]
    with pytest.raises(FrameError):
        next(frames)


def test_repr_shows_no_text() -> None:
    secret = "canary"
    assert secret not in repr(Delta(1, secret))
    assert secret not in repr(Submit(1, (Message("user", secret),), Sampling(), None, (secret,)))
    assert secret not in repr(Events((Delta(1, secret),), 1, 0, False))


def test_fields_of_another_type_are_refused() -> None:
    body = msgspec.msgpack.encode({"type": "Delta", "seq": "1", "text": 5})
    with pytest.raises(FrameError):
        list(daemon_reader().receive(len(body).to_bytes(4, "big") + body))
