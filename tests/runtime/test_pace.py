"""Pace: a chunk is a time, within bounds."""

from hypothesis import given
from hypothesis import strategies as st

from chatsafe_runtime.worker.pace import (
    ALONE_STEP_S,
    FIRST_CHUNK_TOKENS,
    MIN_CHUNK_TOKENS,
    SHARED_STEP_S,
    Pace,
)


def test_before_any_measurement_the_chunk_is_careful() -> None:
    assert Pace(512).chunk_tokens(is_shared=False) == FIRST_CHUNK_TOKENS
    assert Pace(64).chunk_tokens(is_shared=True) == 64


def test_the_chunk_follows_the_speed() -> None:
    pace = Pace(512)
    pace.record(100, 1.0)
    assert pace.chunk_tokens(is_shared=True) == round(100 * SHARED_STEP_S)
    assert pace.chunk_tokens(is_shared=False) == round(100 * ALONE_STEP_S)
    for _ in range(50):
        pace.record(100, 0.05)
    assert pace.chunk_tokens(is_shared=True) == 512
    for _ in range(50):
        pace.record(100, 100.0)
    assert pace.chunk_tokens(is_shared=False) == MIN_CHUNK_TOKENS


def test_single_tokens_say_nothing_about_reading() -> None:
    pace = Pace(512)
    pace.record(8, 10.0)
    assert pace.chunk_tokens(is_shared=True) == FIRST_CHUNK_TOKENS


@given(
    st.lists(st.tuples(st.integers(1, 600), st.floats(0, 1000)), max_size=8),
    st.integers(40, 4096),
    st.booleans(),
)
def test_always_within_bounds(
    steps: list[tuple[int, float]], batch_size: int, is_shared: bool
) -> None:
    pace = Pace(batch_size)
    for num_tokens, seconds in steps:
        pace.record(num_tokens, seconds)
    assert MIN_CHUNK_TOKENS <= pace.chunk_tokens(is_shared=is_shared) <= batch_size
