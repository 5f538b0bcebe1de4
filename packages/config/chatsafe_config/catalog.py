"""Which models can be named now: the registry's, the files in the model directory, the built-in.

The directory is looked at each time somebody asks, so a file dropped in is served without a
restart; a header is read once for each (path, size, time of change). A catalog may be asked from
several threads.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import msgspec

from chatsafe_common.errors import ModelNotFound
from chatsafe_common.nearest import near_names, nearest
from chatsafe_config.errors import ConfigError, GgufError
from chatsafe_config.gguf import Header, read_header
from chatsafe_config.registry import ModelSpec, Registry
from chatsafe_config.template_spec import GGUF_TEMPLATE

GUIDE_ID = "chatsafe-guide"
# A found file may say a million tokens; the memory for that is nobody's default.
MAX_FOUND_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model that can be named.

    `path` is where its file is or would be. `problem` says why a file that is there is not
    served. `header` is known for found files only; `Catalog.header` reads it for the others.
    """

    spec: ModelSpec
    path: Path
    is_available: bool
    size_bytes: int | None = None
    modified_s: float = 0.0
    problem: str | None = None
    header: Header | None = None

    @property
    def id(self) -> str:
        return self.spec.id


class Catalog:
    """The models of one daemon. `guide_path` is the built-in model's file."""

    def __init__(
        self,
        registry: Registry,
        model_dir: Path,
        guide_path: Path | None = None,
        default_model: str | None = None,
    ) -> None:
        """Raises ConfigError when `default_model` is neither known nor a file that is there, or
        `model_dir` is something else than a directory."""
        if _is_other_than_directory(model_dir):
            raise ConfigError(
                f"runtime.model_dir is {model_dir}, which is no directory. Name a directory."
            )
        self.registry = registry
        self.model_dir = model_dir
        self._guide_path = guide_path
        self._default_model = default_model
        self._headers: dict[Path, tuple[tuple[int, int], Header | str]] = {}
        self._lock = Lock()
        if default_model is not None:
            names = [entry.id for entry in self.entries()]
            if default_model not in names:
                raise ConfigError(
                    f"models.default_model is {default_model!r}, which is neither in the model "
                    f"registry nor a file in the model directory.{nearest(default_model, names)} "
                    "`chatsafe list` shows what there is."
                )

    def entries(self) -> list[CatalogEntry]:
        """Every model: the default first, then in registry order, then found files by name."""
        files = self._scan()
        known = [self._known(spec, files) for spec in self.registry.models]
        taken = {entry.id for entry in known} | {GUIDE_ID}
        used = {entry.path for entry in known}
        if self._guide_path is not None and self.registry.model(GUIDE_ID) is None:
            known.append(self._found(self._guide_path, GUIDE_ID))
        found = [
            self._found(path, name.removesuffix(".gguf"))
            for name, path in sorted(files.items())
            if path not in used and name.removesuffix(".gguf") not in taken
        ]
        entries = known + found
        default = self._choose_default(known, found)
        return [default, *(entry for entry in entries if entry is not default)]

    def default(self) -> CatalogEntry:
        """The model that answers when a request names none."""
        return self.entries()[0]

    def resolve(self, name: str) -> CatalogEntry:
        """The model that `name` means; "" is the default one. Raises ModelNotFound."""
        entries = self.entries()
        if not name:
            return entries[0]
        for entry in entries:
            if entry.id == name:
                return entry
        near = near_names(name, [entry.id for entry in entries])
        ids = [entry.id for entry in entries if entry.is_available]
        hint = f"Did you mean {' or '.join(near)}?" if near else "`chatsafe list` shows all models."
        raise ModelNotFound(
            f"Model not found: {name[:200]!r}. {hint}", param="model", details={"available": ids}
        )

    def template_source(self, entry: CatalogEntry) -> str | None:
        """Jinja source of the registry's template; None means the file's own."""
        template = self.registry.template(entry.spec.template_id)
        return template.source() if template else None

    def header(self, entry: CatalogEntry) -> Header:
        """The checked header of an entry's file, cached until the file changes.

        The first time takes about 0.1 s for a vocabulary of 150,000 tokens.
        Raises GgufError with the reason.
        """
        try:
            facts = entry.path.stat()
        except OSError as error:
            raise GgufError(f"the file cannot be opened ({error.strerror})") from None
        stamp = (facts.st_size, facts.st_mtime_ns)
        # Callers ask from several threads; a file is read once, not once for each of them.
        with self._lock:
            found = self._headers.get(entry.path)
            if found is None or found[0] != stamp:
                found = self._headers[entry.path] = (stamp, _header_or_reason(entry.path))
        if isinstance(found[1], str):
            raise GgufError(found[1])
        return found[1]

    def _scan(self) -> dict[str, Path]:
        """GGUF files of the model directory by name; an absent directory holds none."""
        try:
            with os.scandir(self.model_dir) as items:
                return {
                    item.name: self.model_dir / item.name
                    for item in items
                    if item.name.endswith(".gguf") and item.name.isprintable()
                }
        except OSError:
            return {}

    def _known(self, spec: ModelSpec, files: dict[str, Path]) -> CatalogEntry:
        if spec.id == GUIDE_ID and self._guide_path is not None:
            return _look(spec, self._guide_path)
        path = self.model_dir / spec.path
        if spec.path not in files:
            # Publishers write the same names with capitals: Llama-3.2-3B-Instruct-Q4_K_M.gguf.
            for name in sorted(files):
                if name.lower() == spec.path.lower():
                    path = files[name]
                    break
        return self._inside(_look(spec, path))

    def _found(self, path: Path, model_id: str) -> CatalogEntry:
        spec = ModelSpec(
            id=model_id,
            name=model_id,
            path=path.name,
            context_window=MAX_FOUND_CONTEXT,
            template_id=GGUF_TEMPLATE,
        )
        entry = _look(spec, path)
        if path != self._guide_path:
            entry = self._inside(entry)
        if not entry.is_available:
            return entry
        try:
            header = self.header(entry)
        except GgufError as error:
            return _refused(entry, str(error))
        spec = msgspec.structs.replace(
            spec,
            name=header.name or model_id,
            context_window=min(header.context_length, MAX_FOUND_CONTEXT),
        )
        return CatalogEntry(spec, path, True, entry.size_bytes, entry.modified_s, header=header)

    def _inside(self, entry: CatalogEntry) -> CatalogEntry:
        """`entry`, refused when its path leaves the model directory through `..` or a link."""
        try:
            is_inside = entry.path.resolve().is_relative_to(self.model_dir.resolve())
        except (OSError, RuntimeError):
            is_inside = False
        return entry if is_inside else _refused(entry, "it lies outside the model directory")

    def _choose_default(self, known: list[CatalogEntry], found: list[CatalogEntry]) -> CatalogEntry:
        """The first that is there and sound of: the configured one, the registry's default, the
        registry's others, files found, the guide. Half a download must not silence the guide."""
        by_id = {entry.id: entry for entry in [*known, *found]}
        ordered = [by_id[self._default_model]] if self._default_model in by_id else []
        ordered.append(by_id[self.registry.default().id])
        ordered += [entry for entry in known if entry.id != GUIDE_ID]
        ordered += found
        ordered += [entry for entry in known if entry.id == GUIDE_ID]
        return next((entry for entry in ordered if self._is_sound(entry)), ordered[0])

    def _is_sound(self, entry: CatalogEntry) -> bool:
        """Whether the file is there and its header is in order."""
        if entry.is_available and entry.header is None:
            try:
                self.header(entry)
            except GgufError:
                return False
        return entry.is_available


def _header_or_reason(path: Path) -> Header | str:
    try:
        return read_header(path)
    except GgufError as error:
        return str(error)


def _is_other_than_directory(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:  # not there yet, or closed to us: `_scan` finds nothing then
        return False


def _look(spec: ModelSpec, path: Path) -> CatalogEntry:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return CatalogEntry(spec, path, False)
    if not stat.S_ISREG(facts.st_mode):
        return CatalogEntry(spec, path, False, problem="it is not a regular file")
    return CatalogEntry(spec, path, True, facts.st_size, facts.st_mtime)


def _refused(entry: CatalogEntry, problem: str) -> CatalogEntry:
    return CatalogEntry(
        entry.spec, entry.path, False, entry.size_bytes, entry.modified_s, problem=problem
    )
