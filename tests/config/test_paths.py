"""Where files lie on each system."""

from pathlib import Path

import pytest

from chatsafe_config import paths

HOME = {"HOME": "/home/ada"}


def test_linux_defaults() -> None:
    assert paths.config_dir(HOME, "linux") == Path("/home/ada/.config/chatsafe")
    assert paths.user_config_file(HOME, "linux") == Path("/home/ada/.config/chatsafe/config.toml")
    assert paths.admin_key_file(HOME, "linux") == Path("/home/ada/.config/chatsafe/admin.key")
    assert paths.model_dir(HOME, "linux") == Path("/home/ada/.local/share/chatsafe/models")


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_xdg_variables_win_everywhere(platform: str) -> None:
    environ = {**HOME, "XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d", "APPDATA": "/a"}
    assert paths.config_dir(environ, platform) == Path("/c/chatsafe")
    assert paths.data_dir(environ, platform) == Path("/d/chatsafe")


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_a_relative_xdg_variable_is_ignored(value: str) -> None:
    environ = {**HOME, "XDG_CONFIG_HOME": value}
    assert paths.config_dir(environ, "linux") == Path("/home/ada/.config/chatsafe")


def test_macos() -> None:
    support = Path("/home/ada/Library/Application Support/chatsafe")
    assert paths.config_dir(HOME, "darwin") == support
    assert paths.model_dir(HOME, "darwin") == support / "models"


def test_windows() -> None:
    environ = {"APPDATA": "/roaming", "LOCALAPPDATA": "/local"}
    assert paths.config_dir(environ, "win32") == Path("/roaming/chatsafe")
    assert paths.model_dir(environ, "win32") == Path("/local/chatsafe/models")


def test_without_a_home_variable_the_system_knows() -> None:
    assert paths.config_dir({}, "linux") == Path.home() / ".config" / "chatsafe"
