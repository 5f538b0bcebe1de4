"""LabelFilter: takes markers and role labels out of an answer as it streams.

For models that were trained on plain-text dialogues and go on writing them. It changes text, so
it is a switch of the model's registry entry. Any split of the same text gives the same output.

- Chat markers that the model spelled out, and an echo of its own turn's opening, disappear.
- A role label at the beginning of a line disappears; a line with nothing else goes with it.
- A label of the other side after some text is an invented turn: the answer ends before it.
- Fenced code, and labels in the middle of a line, stay as they are.
"""

from typing import Final

MARKERS: Final = (
    # The openings of the assistant's turn, whole, so that its role name goes too.
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<|im_start|>assistant\n",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
)
OTHER_SIDE_LABELS: Final = ("You:", "User:", "Human:", "### Instruction:")
LABELS: Final = ("AI:", "Assistant:", "System:", "Bot:", "### Response:", *OTHER_SIDE_LABELS)
# For an answer of which nothing was left.
NOTHING_LEFT: Final = "Sorry, I have no answer to that."
_FENCE: Final = "```"


class LabelFilter:
    """Text in, cleaned text out. `is_ended`: the rest of the answer is not wanted."""

    def __init__(self) -> None:
        self.is_ended = False
        self._markers = _MarkerFilter()
        self._line = ""  # the beginning of a line, not decided yet
        self._is_line_start = True
        self._is_code = False
        self._has_cut = False  # a label was taken out of the line that begins
        self._space = ""  # line breaks and the like, shown once something follows
        self._has_shown = False
        self._has_removed = False

    def push(self, text: str) -> str:
        """More text of the answer; returns what may be shown."""
        return self._filter(self._markers.push(text), is_last=False)

    def flush(self) -> str:
        """The end of the answer."""
        shown = self._filter(self._markers.flush(), is_last=True)
        if not self.is_ended:
            shown += self._space
        has_removed = self._has_removed or self._markers.has_removed
        return NOTHING_LEFT if has_removed and not self._has_shown else shown

    def _filter(self, text: str, *, is_last: bool) -> str:
        shown = ""
        self._line += text
        while self._line and not self.is_ended:
            before = self._line
            shown += self._begin_line(is_last) if self._is_line_start else self._go_on()
            if self._line == before:
                break
        return shown

    def _go_on(self) -> str:
        """The rest of a line whose beginning is decided."""
        line, newline, rest = self._line.partition("\n")
        self._line = rest
        self._is_line_start = bool(newline)
        self._has_cut = False
        return self._show(line + newline)

    def _begin_line(self, is_last: bool) -> str:
        """Decide how a line begins, once enough of it is here; else leave it."""
        if self._has_cut:
            self._line = self._line.lstrip(" \t")
        line, newline, _ = self._line.partition("\n")
        core = line.lstrip(" \t")
        is_whole = bool(newline) or is_last
        if not core:
            return self._end_blank(line + newline) if is_whole else ""
        if core.startswith(_FENCE):
            self._is_code = not self._is_code
            self._is_line_start = False
            return self._go_on()
        if not self._is_code:
            for label in LABELS:
                if core.startswith(label):
                    self._cut(label, core)
                    return ""
        could_be = (_FENCE,) if self._is_code else (_FENCE, *LABELS)
        if not is_whole and any(word.startswith(core) for word in could_be):
            return ""
        self._is_line_start = False
        return self._go_on()

    def _cut(self, label: str, core: str) -> None:
        self._has_removed = self._has_cut = True
        if label in OTHER_SIDE_LABELS and self._has_shown:
            self.is_ended = True
            return
        at = self._line.index(core)
        self._line = self._line[at + len(label) :].lstrip(" \t")

    def _end_blank(self, line: str) -> str:
        self._line = self._line[len(line) :]
        is_dropped, self._has_cut = self._has_cut, False
        return "" if is_dropped else self._show(line)

    def _show(self, text: str) -> str:
        text = self._space + text
        body = text.rstrip()
        self._space = text[len(body) :]
        self._has_shown = self._has_shown or bool(body)
        return body


class _MarkerFilter:
    """Takes `MARKERS` out: at each place the longest one that fits."""

    def __init__(self) -> None:
        self.has_removed = False
        self._held = ""

    def push(self, text: str) -> str:
        self._held += text
        return self._filter(is_last=False)

    def flush(self) -> str:
        return self._filter(is_last=True)

    def _filter(self, *, is_last: bool) -> str:
        shown = ""
        while self._held:
            start = self._held.find("<|")
            if start < 0:
                start = len(self._held) - (self._held.endswith("<") and not is_last)
            shown, self._held = shown + self._held[:start], self._held[start:]
            fits = [marker for marker in MARKERS if self._held.startswith(marker)]
            longer = [
                marker
                for marker in MARKERS
                if len(marker) > len(self._held) and marker.startswith(self._held)
            ]
            if not self._held or (longer and not is_last):
                break
            if fits:
                self.has_removed = True
                self._held = self._held[len(max(fits, key=len)) :]
            else:
                shown, self._held = shown + self._held[0], self._held[1:]
        return shown
