"""Small looks at the daemon: health, version, status, metrics."""

import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from chatsafe_common.backend import Backend, ModelHost, ModelStatus
from chatsafe_local_api.metrics import Metrics
from chatsafe_local_api.models import json_response
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown

PRIVACY_STATEMENT = "Nothing you type leaves this computer."

_SAMPLING_SHOWN = ("temperature", "top_p", "top_k", "repeat_penalty")

Health = Literal["healthy", "degraded", "unhealthy"]


class Status:
    """The endpoints that only look."""

    def __init__(
        self,
        backend: Backend,
        host: ModelHost,
        options: ApiOptions,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> None:
        self._backend = backend
        self._host = host
        self._options = options
        self._metrics = metrics
        self._shutdown = shutdown

    async def health(self, request: Request) -> Response:
        """`GET /healthz`: from memory alone, so it answers while a model hangs."""
        models = self._host.status()
        health = self._health(models)
        is_refused = request.query_params.get("strict") == "1" and health != "healthy"
        return json_response(
            {
                "status": health,
                "model_loaded": any(model.state == "ready" for model in models),
                "version": self._options.version,
                "uptime_seconds": round(self._metrics.uptime_s, 3),
            },
            503 if is_refused else 200,
        )

    def _health(self, models: Sequence[ModelStatus]) -> Health:
        has_failed = [model.state == "failed" for model in models]
        if self._shutdown.is_draining or (has_failed and all(has_failed)):
            return "unhealthy"
        queue_size = self._options.queue_size
        is_full = any(model.num_waiting >= max(1, queue_size) for model in models)
        return "degraded" if any(has_failed) or is_full else "healthy"

    async def version(self, request: Request) -> Response:
        """`GET /version`: what this is, and how the default model answers."""
        cards = await self._backend.models()
        default = next((card for card in cards if card.is_default), None)
        sampling = msgspec.structs.asdict(default.sampling) if default else {}
        return json_response(
            {
                "version": self._options.version,
                "api": "ChatSafe Local API",
                "model_api": "OpenAI Compatible",
                "model_id": default.id if default else None,
                "context_window": default.context_window if default else 0,
                "defaults": {
                    **{name: sampling.get(name) for name in _SAMPLING_SHOWN},
                    "max_tokens": default.max_tokens if default else None,
                },
            }
        )

    async def status(self, request: Request) -> Response:
        """`GET /v1/status`: what runs, waits and is in memory, and how it is locked in."""
        models = self._host.status()
        cards = await self._backend.models()
        return json_response(
            {
                "status": self._health(models),
                "version": self._options.version,
                "uptime_seconds": round(self._metrics.uptime_s, 3),
                "default_model": next((card.id for card in cards if card.is_default), None),
                "privacy": {"level": "local", "statement": PRIVACY_STATEMENT},
                "queue": {
                    "running": sum(model.num_running for model in models),
                    "waiting": sum(model.num_waiting for model in models),
                    "size": self._options.queue_size,
                },
                "models": models,
            }
        )

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`: JSON, or Prometheus text for whoever asks for text."""
        accept = request.headers.get("accept", "")
        if "text/plain" in accept or "application/openmetrics-text" in accept:
            # The first scrape pays for the import, see there.
            from chatsafe_local_api.prometheus import metrics_text

            text, media_type = metrics_text(self._metrics, accept)
            return Response(text, headers={"content-type": media_type})
        return json_response(self._metrics.as_json(time.time()))
