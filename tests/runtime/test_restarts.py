"""Back-off and giving up, with time passed in."""

from chatsafe_runtime.restarts import MAX_CRASHES, WINDOW_S, Restarts


def test_no_crash_no_wait() -> None:
    assert Restarts().delay_s(0.0) == 0.0


def test_the_pause_grows_from_half_a_second_to_thirty() -> None:
    restarts = Restarts()
    pauses = []
    for crash in range(MAX_CRASHES - 1):
        now = float(crash)
        assert not restarts.crashed(now)
        pauses.append(restarts.delay_s(now))
    assert pauses == [0.5, 2.0, 8.0, 30.0]
    assert restarts.delay_s(3.0 + 10) == 20.0
    assert restarts.delay_s(3.0 + 31) == 0.0


def test_five_crashes_in_ten_minutes_are_too_many() -> None:
    restarts = Restarts()
    times = [0.0, 100.0, 200.0, 300.0, 600.0]
    assert [restarts.crashed(time) for time in times] == [False] * 4 + [True]


def test_crashes_far_apart_never_add_up() -> None:
    restarts = Restarts()
    assert not any(restarts.crashed(time * WINDOW_S / 3) for time in range(40))
    assert restarts.delay_s(40 * WINDOW_S) == 0.0


def test_an_answer_clears_the_record() -> None:
    restarts = Restarts()
    for time in range(MAX_CRASHES * 3):
        assert not restarts.crashed(float(time))
        assert restarts.delay_s(float(time)) == 0.5
        restarts.reset()
