"""What the worker must know of this machine; read before the sandbox closes."""

import os
import sys
from pathlib import Path
from typing import Final

# Where the system does not say how much memory is free.
_ASSUMED_FREE_BYTES: Final = 4 * 1024**3


def free_memory_bytes() -> int:
    """Memory that programs can still get without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "darwin":
        # The total is all it tells; half of it is usually available.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _ASSUMED_FREE_BYTES


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
