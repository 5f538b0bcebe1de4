"""Where ChatSafe keeps its files on each system.

XDG variables win everywhere when they hold an absolute path; without them Linux follows the XDG
defaults, macOS uses `~/Library/Application Support`, Windows `%APPDATA%` and `%LOCALAPPDATA%`.
Nothing here touches the disk.
"""

import sys
from collections.abc import Mapping
from pathlib import Path


def config_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The folder of the user's `config.toml` and of the admin key."""
    return _base(environ, "XDG_CONFIG_HOME", "APPDATA", ".config", platform) / "chatsafe"


def data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The folder of what is large and worth keeping."""
    return _base(environ, "XDG_DATA_HOME", "LOCALAPPDATA", ".local/share", platform) / "chatsafe"


def model_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The folder of model files unless `runtime.model_dir` names another."""
    return data_dir(environ, platform) / "models"


def user_config_file(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The settings of this user, for every folder they start ChatSafe in."""
    return config_dir(environ, platform) / "config.toml"


def admin_key_file(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The key of the routes that change state."""
    return config_dir(environ, platform) / "admin.key"


def _base(environ: Mapping[str, str], xdg: str, windows: str, default: str, platform: str) -> Path:
    # The XDG specification says that a relative path must be ignored.
    given = environ.get(xdg, "")
    if given and Path(given).is_absolute():
        return Path(given)
    home = Path(environ.get("HOME") or Path.home())
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32" and environ.get(windows):
        return Path(environ[windows])
    return home / default
