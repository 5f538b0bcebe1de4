"""Daemon: look at a ChatSafe daemon and say which models it keeps in memory."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from chatsafe_client.connection import Connection
from chatsafe_common.backend import ModelStatus
from chatsafe_common.chat import ModelCard
from chatsafe_common.errors import Forbidden, PeerFailed
from chatsafe_common.openai_reply import model_cards

_T = TypeVar("_T")


class Health(msgspec.Struct, frozen=True):
    """`GET /healthz`. `status` is "healthy", "degraded" or "unhealthy"."""

    status: str
    model_loaded: bool
    version: str
    uptime_seconds: float


class Privacy(msgspec.Struct, frozen=True):
    """Where text goes: the badge, and its sentence."""

    level: str
    statement: str


class Queue(msgspec.Struct, frozen=True):
    """Chats that are answered and chats that wait; `size` is how many may wait."""

    running: int
    waiting: int
    size: int


class DaemonStatus(msgspec.Struct, frozen=True):
    """`GET /v1/status`. `models` are those in memory, on their way there, or failed."""

    status: str
    version: str
    uptime_seconds: float
    default_model: str | None
    privacy: Privacy
    queue: Queue
    models: tuple[ModelStatus, ...]


class Metrics(msgspec.Struct, frozen=True):
    """The part of `GET /metrics` that people look at."""

    total_requests: int
    active_requests: int
    total_errors: int
    total_prompt_tokens: int
    total_completion_tokens: int
    avg_tokens_per_second: float


class Daemon:
    """A daemon behind a `Connection`, which the caller owns.

    `admin_key` opens `load` and `unload`; it is sent to this machine's own daemon only.
    """

    def __init__(self, connection: Connection, *, admin_key: str = "") -> None:
        self._connection = connection
        self._admin_key = admin_key

    def __repr__(self) -> str:
        return f"Daemon({self._connection.address})"

    async def health(self) -> Health:
        return _decode(await self._connection.get("healthz"), Health)

    async def status(self) -> DaemonStatus:
        return _decode(await self._connection.get("v1/status"), DaemonStatus)

    async def models(self) -> Sequence[ModelCard]:
        """Every model the daemon knows, those without a file too, the default one first."""
        return model_cards(await self._connection.get("models"))

    async def metrics(self) -> Metrics:
        return _decode(await self._connection.get("metrics"), Metrics)

    async def load(self, model: str) -> None:
        """Returns when the model can answer. Raises ModelNotFound, ModelLoadFailed, Forbidden."""
        await self._change("v1/models/load", model)

    async def unload(self, model: str) -> None:
        """Returns when its memory is free. Raises ModelNotFound, ModelBusy, Forbidden."""
        await self._change("v1/models/unload", model)

    async def _change(self, path: str, model: str) -> None:
        if not self._connection.is_local:
            raise Forbidden(
                f"{self._connection.address} is another computer. The admin key stays on this one, "
                "so run the command there."
            )
        if not self._admin_key:
            raise Forbidden(
                "There is no admin key that this user can read. The daemon makes one at its first "
                "start, for the user who starts it."
            )
        await self._connection.post(
            path,
            msgspec.json.encode({"model": model}),
            headers={"authorization": f"Bearer {self._admin_key}"},
        )


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerFailed(
            "What answers there is no ChatSafe daemon of this version. Check the address."
        ) from error
