"""What the worker must know of this machine; read before the sandbox closes."""

import os
from pathlib import Path


def physical_cores() -> int:
    """Cores this process may run on, with sibling threads counted once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    siblings = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(topology.read_text())
        except OSError:
            return len(allowed)
    return max(1, len(siblings))
