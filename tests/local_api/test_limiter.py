"""The limiter: never over its limits, never below zero, never a lost place."""

from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.errors import ConcurrencyLimitExceeded, RateLimitExceeded
from chatsafe_local_api.limiter import FORGET_AFTER_S, SWEEP_EVERY_S, Bucket, Limiter


def limiter(per_minute: int = 0, concurrent: int = 0, everybody: int = 0) -> Limiter:
    return Limiter(
        per_caller_per_minute=per_minute,
        max_concurrent_per_caller=concurrent,
        global_per_minute=everybody,
        now=0.0,
    )


def test_the_eleventh_of_ten_a_minute_is_refused_and_a_token_comes_back() -> None:
    limits = limiter(per_minute=10)
    assert [limits.admit("a", 0.0) for _ in range(10)] == [None] * 10
    refusal = limits.admit("a", 0.0)
    assert isinstance(refusal, RateLimitExceeded)
    assert refusal.retry_after_s == 6
    assert limits.admit("b", 0.0) is None
    assert limits.admit("a", 5.9) is not None
    assert limits.admit("a", 6.0) is None


def test_the_third_of_two_at_once_is_refused_until_one_ends() -> None:
    limits = limiter(concurrent=2)
    assert limits.admit("a", 0.0) is None
    assert limits.admit("a", 0.0) is None
    assert isinstance(limits.admit("a", 0.0), ConcurrencyLimitExceeded)
    limits.release("a", 0.0)
    assert limits.admit("a", 0.0) is None


def test_a_global_refusal_gives_the_caller_s_token_and_place_back() -> None:
    limits = limiter(per_minute=1, concurrent=1, everybody=1)
    assert limits.admit("a", 0.0) is None
    refusal = limits.admit("b", 0.0)
    assert refusal is not None
    assert "global_per_minute" in refusal.message
    assert limits.num_running == 1
    assert limits.admit("b", 60.0) is None


def test_a_refusal_for_concurrency_costs_no_token() -> None:
    limits = limiter(per_minute=2, concurrent=1)
    assert limits.admit("a", 0.0) is None
    for _ in range(5):
        assert isinstance(limits.admit("a", 0.0), ConcurrencyLimitExceeded)
    limits.release("a", 0.0)
    assert limits.admit("a", 0.0) is None


def test_zero_is_off() -> None:
    limits = limiter()
    assert [limits.admit("a", 0.0) for _ in range(1000)] == [None] * 1000


def test_silent_callers_are_forgotten_and_running_ones_are_not() -> None:
    limits = limiter(per_minute=10)
    limits.admit("running", 0.0)
    limits.admit("gone", 0.0)
    limits.release("gone", 0.0)
    limits.admit("new", FORGET_AFTER_S - 1)
    assert limits.num_callers == 3
    limits.admit("new", FORGET_AFTER_S - 1 + SWEEP_EVERY_S)
    assert limits.num_callers == 2


@given(st.integers(1, 50), st.lists(st.floats(-5, 50), max_size=60))
def test_a_bucket_stays_between_empty_and_full(capacity: int, steps: list[float]) -> None:
    bucket, now, num_taken, latest = Bucket(capacity, 0.0), 0.0, 0, 0.0
    for step in steps:
        now += step
        latest = max(latest, now)
        num_taken += bucket.take(now) == 0.0
        assert 0 <= bucket.tokens <= capacity
        assert num_taken <= capacity + latest * capacity / 60 + 1e-6


calls = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["admit", "release"]), st.floats(0, 20)),
    max_size=80,
)


@given(calls, st.integers(0, 4), st.integers(0, 3), st.integers(0, 6))
def test_places_always_return_to_zero(
    steps: list[tuple[str, str, float]], per_minute: int, concurrent: int, everybody: int
) -> None:
    limits = limiter(per_minute, concurrent, everybody)
    running = dict.fromkeys("abc", 0)
    now = 0.0
    for name, action, step in steps:
        now += step
        if action == "admit":
            running[name] += limits.admit(name, now) is None
        elif running[name]:
            limits.release(name, now)
            running[name] -= 1
        assert limits.num_running == sum(running.values())
        if concurrent:
            assert max(running.values()) <= concurrent
    for name, number in running.items():
        for _ in range(number):
            limits.release(name, now)
    assert limits.num_running == 0
