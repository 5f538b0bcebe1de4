"""What the worker reads of the machine is plausible here, whatever machine this is."""

import os

from chatsafe_runtime.worker import machine


def test_there_is_a_core() -> None:
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
