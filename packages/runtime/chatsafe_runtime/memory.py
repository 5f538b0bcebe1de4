"""How much memory a model needs, and how much this machine has left."""

import os
from importlib.util import find_spec
from pathlib import Path

from chatsafe_config.gguf import Header

# The worker's Python, the engine's libraries and its compute buffers.
PROCESS_BYTES = 192 * 1024 * 1024
# The share of the free memory that one more model may take; the rest of the machine needs some.
MAX_SHARE = 0.9
# A key or value of the KV cache is a 16-bit float.
KV_BYTES = 2


def kv_bytes_per_token(header: Header) -> int:
    """Memory of one token in the KV cache."""
    per_head = header.key_length + header.value_length
    return header.block_count * header.head_count_kv * per_head * KV_BYTES


def needed_bytes(header: Header, context_window: int) -> int:
    """The least memory that a loaded model takes: weights, one chat's window, the process.

    The worker takes more for chats beside the first where that is free, and makes do where not.
    """
    return header.tensor_bytes + kv_bytes_per_token(header) * context_window + PROCESS_BYTES


def fits(needed: int, free_bytes: int) -> bool:
    """Whether a model that needs so much may be loaded while so much is free."""
    return needed <= free_bytes * MAX_SHARE


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


def resident_bytes(process_id: int) -> int | None:
    """Memory that a process holds now; None when this system does not say."""
    try:
        pages = int(Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def engine_may_offload() -> bool:
    """Whether the installed engine was built for a GPU, judged by its libraries on disk.

    Then weights go where we cannot see how much is free, and only the engine can tell. The
    package is located, never imported: it must not be loaded into the daemon.
    """
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return False
    libraries = Path(spec.origin).with_name("lib")
    names = [path.name for path in libraries.glob("*ggml-*")]
    return any(
        kind in name for name in names for kind in ("cuda", "hip", "metal", "vulkan", "sycl")
    )
