"""Free memory as each system tells it."""

import os
from pathlib import Path

import pytest

from chatsafe_config.free_memory import available_bytes


def system(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_free_memory_of_linux(tmp_path: Path) -> None:
    root = system(tmp_path, proc__meminfo="MemTotal: 16 kB\nMemAvailable:   12 kB\n")
    assert available_bytes(root) == 12 * 1024


@pytest.mark.parametrize(("limit", "expected"), [("8192", 8192 - 4096 + 1024), ("max", 12 * 1024)])
def test_the_limit_of_a_container_counts(tmp_path: Path, limit: str, expected: int) -> None:
    root = system(
        tmp_path,
        proc__meminfo="MemAvailable:   12 kB\n",
        proc__self__cgroup="0::/box\n",
        sys__fs__cgroup__box__memory_DOT_max=f"{limit}\n",
        sys__fs__cgroup__box__memory_DOT_current="4096\n",
        sys__fs__cgroup__box__memory_DOT_stat="inactive_file 1000\nactive_file 24\nanon 9\n",
    )
    assert available_bytes(root) == expected


def test_a_system_that_says_nothing_gives_its_size(tmp_path: Path) -> None:
    found = available_bytes(tmp_path)
    assert found == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
