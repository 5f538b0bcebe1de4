"""The models and templates we know of: strict reading of the registry's JSON, helpful refusals.

Reading never touches model files; whether a file is there is the catalog's business.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath

import msgspec

from chatsafe_common.chat import Sampling
from chatsafe_common.nearest import nearest
from chatsafe_config.entry import Entry
from chatsafe_config.errors import ConfigError
from chatsafe_config.template_spec import GGUF_TEMPLATE, TemplateSpec

VERSION = "1.0"
# A thousand models with long Jinja templates stay under this; a larger file is no registry.
MAX_REGISTRY_BYTES = 8 * 1024 * 1024

_TEMPLATE_TEXTS = (
    "system_prefix",
    "system_suffix",
    "user_prefix",
    "user_suffix",
    "assistant_prefix",
    "assistant_suffix",
    "default_system_prompt",
    "jinja",
)


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What we know of a model. `path` is relative to the model directory.

    `max_tokens` None is "the rest of the context", `threads` None "all physical cores",
    `gpu_layers` -1 "all"; sizes are in GB (10^9 bytes). `extra` keeps unknown fields for export.
    """

    id: str
    name: str
    path: str
    context_window: int
    template_id: str
    stop_sequences: tuple[str, ...] = ()
    eos_token: str = ""
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.9, top_k=40, repeat_penalty=1.15)
    max_tokens: int | None = None
    gpu_layers: int = -1
    threads: int | None = None
    min_ram_gb: float | None = None
    est_disk_gb: float | None = None
    is_default: bool = False
    clean_labels: bool = False
    metadata: dict[str, object] = {}
    extra: dict[str, object] = {}

    def fact(self, key: str) -> str | None:
        """A text of `metadata`, such as "license", or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """All templates and models. `warnings` are sentences about what was read but not understood."""

    version: str
    templates: tuple[TemplateSpec, ...]
    models: tuple[ModelSpec, ...]
    warnings: tuple[str, ...] = ()
    extra: dict[str, object] = {}

    def template(self, template_id: str) -> TemplateSpec | None:
        """The template of this id; None for "gguf", the model file's own."""
        return next((item for item in self.templates if item.id == template_id), None)

    def model(self, model_id: str) -> ModelSpec | None:
        return next((item for item in self.models if item.id == model_id), None)

    def default(self) -> ModelSpec:
        """The model marked as default, else the first."""
        return next((item for item in self.models if item.is_default), self.models[0])

    def export(self) -> str:
        """JSON that `parse_registry` reads back to the same registry."""
        tables = {
            "version": self.version,
            **self.extra,
            "templates": [_template_table(item) for item in self.templates],
            "models": [_model_table(item) for item in self.models],
        }
        return json.dumps(tables, indent=2, ensure_ascii=False) + "\n"


def default_registry() -> Registry:
    """The built-in registry: inside the installed package, or at the top of a checkout."""
    shipped = files("chatsafe_config") / "default_registry.json"
    if shipped.is_file():
        return parse_registry(shipped.read_text("utf-8"), "the built-in registry")
    checkout = Path(__file__).resolve().parents[3] / "registry" / "default_registry.json"
    return load_registry(checkout)


def load_registry(path: Path) -> Registry:
    """The registry in a file of the user's. Raises ConfigError naming file, entry and fix."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_REGISTRY_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: the model registry cannot be read ({error.strerror}). Correct "
            "models.registry_file, or remove it to use the built-in registry."
        ) from None
    if len(data) > MAX_REGISTRY_BYTES:
        raise ConfigError(f"{path}: is over {MAX_REGISTRY_BYTES} bytes, so it is no registry.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8. Save the file as UTF-8.") from None
    try:
        return parse_registry(text, str(path))
    except ConfigError as error:
        raise ConfigError(
            f"{error} Correct the file, or remove models.registry_file to use the built-in "
            "registry."
        ) from None


def parse_registry(text: str, where: str) -> Registry:
    """Read a registry. `where` names the file in messages.

    Raises ConfigError for broken JSON, missing or wrong fields, duplicate ids, unknown templates
    and more than one default, naming the entry.
    """
    warnings: list[str] = []
    top = Entry(_decode(text, where), where, warnings)
    version = top.text("version", default=VERSION)
    if version != VERSION:
        raise top.refuse(f'version is "{version}"; this ChatSafe reads version "{VERSION}"')
    templates = tuple(_template(entry) for entry in top.entries("templates"))
    _refuse_duplicates(where, "template", [item.id for item in templates])
    by_id = {item.id: item for item in templates}
    models = tuple(_model(entry, by_id) for entry in top.entries("models"))
    if not models:
        raise ConfigError(f"{where}: has no models. Add at least one to its models list.")
    _refuse_duplicates(where, "model", [item.id for item in models])
    defaults = [item.id for item in models if item.is_default]
    if len(defaults) > 1:
        raise ConfigError(
            f"{where}: {' and '.join(defaults)} are all marked default. Keep one of them."
        )
    extra = top.rest()
    return Registry(
        version=version,
        templates=templates,
        models=models,
        warnings=tuple(warnings),
        extra=extra,
    )


def _decode(text: str, where: str) -> Mapping[str, object]:
    def table(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _refuse_duplicates(where, "key", [key for key, _ in pairs])
        return dict(pairs)

    def number(text: str) -> object:
        raise ConfigError(f"{where}: {text} is no number that JSON allows.")

    try:
        found = json.loads(text, object_pairs_hook=table, parse_constant=number)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}, line {error.lineno}: is not valid JSON: {error.msg}."
        ) from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{where}: is not a model registry.") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: must be an object with version, templates and models.")
    return found


def _refuse_duplicates(where: str, what: str, ids: list[str]) -> None:
    seen = set()
    for item in ids:
        if item in seen:
            raise ConfigError(f"{where}: {what} {item!r} occurs twice. Rename or remove one.")
        seen.add(item)


def _template(entry: Entry) -> TemplateSpec:
    template_id = entry.identifier()
    if template_id == GGUF_TEMPLATE:
        raise entry.refuse(f'the id "{GGUF_TEMPLATE}" means the template inside a model file')
    name = entry.text("name", default=template_id)
    texts = {key: entry.text(key, default="", may_be_empty=True) for key in _TEMPLATE_TEXTS}
    if not (texts["jinja"] or texts["assistant_prefix"] or texts["user_prefix"]):
        raise entry.refuse("needs either jinja or prefixes and suffixes for its roles")
    return TemplateSpec(id=template_id, name=name, extra=entry.rest(), **texts)


def _model(entry: Entry, templates: Mapping[str, TemplateSpec]) -> ModelSpec:
    model_id = entry.identifier()
    name = entry.text("name", default=model_id)
    path = entry.text("path", "file_name")
    if not path.endswith(".gguf"):
        raise entry.refuse(f"path {path!r} must be the name of a .gguf file")
    # What a link makes of it is checked by the catalog, each time it looks.
    if "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise entry.refuse(f"path {path!r} leaves the model directory")
    template_id = entry.text("template_id", "template")
    template = templates.get(template_id)
    if template is None and template_id != GGUF_TEMPLATE:
        near = nearest(template_id, [*templates, GGUF_TEMPLATE])
        raise entry.refuse(f"there is no template {template_id!r}", near)
    stops = entry.texts("stop_sequences")
    if stops is None:
        stops = (template.turn_end,) if template else ()
        if stops == ("",):
            raise entry.refuse("needs stop_sequences, as its template has no turn end")
    defaults = entry.table("defaults")
    sampling = Sampling(
        temperature=defaults.number("temperature", default=0.6, low=0, high=2),
        top_p=defaults.number("top_p", default=0.9, low=0, high=1),
        top_k=defaults.whole("top_k", default=40, low=0, high=1000),
        repeat_penalty=defaults.number("repeat_penalty", default=1.15, low=0.1, high=2),
    )
    max_tokens = defaults.optional_whole("max_tokens", low=1, high=1048576)
    resources = entry.table("resources")
    # Published documents had these three at the top level; the shipped schema has `resources`.
    size = resources.optional_number("est_disk_gb", low=0, high=100000)
    older_size = entry.optional_number("size_gb", low=0, high=100000)
    layers = resources.optional_whole("gpu_layers", low=-1, high=100000)
    older_layers = entry.optional_whole("gpu_layers", low=-1, high=100000)
    threads = resources.optional_whole("threads", low=1, high=1024)
    older_threads = entry.optional_whole("threads", low=1, high=1024)
    min_ram_gb = resources.optional_number("min_ram_gb", low=0, high=100000)
    metadata = dict(entry.mapping("metadata"))
    return ModelSpec(
        id=model_id,
        name=name,
        path=path,
        context_window=entry.whole("ctx_window", default=None, low=1, high=1 << 24),
        template_id=template_id,
        stop_sequences=stops,
        eos_token=entry.text("eos_token", default=stops[0] if stops else "", may_be_empty=True),
        sampling=sampling,
        max_tokens=max_tokens,
        gpu_layers=_first(layers, older_layers, -1),
        threads=threads if threads is not None else older_threads,
        min_ram_gb=min_ram_gb,
        est_disk_gb=size if size is not None else older_size,
        is_default=entry.flag("default"),
        clean_labels=entry.flag("clean_labels"),
        metadata=metadata,
        extra=_leftovers(entry, defaults, resources),
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _leftovers(entry: Entry, defaults: Entry, resources: Entry) -> dict[str, object]:
    """Unknown fields, in the tables they were in."""
    extra = entry.rest()
    for name, table in (("defaults", defaults), ("resources", resources)):
        if unknown := table.rest():
            extra[name] = unknown
    return extra


def _template_table(item: TemplateSpec) -> dict[str, object]:
    texts = {key: getattr(item, key) for key in _TEMPLATE_TEXTS if getattr(item, key)}
    return {"id": item.id, "name": item.name, **texts, **item.extra}


def _model_table(item: ModelSpec) -> dict[str, object]:
    sampling = item.sampling
    defaults = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repeat_penalty": sampling.repeat_penalty,
        "max_tokens": item.max_tokens,
    }
    resources = {
        "min_ram_gb": item.min_ram_gb,
        "est_disk_gb": item.est_disk_gb,
        "gpu_layers": item.gpu_layers,
        "threads": item.threads,
    }
    table: dict[str, object] = {
        "id": item.id,
        "name": item.name,
        "path": item.path,
        "ctx_window": item.context_window,
        "template_id": item.template_id,
        "stop_sequences": list(item.stop_sequences) or None,
        "eos_token": item.eos_token,
        "defaults": _set(defaults) | _unknown(item, "defaults"),
        "resources": _set(resources) | _unknown(item, "resources"),
        "default": item.is_default or None,
        "clean_labels": item.clean_labels or None,
        "metadata": item.metadata or None,
    }
    known = ("defaults", "resources")
    return _set(table) | {key: value for key, value in item.extra.items() if key not in known}


def _set(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}


def _unknown(item: ModelSpec, name: str) -> dict[str, object]:
    found = item.extra.get(name)
    return found if isinstance(found, dict) else {}
