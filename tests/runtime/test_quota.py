"""Quota: what runs too long or grows too much is stopped, and nothing is left behind."""

import signal
import subprocess
import sys

import pytest

from chatsafe_runtime.worker.quota import OutOfTime, cpu_limit, is_enforced, memory_limit

pytestmark = pytest.mark.skipif(not is_enforced(), reason="this system has no such limits")

# Comparing two nested lists is one call into C that ends after 2 to the power of 60 steps.
ENDLESS_C_CALL = """
from chatsafe_runtime.worker.quota import cpu_limit
left, right = [1], [1]
for _ in range(60):
    left, right = [left, left], [right, right]
with cpu_limit(0.05, 0.2):
    left == right
"""


def spin(alarms_to_swallow: int) -> None:
    with cpu_limit(0.05, 5.0):
        while True:
            try:
                while True:
                    pass
            except OutOfTime:
                if alarms_to_swallow == 0:
                    raise
                alarms_to_swallow -= 1


def test_an_endless_loop_is_stopped() -> None:
    with pytest.raises(OutOfTime):
        spin(alarms_to_swallow=0)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_loop_that_swallows_the_first_alarms_is_stopped_too() -> None:
    with pytest.raises(OutOfTime):
        spin(alarms_to_swallow=3)


def test_an_endless_call_into_c_ends_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDLESS_C_CALL], check=False, timeout=60)
    assert ended.returncode == -signal.SIGVTALRM


def test_growth_is_stopped_and_the_limit_lifted() -> None:
    with pytest.raises(MemoryError), memory_limit(32 * 1024 * 1024):
        bytearray(256 * 1024 * 1024)
    assert len(bytearray(256 * 1024 * 1024)) == 256 * 1024 * 1024


def test_within_the_bounds_nothing_happens() -> None:
    with memory_limit(32 * 1024 * 1024), cpu_limit(5.0, 10.0):
        assert sum(range(1000)) == 499500
