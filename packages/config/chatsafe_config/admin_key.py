"""The admin key: a random secret in a file that only its owner can read.

Routes that change state ask for it, so that a web page or another user of this machine cannot
load or unload models. The daemon makes it at its first start; the `chatsafe` command reads it.
"""

import os
import secrets
import stat
from pathlib import Path

from chatsafe_config.errors import ConfigError

_NUM_BYTES = 32
_MAX_FILE_BYTES = 4096


def load_or_create_admin_key(path: Path) -> str:
    """The key in `path`, made there (mode 0600) when there is no such file.

    Raises ConfigError when the file cannot be made, is open to others, or holds no key.
    """
    key = read_admin_key(path)
    if key is not None:
        return key
    key = secrets.token_urlsafe(_NUM_BYTES)
    # Written beside its place and linked there: nobody ever sees half a key, and of two daemons
    # that start at once, the first one's key stays.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(key + "\n")
            os.link(draft, path)
        finally:
            draft.unlink()
    except FileExistsError:
        return load_or_create_admin_key(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: the admin key cannot be written ({error.strerror}). "
            "Make its folder writable, or set XDG_CONFIG_HOME to another one."
        ) from None
    return key


def read_admin_key(path: Path) -> str | None:
    """The key in `path`; None when there is no such file.

    Raises ConfigError when the file is open to others, cannot be read, or holds no key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: the admin key cannot be read ({error.strerror}).") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"{path}: other users can read the admin key (mode {stat.S_IMODE(mode):04o}). "
            f"Run: chmod 600 {path}"
        )
    key = data.decode("ascii", "replace").strip()
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{path}: holds no admin key. Delete it, the daemon makes a new one.")
    return key
