"""How much memory a model needs, and how much a worker holds."""

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
