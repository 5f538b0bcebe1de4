"""What `chatsafe doctor` can see without the daemon: program, settings, keys, files, memory.

The engine is looked for, never imported: that takes seconds and is the worker's business.
"""

import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from chatsafe_cli.finding import Finding, ok, problem, warning
from chatsafe_cli.render import size
from chatsafe_config.admin_key import read_admin_key
from chatsafe_config.catalog import GUIDE_ID, Catalog, CatalogEntry
from chatsafe_config.errors import ConfigError, GgufError
from chatsafe_config.free_memory import available_bytes
from chatsafe_config.loading import Loaded
from chatsafe_config.paths import admin_key_file, model_dir
from chatsafe_config.registry import Registry, default_registry, load_registry
from chatsafe_config.settings import Settings

_ENGINE = "llama_cpp"
_ENGINE_PACKAGE = "llama-cpp-python"
_OLDEST_PYTHON = (3, 11)
_SET_UP = "scripts/setup in a checkout; elsewhere: install the wheels of ChatSafe again"
# Weights, and then the context and working space, as a share of them.
_MEMORY_FACTOR = 1.2


def check_program() -> Iterator[Finding]:
    """Python, the engine, the built-in model."""
    found = platform.python_version()
    if sys.version_info >= _OLDEST_PYTHON:
        yield ok("python", f"{found}")
    else:
        yield problem("python", f"{found} is too old", "install Python 3.11 or newer")
    if find_spec(_ENGINE) is None:
        yield problem("engine", f"{_ENGINE_PACKAGE} is not installed", _SET_UP)
    else:
        try:
            yield ok("engine", f"{_ENGINE_PACKAGE} {version(_ENGINE_PACKAGE)}")
        except PackageNotFoundError:
            yield warning("engine", "is there, but not as an installed package", _SET_UP)
    if guide_path() is None:
        yield problem("built-in model", f"{GUIDE_ID} is missing", _SET_UP)
    else:
        yield ok("built-in model", GUIDE_ID)


def guide_path() -> Path | None:
    """The built-in model's file, when its package is installed."""
    package = find_spec("chatsafe_guide_model")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).with_name(f"{GUIDE_ID}.gguf")
    return path if path.is_file() else None


def check_files(loaded: Loaded, environ: Mapping[str, str], cwd: Path) -> Iterator[Finding]:
    """Who else can read the keys."""
    if os.name != "posix":
        return
    source, _, name = loaded.origins["server.api_key"].partition(" file ")
    if name:
        path = cwd / name
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield warning(
                "settings",
                f"the {source} file holds an access key that other users can read "
                f"(mode {mode:04o})",
                f"chmod 600 {quote(str(path))}",
            )
    key = admin_key_file(environ)
    try:
        if read_admin_key(key) is None:
            yield ok("admin key", "none yet; the daemon makes one at its first start")
        else:
            yield ok("admin key", f"{key}, mode 0600")
    except ConfigError as error:
        yield problem("admin key", str(error), f"chmod 600 {quote(str(key))}")


def check_reach(settings: Settings) -> Finding:
    """Who can connect."""
    server = settings.server
    if server.allow_remote:
        return warning(
            "privacy",
            f"other machines may connect to {server.host}:{server.port}, with the access key",
            "set server.allow_remote = false to keep the daemon to this machine",
        )
    return ok(
        "privacy",
        f"listens on {server.host} only; makes no outbound connections; keeps no conversation",
    )


def check_models(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The registry, the model directory, each file in it, the default model and its memory."""
    try:
        registry = _registry(settings)
        folder = settings.runtime.model_dir or model_dir(environ)
        catalog = Catalog(registry, folder, guide_path(), settings.models.default_model)
        entries = catalog.entries()
    except ConfigError as error:
        yield problem("models", str(error), "chatsafe config show --origin")
        return
    yield ok("registry", f"{len(registry.models)} models")
    for text in registry.warnings:
        yield warning("registry", text, "correct models.registry_file")
    if trouble := _unreadable(folder):
        yield problem(
            "model directory",
            f"{folder} cannot be read: {trouble}",
            "mend it, or set runtime.model_dir to another directory",
        )
    elif folder.is_dir():
        num_files = sum(entry.is_available and entry.id != GUIDE_ID for entry in entries)
        yield ok("model directory", f"{folder}, {num_files} model files")
    else:
        yield ok(
            "model directory",
            f"does not exist yet; mkdir -p {quote(str(folder))}, and put GGUF files there",
        )
    refused = {}
    for entry in entries:
        reason = _refusal(catalog, entry)
        if reason:
            refused[entry.id] = reason
            yield warning(
                "model file",
                f"{entry.path.name} cannot be used: {reason}",
                f"replace it, or: rm {quote(str(entry.path))}",
            )
    yield from _check_default(entries[0], refused)


def _unreadable(folder: Path) -> str:
    """Why a directory that is there cannot be listed; "" when it can, or is not there."""
    try:
        with os.scandir(folder):
            return ""
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or "no reason is known"


def _registry(settings: Settings) -> Registry:
    file = settings.models.registry_file
    return load_registry(file) if file is not None else default_registry()


def _refusal(catalog: Catalog, entry: CatalogEntry) -> str:
    if entry.problem is not None:
        return entry.problem
    if not entry.is_available:
        return ""
    try:
        catalog.header(entry)
    except GgufError as error:
        return str(error)
    return ""


def _check_default(entry: CatalogEntry, refused: Mapping[str, str]) -> Iterator[Finding]:
    if not entry.is_available or entry.id in refused:
        yield problem(
            "default model",
            f"{entry.id} cannot answer: {refused.get(entry.id, 'its file is not there')}",
            f"put {entry.spec.path} into {entry.path.parent}",
        )
        return
    about = "tiny; for a real model put a GGUF file into the model directory"
    yield ok("default model", f"{entry.id} ({about})" if entry.id == GUIDE_ID else entry.id)
    available = available_bytes()
    needed = max((entry.size_bytes or 0) * _MEMORY_FACTOR, (entry.spec.min_ram_gb or 0) * 1e9)
    if available is None:
        return
    text = f"{entry.id} needs about {size(int(needed))}, {size(available)} are free"
    if needed > available:
        yield warning("memory", text, "close other programs, or use a smaller model")
    else:
        yield ok("memory", text)
