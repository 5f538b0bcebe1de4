"""What the worker reads of the machine is plausible here, whatever machine this is."""

import os

from chatsafe_runtime.worker import machine


def test_there_is_some_memory_and_a_core() -> None:
    assert machine.free_memory_bytes() > 64 * 1024 * 1024
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
