"""How much memory this machine has left for one more model."""

import os
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be had without swapping; None when this system does not say.

    In a container the group's limit counts when it is the tighter one. `root` is where `proc`
    and `sys` are mounted.
    """
    found = [
        number
        for number in (_meminfo_available(root), _control_group_available(root))
        if number is not None
    ]
    if found:
        return min(found)
    try:
        # No free-memory figure (macOS): all of it is the best bound there is, the system
        # compresses and swaps what others hold.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _meminfo_available(root: Path) -> int | None:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _control_group_available(root: Path) -> int | None:
    """What the control group (version 2) leaves us; file cache counts as free, as above."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
        path = next(line[3:] for line in groups.splitlines() if line.startswith("0::"))
        group = root / "sys/fs/cgroup" / path.strip().lstrip("/")
        limit = int((group / "memory.max").read_text())  # "max" is no number: no limit
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError, StopIteration):
        return None
    cache = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return max(0, limit - used + cache)
