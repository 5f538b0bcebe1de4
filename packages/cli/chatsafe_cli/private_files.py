"""The only files this program reads or writes: those whose path was typed, and the editor's.

No conversation reaches a disk by itself. A file that is written gets mode 0600.
"""

import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.render import size
from chatsafe_client.conversation import (
    MAX_SAVED_BYTES,
    Conversation,
    parse_conversation,
)
from chatsafe_common.errors import InvalidRequest

# About 250,000 tokens: more than the context of any model that runs on a desk.
MAX_ATTACHED_BYTES = 1024 * 1024


def save_conversation(conversation: Conversation, typed: str) -> Path:
    """Writes JSON and returns where. Replaces an earlier conversation, no other file.

    Raises Failure.
    """
    path = _path(typed, "/save chat.json")
    if path.exists() or path.is_symlink():
        try:
            parse_conversation(_read(path, MAX_SAVED_BYTES))
        except (InvalidRequest, Failure):
            raise Failure(
                f"{path} exists and is no saved conversation",
                why="it would be lost",
                fix="name another file",
            ) from None
    try:
        # Written beside it and renamed, so that a full disk does not cost the earlier one.
        descriptor, name = tempfile.mkstemp(prefix=".chatsafe-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(conversation.export())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise _os_failure("write", path, error) from error
    return path


def load_conversation(typed: str) -> Conversation:
    """What `save_conversation` wrote. Raises Failure."""
    path = _path(typed, "/load chat.json")
    try:
        return parse_conversation(_read(path, MAX_SAVED_BYTES))
    except InvalidRequest as error:
        raise Failure(
            f"{path} cannot be loaded", why=error.message, fix="name a file that /save wrote"
        ) from error


def read_attachment(typed: str) -> str:
    """The text of a file for the next message. Raises Failure."""
    path = _path(typed, "/file notes.txt")
    data = _read(path, MAX_ATTACHED_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Failure(
            f"{path} is no text file", why="it is not UTF-8", fix="name a text file"
        ) from None
    if not text.strip():
        raise Failure(f"{path} is empty", fix="name a text file")
    return text


def edit_text(text: str, environ: Mapping[str, str]) -> str:
    """`text` after the person's editor had it. Raises Failure.

    The copy lies in a folder that only this user can open, in memory where the system offers
    that, and goes with everything the editor left beside it.
    """
    editor = environ.get("VISUAL") or environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="chatsafe-", dir=_memory_dir(environ)) as folder:
        path = Path(folder) / "message.txt"
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
        try:
            status = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
        except (OSError, ValueError) as error:
            raise Failure(
                f"the editor {editor!r} does not start",
                why=str(error),
                fix="export EDITOR=nano, or another that you have",
            ) from error
        if status != 0:
            raise Failure(f"the editor ended with status {status}", why="nothing was sent")
        return path.read_text("utf-8", "replace").rstrip("\n")


def _memory_dir(environ: Mapping[str, str]) -> str | None:
    """A folder that lives in memory, or None for the system's temporary one."""
    for folder in (environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _path(typed: str, example: str) -> Path:
    path = typed.strip()
    # As a shell would: pasted paths often come with quotes.
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    if not path or "\0" in path:
        raise Failure("a path is missing", fix=example, exit_code=ExitCode.USAGE)
    return Path(path).expanduser().absolute()


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or device might never end
            raise Failure(f"{path} is no plain file", fix="name a file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise _os_failure("read", path, error) from error
    if len(data) > max_bytes:
        raise Failure(
            f"{path} is too large", why=f"the limit is {size(max_bytes)}", fix="send a part of it"
        )
    return data


def _os_failure(verb: str, path: Path, error: OSError) -> Failure:
    return Failure(
        f"cannot {verb} {path}", why=error.strerror or "", fix="check the path and its permissions"
    )
