"""One answer's text on its way out: token bytes in, clean text out.

Bytes become characters, characters pass the stop matcher, then the label filter where the model
needs one. Whoever ends the answer calls `finish` once.
"""

from collections.abc import Sequence

from chatsafe_runtime.worker.detokenizer import Detokenizer
from chatsafe_runtime.worker.labels import LabelFilter
from chatsafe_runtime.worker.stops import StopMatcher


class Answer:
    """The text of one sequence."""

    def __init__(self, stops: Sequence[str], *, clean_labels: bool) -> None:
        self._detokenizer = Detokenizer()
        self._stops = StopMatcher(stops)
        self._labels = LabelFilter() if clean_labels else None

    @property
    def is_stopped(self) -> bool:
        """A stop sequence, or an invented turn, has ended the answer."""
        return self._stops.is_stopped or (self._labels is not None and self._labels.is_ended)

    def push(self, piece: bytes) -> str:
        """The text that may be shown now."""
        text = self._stops.push(self._detokenizer.push(piece))
        return text if self._labels is None else self._labels.push(text)

    def finish(self) -> str:
        """What was held back."""
        text = self._stops.push(self._detokenizer.flush()) + self._stops.flush()
        return text if self._labels is None else self._labels.push(text) + self._labels.flush()
