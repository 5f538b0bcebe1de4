"""Routes: what exists, what does not, and in which shape both are said."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.support.asgi import ADMIN_KEY, Api

from chatsafe_common.backend import ModelStatus
from chatsafe_common.chat import ModelCard, Sampling
from chatsafe_common.errors import ChatSafeError, ModelBusy
from chatsafe_common.testing import ScriptedBackend
from chatsafe_local_api.errors import TABLE, error_json


class Shelf(ScriptedBackend):
    """Three models: the default one, a missing one, one with a difficult id."""

    def __init__(self, *states: ModelStatus) -> None:
        super().__init__()
        self.states = states
        self.loaded: list[str] = []

    async def models(self) -> Sequence[ModelCard]:
        return (
            ModelCard(
                id="first",
                name="First",
                context_window=8192,
                available=True,
                is_default=True,
                loaded=True,
                created=5,
                size_bytes=7,
                sampling=Sampling(temperature=0.6, top_p=0.9, top_k=40, repeat_penalty=1.1),
                max_tokens=256,
            ),
            ModelCard(id="absent", name="Absent", context_window=10, available=False),
            ModelCard(id="org/name:q4", name="Odd", context_window=10, available=True),
        )

    def status(self) -> Sequence[ModelStatus]:
        return self.states

    async def load(self, model: str) -> None:
        self.loaded.append(model)

    async def unload(self, model: str) -> None:
        if model == "busy":
            raise ModelBusy("In use.")
        self.unloaded.append(model)


def state(state: str, num_waiting: int = 0) -> ModelStatus:
    return ModelStatus(id="first", state=state, num_waiting=num_waiting)  # type: ignore[arg-type]


def test_v1_models_lists_what_can_answer_default_first() -> None:
    document = asyncio.run(Api(Shelf()).get("/v1/models")).json()
    assert document["object"] == "list"
    data = document["data"]
    assert isinstance(data, list)
    assert [entry["id"] for entry in data] == ["first", "org/name:q4"]
    assert {key: data[0][key] for key in ("object", "created", "owned_by")} == {
        "object": "model",
        "created": 5,
        "owned_by": "local",
    }
    extra = data[0]["chatsafe"]
    assert (extra["state"], extra["context_length"], extra["size_bytes"]) == ("loaded", 8192, 7)
    assert (extra["route"], extra["privacy"], extra["capabilities"]) == ("local", "local", ["chat"])


def test_models_lists_all_in_both_forms() -> None:
    document = asyncio.run(Api(Shelf()).get("/models")).json()
    assert document["object"] == "list"
    assert len(document["data"]) == 3  # type: ignore[arg-type]
    assert document["models"][:2] == [  # type: ignore[index]
        {
            "id": "first",
            "name": "First",
            "context_window": 8192,
            "default": True,
            "loaded": True,
            "available": True,
            "size_bytes": 7,
        },
        {
            "id": "absent",
            "name": "Absent",
            "context_window": 10,
            "default": False,
            "loaded": False,
            "available": False,
            "size_bytes": None,
        },
    ]


@pytest.mark.parametrize("model", ["first", "absent", "org/name:q4"])
def test_one_model(model: str) -> None:
    assert asyncio.run(Api(Shelf()).get(f"/v1/models/{model}")).json()["id"] == model


def test_unknown_model() -> None:
    reply = asyncio.run(Api(Shelf()).get("/v1/models/none"))
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert reply.error["details"] == {"available": ["first", "org/name:q4"]}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/chat/completions/", "/v1/audio/speech", "/v1/embeddings", "//healthz"]
)
def test_unknown_paths(path: str) -> None:
    reply = asyncio.run(Api().get(path))
    assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] is None


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("PUT", "/v1/chat/completions", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/first", {"GET", "HEAD"}),
        ("OPTIONS", "/metrics", {"GET", "HEAD"}),
        ("PATCH", "/v1/models/load", {"POST"}),
    ],
)
def test_wrong_method(method: str, path: str, allowed: set[str]) -> None:
    reply = asyncio.run(Api().ask(method, path))
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/metrics", "/version", "/models"])
def test_head_on_every_get_route(path: str) -> None:
    assert asyncio.run(Api().ask("HEAD", path)).status == 200


@pytest.mark.parametrize(
    ("states", "health", "is_loaded"),
    [
        ([], "healthy", False),
        ([state("ready")], "healthy", True),
        ([state("loading")], "healthy", False),
        ([state("ready", 32)], "degraded", True),
        ([state("ready"), state("failed")], "degraded", True),
        ([state("failed")], "unhealthy", False),
    ],
)
def test_health(states: list[ModelStatus], health: str, is_loaded: bool) -> None:
    api = Api(Shelf(*states))
    reply = asyncio.run(api.get("/healthz"))
    assert reply.status == 200
    document = reply.json()
    assert document.pop("uptime_seconds") >= 0  # type: ignore[operator]
    assert document == {"status": health, "model_loaded": is_loaded, "version": "1.2.3"}
    strict = asyncio.run(api.ask("GET", "/health", query="strict=1"))
    assert strict.status == (200 if health == "healthy" else 503)


def test_health_while_leaving() -> None:
    api = Api()
    api.shutdown.begin()
    assert asyncio.run(api.get("/healthz")).json()["status"] == "unhealthy"


def test_version() -> None:
    assert asyncio.run(Api(Shelf()).get("/version")).json() == {
        "version": "1.2.3",
        "api": "ChatSafe Local API",
        "model_api": "OpenAI Compatible",
        "model_id": "first",
        "context_window": 8192,
        "defaults": {
            "temperature": 0.6,
            "top_p": 0.9,
            "top_k": 40,
            "repeat_penalty": 1.1,
            "max_tokens": 256,
        },
    }


def test_status() -> None:
    document = asyncio.run(Api(Shelf(state("ready", 2))).get("/v1/status")).json()
    assert document["queue"] == {"running": 0, "waiting": 2, "size": 32}
    assert document["default_model"] == "first"
    assert document["privacy"] == {
        "level": "local",
        "statement": "Nothing you type leaves this computer.",
    }
    assert document["models"][0]["state"] == "ready"  # type: ignore[index]


@pytest.mark.parametrize("path", ["/v1/models/load", "/v1/models/unload"])
def test_admin_routes_want_the_admin_key(path: str) -> None:
    shelf = Shelf()
    body = b'{"model":"first"}'

    def ask(api: Api, key: str) -> tuple[int, object]:
        headers = [("authorization", f"Bearer {key}")] if key else []
        reply = asyncio.run(api.ask("POST", path, body=body, headers=headers))
        return reply.status, reply.json().get("error", {}).get("code")  # type: ignore[attr-defined]

    assert ask(Api(shelf), "") == (401, "invalid_api_key")
    assert ask(Api(shelf), "wrong") == (401, "invalid_api_key")
    assert ask(Api(shelf, api_key="k"), "k") == (403, "insufficient_scope")
    assert shelf.loaded + shelf.unloaded == []
    assert ask(Api(shelf), ADMIN_KEY) == (200, None)
    assert ask(Api(shelf, api_key="k"), ADMIN_KEY) == (200, None)
    assert shelf.loaded + shelf.unloaded == ["first", "first"]


def test_admin_bodies_are_checked() -> None:
    key = [("authorization", f"Bearer {ADMIN_KEY}")]

    def ask(body: bytes) -> tuple[int, object]:
        reply = asyncio.run(Api(Shelf()).ask("POST", "/v1/models/unload", body=body, headers=key))
        return reply.status, reply.error["code"]

    assert ask(b"{}") == (400, "missing_required_parameter")
    assert ask(b"[]") == (400, "invalid_type")
    assert ask(b'{"model":1}') == (400, "invalid_type")
    assert ask(b'{"model":"busy"}') == (409, "model_busy")


def _all_errors() -> list[type[ChatSafeError]]:
    found, open_ = [], [ChatSafeError]
    while open_:
        kind = open_.pop()
        found.append(kind)
        open_ += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_row(kind: type[ChatSafeError]) -> None:
    assert kind.code in TABLE
    assert kind.__doc__


def test_error_body_has_all_keys() -> None:
    body = error_json(ModelBusy("In use.", details={"a": 1}), "id-1")
    assert body == {
        "error": {
            "message": "In use.",
            "type": "conflict_error",
            "param": None,
            "code": "model_busy",
            "status": 409,
            "details": {"a": 1},
        },
        "request_id": "id-1",
    }
