"""StopMatcher: no part of a stop is let out, and the split of the text does not matter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_runtime.worker.stops import StopMatcher

LETTERS = "abc"
texts = st.text(LETTERS, max_size=24)
stop_lists = st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4)


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    text = "".join(matcher.push(piece) for piece in pieces) + matcher.flush()
    return text, matcher.is_stopped


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "is_stopped"),
    [
        (["Hello world<|eot_id|>extra"], ["<|eot_id|>"], "Hello world", True),
        (["Response<|end_of_text|>"], ["<|eot_id|>", "<|end_of_text|>"], "Response", True),
        (["text<|endoftext|>more"], ["<|endoftext|>"], "text", True),
        (["No stop sequence here"], ["<|eot_id|>"], "No stop sequence here", False),
        (
            ["Hello ", "world", "! This ", "is streaming", " STOP"],
            [" STOP"],
            "Hello world! This is streaming",
            True,
        ),
        (["abX later aaa"], ["aaa", "X"], "ab", True),
        (["ab", "c"], ["bcd"], "abc", False),
        (["abc", "X"], ["bc", "abcX"], "", True),
        (["abc"], ["bc", "abcX"], "a", True),
        (["aab"], ["ab", ""], "a", True),
    ],
)
def test_rules(pieces: list[str], stops: list[str], text: str, is_stopped: bool) -> None:
    assert run(pieces, stops) == (text, is_stopped)


@given(texts, stop_lists, st.data())
def test_any_split_gives_the_same(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    bounds = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    assert run(pieces, stops) == expected(text, stops)


@given(texts, stop_lists)
def test_holds_back_only_what_could_become_a_stop(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(map(matcher.push, text))
    if not matcher.is_stopped:
        held = text[len(shown) :]
        # The held text begins like a stop; what a found stop waits for begins earlier.
        assert not held or any(stop.startswith(held[: len(stop)]) for stop in stops)
        assert len(held) <= 2 * max(map(len, stops), default=0)


def test_nothing_comes_after_a_stop() -> None:
    matcher = StopMatcher(["."])
    assert matcher.push("a.b") == "a"
    assert matcher.push("c") == ""
    assert matcher.flush() == ""
