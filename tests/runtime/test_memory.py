"""What fits: arithmetic on headers, and the figures that systems give."""

import os
from pathlib import Path

from tests.config.gguf_writer import HEAD_SIZE, write_good

from chatsafe_config.gguf import Header, read_header
from chatsafe_runtime.memory import (
    PROCESS_BYTES,
    fits,
    kv_bytes_per_token,
    needed_bytes,
    resident_bytes,
)

GIB = 2**30


def llama_3b() -> Header:
    """Llama 3.2 3B at Q4_K_M, as its file says."""
    return Header(
        version=3,
        architecture="llama",
        name="Llama 3.2 3B Instruct",
        context_length=131072,
        block_count=28,
        embedding_length=3072,
        head_count=24,
        head_count_kv=8,
        key_length=128,
        value_length=128,
        vocab_size=128256,
        quantization="Q4_K_M",
        chat_template=None,
        tensor_bytes=2_011_539_712,
        size_bytes=2_019_377_696,
        parameter_count=3_212_749_888,
    )


def test_kv_cache_of_a_known_model() -> None:
    assert kv_bytes_per_token(llama_3b()) == 114_688
    needed = needed_bytes(llama_3b(), 8192)
    assert needed == 2_011_539_712 + 8192 * 114_688 + PROCESS_BYTES


def test_a_part_of_the_free_memory_stays_free() -> None:
    needed = needed_bytes(llama_3b(), 8192)
    assert fits(needed, 4 * GIB)
    assert not fits(needed, 3 * GIB)
    assert not fits(needed, needed)
    assert not fits(needed, -1)


def test_header_of_a_file(tmp_path: Path) -> None:
    assert (
        kv_bytes_per_token(read_header(write_good(tmp_path / "m.gguf")))
        == (HEAD_SIZE + HEAD_SIZE) * 2
    )


def test_resident_memory_of_this_process() -> None:
    found = resident_bytes(os.getpid())
    if Path("/proc/self/statm").exists():
        assert found is not None
        assert found > 1024 * 1024
    assert resident_bytes(2**30) is None
