"""The API as one ASGI application: the route table, and the wrappers around it."""

from typing import TypeAlias

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from chatsafe_common.backend import Backend, ModelHost
from chatsafe_local_api.boundary import Boundary, not_found
from chatsafe_local_api.chat import Chat
from chatsafe_local_api.guard import Guard
from chatsafe_local_api.keys import Keys
from chatsafe_local_api.metrics import Metrics
from chatsafe_local_api.models import Models
from chatsafe_local_api.options import ApiOptions
from chatsafe_local_api.shutdown import Shutdown
from chatsafe_local_api.status import Status

# What a server is given to serve.
Application: TypeAlias = ASGIApp


def create_app(
    backend: Backend, host: ModelHost, options: ApiOptions, metrics: Metrics, shutdown: Shutdown
) -> Application:
    """The API over `backend`, whose models `host` has in memory.

    `metrics` is the one that a `Metered` around the backend fills; `shutdown` is how the server
    says that it leaves.
    """
    keys = Keys(api_key=options.api_key, admin_key=options.admin_key)
    chat = Chat(backend, keys, options, metrics, shutdown)
    models = Models(backend, host, keys)
    status = Status(backend, host, options, metrics, shutdown)
    router = Router(
        [
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models.list_available, methods=["GET"]),
            Route("/v1/models/load", models.load, methods=["POST"]),
            Route("/v1/models/unload", models.unload, methods=["POST"]),
            Route("/v1/models/{id:path}", models.get, methods=["GET"]),
            Route("/models", models.list_all, methods=["GET"]),
            Route("/models/{id:path}", models.get, methods=["GET"]),
            Route("/v1/status", status.status, methods=["GET"]),
            Route("/healthz", status.health, methods=["GET"]),
            Route("/health", status.health, methods=["GET"]),
            Route("/version", status.version, methods=["GET"]),
            Route("/metrics", status.metrics, methods=["GET"]),
        ],
        redirect_slashes=False,
        default=not_found,
    )
    return Boundary(Guard(router, keys, options), metrics)
