"""The composition root: the one function that knows every package and plugs them together."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from chatsafe_config.admin_key import load_or_create_admin_key
from chatsafe_config.catalog import Catalog
from chatsafe_config.paths import admin_key_file, model_dir
from chatsafe_config.registry import default_registry, load_registry
from chatsafe_config.settings import Settings
from chatsafe_daemon.http_server import ServerLimits
from chatsafe_local_api.app import Application, create_app
from chatsafe_local_api.metrics import Metered, Metrics
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown
from chatsafe_runtime.backend import LocalBackend, RuntimeOptions

_logger = logging.getLogger("chatsafe.daemon")


@dataclass(frozen=True, slots=True)
class Daemon:
    """All parts, plugged together and not yet running."""

    backend: LocalBackend
    app: Application
    limits: ServerLimits
    shutdown: Shutdown


def compose(settings: Settings, environ: Mapping[str, str], version: str) -> Daemon:
    """The daemon that `settings` describe. Raises ConfigError."""
    catalog = _catalog(settings, environ)
    backend = LocalBackend(catalog, _runtime_options(settings), environ)
    metrics = Metrics()
    shutdown = Shutdown()
    admin_key = load_or_create_admin_key(admin_key_file(environ))
    options = _api_options(settings, admin_key, version)
    app = create_app(Metered(backend, metrics), backend, options, metrics, shutdown)
    return Daemon(backend, app, _server_limits(settings), shutdown)


def _catalog(settings: Settings, environ: Mapping[str, str]) -> Catalog:
    chosen = settings.models
    registry = load_registry(chosen.registry_file) if chosen.registry_file else default_registry()
    guide = Path(str(files("chatsafe_guide_model"))) / "chatsafe-guide.gguf"
    catalog = Catalog(
        registry,
        settings.runtime.model_dir or model_dir(environ),
        guide if guide.is_file() else None,
        chosen.default_model,
    )
    default = catalog.default()
    if chosen.default_model is not None and default.id != chosen.default_model:
        _logger.warning(
            "models.default_model %s has no sound file; %s answers until it has",
            chosen.default_model,
            default.id,
        )
    return catalog


def _runtime_options(settings: Settings) -> RuntimeOptions:
    runtime, limits = settings.runtime, settings.limits
    return RuntimeOptions(
        context_window=runtime.context_window,
        threads=runtime.threads,
        gpu_layers=runtime.gpu_layers,
        parallel=runtime.parallel,
        batch_size=runtime.batch_size,
        queue_size=limits.queue_size,
        queue_timeout_s=limits.queue_timeout_s,
        keep_alive_s=runtime.keep_alive_s,
        load_timeout_s=runtime.load_timeout_s,
        stall_timeout_s=runtime.stall_timeout_s,
        prefill_timeout_s=runtime.prefill_timeout_s,
    )


def _api_options(settings: Settings, admin_key: str, version: str) -> ApiOptions:
    server, limits = settings.server, settings.limits
    return ApiOptions(
        version=version,
        admin_key=admin_key,
        api_key=server.api_key,
        allowed_hosts=server.allowed_hosts,
        allowed_origins=server.allowed_origins,
        max_body_bytes=server.max_body_bytes,
        body_timeout_s=server.body_timeout_s,
        stream_default=server.stream_default,
        strict=server.strict,
        system_fingerprint=server.system_fingerprint,
        per_ip_per_minute=limits.per_ip_per_minute,
        max_concurrent_per_ip=limits.max_concurrent_per_ip,
        global_per_minute=limits.global_per_minute,
        queue_size=limits.queue_size,
        max_choices=limits.max_choices,
    )


def _server_limits(settings: Settings) -> ServerLimits:
    server = settings.server
    return ServerLimits(
        max_connections=server.max_connections,
        head_timeout_s=server.head_timeout_s,
        body_timeout_s=server.body_timeout_s,
        shutdown_grace_s=server.shutdown_grace_s,
    )
