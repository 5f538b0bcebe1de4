"""How the API learns that the daemon is leaving: first no new chats, later no running ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chatsafe_common.errors import ShuttingDown


class Shutdown:
    """Two steps, each taken once: `begin` refuses new chats, `cut` ends the running ones."""

    def __init__(self) -> None:
        self._is_draining = False
        self._is_cut = False
        self._acts: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "cut" if self._is_cut else "draining" if self._is_draining else "serving"
        return f"Shutdown({state})"

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def begin(self) -> None:
        self._is_draining = True

    def cut(self) -> None:
        self.begin()
        self._is_cut = True
        for act in list(self._acts):
            act()

    @contextmanager
    def on_cut(self, act: Callable[[], None]) -> Iterator[None]:
        """Within the context, `cut` calls `act`; at once where it has come already."""
        self._acts.append(act)
        if self._is_cut:
            act()
        try:
            yield
        finally:
            self._acts.remove(act)

    def check(self) -> None:
        """Raises ShuttingDown once new chats are refused."""
        if self._is_draining:
            raise leaving()


def leaving() -> ShuttingDown:
    """The refusal while the daemon stops, also the end of an answer that outlived the grace."""
    return ShuttingDown(
        "The daemon is stopping. Ask again when it has been started again.", retry_after_s=5
    )
