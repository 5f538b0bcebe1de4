"""Detokenizer: whole characters only, and no byte is lost."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chatsafe_runtime.worker.detokenizer import Detokenizer


def run(pieces: list[bytes]) -> list[str]:
    detokenizer = Detokenizer()
    return [*(detokenizer.push(piece) for piece in pieces), detokenizer.flush()]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


cut_lists = st.lists(st.integers(0, 200), max_size=10)


@given(st.text(max_size=40), cut_lists)
def test_any_split_of_a_text_gives_the_text(text: str, cuts: list[int]) -> None:
    assert "".join(run(split(text.encode(), cuts))) == text


@given(st.binary(max_size=60), cut_lists)
def test_any_split_of_any_bytes_gives_the_same(data: bytes, cuts: list[int]) -> None:
    assert "".join(run(split(data, cuts))) == "".join(run([data]))


def test_a_half_character_waits_and_becomes_a_replacement_at_the_end() -> None:
    assert run([b" \xf0\x9f", b"\x98"]) == [" ", "", "\ufffd"]
    assert run([b"\xf0\x9f", b"\x98\x80 a"]) == ["", "\U0001f600 a", ""]


def test_a_leading_space_stays() -> None:
    assert run([b" Hello", b" you"]) == [" Hello", " you", ""]
