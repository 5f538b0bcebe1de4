"""The admin key: made once, for its owner alone."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatsafe_config.admin_key import load_or_create_admin_key, read_admin_key
from chatsafe_config.errors import ConfigError


def test_it_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "chatsafe" / "admin.key"
    assert read_admin_key(path) is None
    key = load_or_create_admin_key(path)
    assert len(key) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_create_admin_key(path) == key
    assert read_admin_key(path) == key
    assert [item.name for item in path.parent.iterdir()] == ["admin.key"]


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    assert load_or_create_admin_key(tmp_path / "a") != load_or_create_admin_key(tmp_path / "b")


def test_many_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(load_or_create_admin_key, [path] * 32))
    assert keys == {path.read_text().strip()}
    assert [item.name for item in tmp_path.iterdir()] == ["admin.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.key"
    key = load_or_create_admin_key(path)
    path.chmod(mode)
    for read in (load_or_create_admin_key, read_admin_key):
        with pytest.raises(ConfigError) as refused:
            read(path)
        assert f"chmod 600 {path}" in str(refused.value)
        assert f"{mode:04o}" in str(refused.value)
        assert key not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff" * 40, b"with blanks in it ok?"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="holds no admin key"):
        load_or_create_admin_key(path)


def test_a_place_that_cannot_hold_a_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="admin key cannot be"):
        load_or_create_admin_key(tmp_path / "file" / "admin.key")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_or_create_admin_key(tmp_path)
