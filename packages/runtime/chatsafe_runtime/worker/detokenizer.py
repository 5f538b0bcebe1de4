"""Token bytes to text, as they come: never half a character, never a lost space.

Bytes that cannot become a character turn into U+FFFD as soon as that is certain; a beginning that
might still be completed is held back until `flush`.
"""

import codecs


class Detokenizer:
    """The bytes of one answer in, its text out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, piece: bytes) -> str:
        """The text that is certain now."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left at the end of the answer."""
        return self._decoder.decode(b"", final=True)
