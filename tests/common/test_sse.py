"""Server-sent events: what is encoded comes back, however the bytes are split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.sse import DONE, KEEP_ALIVE, SseDecoder, SseError, SseEvent, encode_event


def decode(data: bytes, sizes: list[int] | None = None) -> list[SseEvent]:
    decoder = SseDecoder(1_000_000)
    events: list[SseEvent] = []
    for size in sizes or []:
        events += decoder.receive(data[:size])
        data = data[size:]
    return [*events, *decoder.receive(data)]


def test_an_event_is_one_compact_line() -> None:
    assert encode_event({"a": [1, None], "é": "x\ny"}) == (
        'data: {"a":[1,null],"é":"x\\ny"}\n\n'.encode()
    )


@given(st.lists(st.text(), max_size=5), st.lists(st.integers(0, 9), max_size=40))
def test_decode_after_encode_is_the_identity(texts: list[str], sizes: list[int]) -> None:
    data = KEEP_ALIVE + b"".join(encode_event({"text": text}) for text in texts) + DONE
    events = decode(data, sizes)
    assert events == decode(data)
    assert events[-1] == SseEvent("[DONE]")
    assert len(events) == len(texts) + 1


@given(
    st.lists(st.sampled_from([b"data: a", b"data:b", b":c", b"event: e", b"id: 1", b""])),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(0, 5), max_size=60),
)
def test_line_ends_and_splits_change_nothing(
    lines: list[bytes], end: bytes, sizes: list[int]
) -> None:
    assert decode(end.join(lines) + end, sizes) == decode(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\ndata: b\n\n", [SseEvent("a\nb")]),
        (b"event: ping\ndata\n\n", [SseEvent("", "ping")]),
        (b"event: lost\n\ndata: a\n\n", [SseEvent("a")]),
        (b"data:  two blanks\n\n", [SseEvent(" two blanks")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent("a")]),
        (b"data: \xff\n\n", [SseEvent("\ufffd")]),
        (b": comment\n\ndata: a\n: comment\n\n", [SseEvent("a")]),
        (b"data: never ended\n", []),
        (b"", []),
    ],
)
def test_the_rules_of_the_standard(data: bytes, events: list[SseEvent]) -> None:
    assert decode(data) == events


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: xxxx\n" * 20])
def test_an_event_over_the_limit_is_refused(data: bytes) -> None:
    with pytest.raises(SseError):
        list(SseDecoder(100).receive(data))


def test_many_small_events_and_comments_are_not_one_large_event() -> None:
    data = (b": " + b"c" * 40 + b"\n") * 100 + b"data: x\n\n" * 100
    assert len(list(SseDecoder(100).receive(data))) == 100


def test_repr_hides_the_text() -> None:
    assert "secret" not in repr(SseEvent("secret"))
