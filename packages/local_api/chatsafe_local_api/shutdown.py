"""How the API learns that the daemon is leaving: first no new chats, later no running ones."""

import asyncio

from chatsafe_common.errors import ShuttingDown


class Shutdown:
    """Two steps, each taken once: `begin` refuses new chats, `cut` ends the running ones."""

    def __init__(self) -> None:
        self._is_draining = False
        self._cut = asyncio.Event()

    def __repr__(self) -> str:
        state = "cut" if self._cut.is_set() else "draining" if self._is_draining else "serving"
        return f"Shutdown({state})"

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def begin(self) -> None:
        self._is_draining = True

    def cut(self) -> None:
        self.begin()
        self._cut.set()

    async def wait_for_cut(self) -> None:
        await self._cut.wait()

    def check(self) -> None:
        """Raises ShuttingDown once new chats are refused."""
        if self._is_draining:
            raise leaving()


def leaving() -> ShuttingDown:
    """The refusal while the daemon stops, also the end of an answer that outlived the grace."""
    return ShuttingDown(
        "The daemon is stopping. Ask again when it has been started again.", retry_after_s=5
    )
