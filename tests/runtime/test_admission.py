"""So many run, so many wait, the rest is told when to come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.errors import QueueFull
from chatsafe_runtime.admission import FIRST_GUESS_S, Admission, retry_after_s


def test_places_are_counted() -> None:
    admission = Admission(max_parallel=2, queue_size=1)
    for _ in range(3):
        admission.enter()
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    assert caught.value.retry_after_s == retry_after_s(1, 2, FIRST_GUESS_S)
    admission.leave()
    admission.enter()
    assert admission.num_open == 3


def test_no_queue_refuses_when_all_run() -> None:
    admission = Admission(max_parallel=1, queue_size=0)
    admission.enter()
    with pytest.raises(QueueFull):
        admission.enter()


@pytest.mark.parametrize(
    ("num_waiting", "max_parallel", "mean_s", "expected"),
    [
        (0, 8, 5.0, 1.0),
        (32, 8, 4.0, 9.0),  # 17 of 33 turns by 8 at a time, 4 s each
        (1, 1, 3.0, 3.0),
        (1000, 1, 10.0, 60.0),
        (0, 1, 0.0, 1.0),
    ],
)
def test_retry_after(num_waiting: int, max_parallel: int, mean_s: float, expected: float) -> None:
    assert retry_after_s(num_waiting, max_parallel, mean_s) == expected


@given(st.integers(0, 10_000), st.integers(1, 64), st.floats(0, 1e6))
def test_retry_after_is_whole_and_in_range(num_waiting: int, slots: int, mean_s: float) -> None:
    found = retry_after_s(num_waiting, slots, mean_s)
    assert 1 <= found <= 60
    assert found == int(found)
    assert retry_after_s(num_waiting + 1, slots, mean_s) >= found


def test_the_average_follows_recent_answers() -> None:
    admission = Admission(1, 0)
    for _ in range(40):
        admission.answered(20.0)
    assert admission.mean_duration_s == pytest.approx(20.0, rel=0.01)
    admission.answered(0.0)
    assert admission.mean_duration_s == pytest.approx(15.0, rel=0.01)
