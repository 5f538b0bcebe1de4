"""The model routes: what there is, one of them, and (admin) into and out of memory."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from chatsafe_common import strict_json
from chatsafe_common.backend import Backend, ModelHost
from chatsafe_common.chat import ModelCard
from chatsafe_common.errors import ModelNotFound
from chatsafe_common.fields import as_fields
from chatsafe_common.nearest import nearest
from chatsafe_common.openai_result import model_json
from chatsafe_local_api.guard import read_body
from chatsafe_local_api.keys import Keys


class Models:
    """The endpoints around models."""

    def __init__(self, backend: Backend, host: ModelHost, keys: Keys) -> None:
        self._backend = backend
        self._host = host
        self._keys = keys

    async def list_available(self, request: Request) -> Response:
        """`GET /v1/models`: what can answer now, the default first."""
        cards = [card for card in await self._backend.models() if card.available]
        return json_response({"object": "list", "data": [model_json(card) for card in cards]})

    async def list_all(self, request: Request) -> Response:
        """`GET /models`: also what the registry knows and this machine has no file of."""
        cards = await self._backend.models()
        return json_response(
            {
                "object": "list",
                "data": [model_json(card) for card in cards],
                "models": [_native(card) for card in cards],
            }
        )

    async def get(self, request: Request) -> Response:
        """`GET /v1/models/{id}`; ids may contain `/` and `:`."""
        wanted = request.path_params["id"]
        cards = await self._backend.models()
        for card in cards:
            if card.id == wanted:
                return json_response(model_json(card))
        ids = [card.id for card in cards if card.available]
        raise ModelNotFound(
            f"Model not found.{nearest(wanted, ids)} GET /v1/models lists the models of this "
            "machine.",
            param="model",
            details={"available": ids},
        )

    async def load(self, request: Request) -> Response:
        """`POST /v1/models/load {"model": id}`: ready when the reply comes."""
        model = await self._admin_model(request)
        await self._host.load(model)
        return json_response({"model": model, "state": "ready"})

    async def unload(self, request: Request) -> Response:
        """`POST /v1/models/unload {"model": id}`: its memory is free when the reply comes."""
        model = await self._admin_model(request)
        await self._host.unload(model)
        return json_response({"model": model, "state": "unloaded"})

    async def _admin_model(self, request: Request) -> str:
        self._keys.check_admin(request.scope["headers"])
        body = await read_body(request.receive)
        fields = as_fields(strict_json.parse(body), "")
        model = fields.string("model", max_chars=256)
        if not model:
            raise fields.missing("model")
        return model


def json_response(document: object, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(document), status_code=status, media_type="application/json"
    )


def _native(card: ModelCard) -> dict[str, object]:
    return {
        "id": card.id,
        "name": card.name,
        "context_window": card.context_window,
        "default": card.is_default,
        "loaded": card.loaded,
        "available": card.available,
        "size_bytes": card.size_bytes,
    }
