"""Bytes of a GGUF header to Python values, within limits; knows no model.

The file is read in growing pieces, never mapped: a mapped file that shrinks kills its reader.
Every count is checked before memory is spent on it.
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from chatsafe_config.errors import GgufError

# A header of a 256k vocabulary has 15 MiB; four times that is no vocabulary we know.
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_KEY_BYTES = 256
MAX_STRING_BYTES = 1024 * 1024
MAX_ARRAY_ITEMS = 1_048_576
TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"
# Tokens are words or less, and a merge is two tokens and a blank.
MAX_ITEM_BYTES = {TOKENS: 1024, MERGES: 2049}

_FIRST_PIECE_BYTES = 256 * 1024

STRING, ARRAY = 8, 9
# GGUF value type: name for messages, struct code, array code.
_SCALARS = {
    0: ("uint8", "<B", "B"),
    1: ("int8", "<b", "b"),
    2: ("uint16", "<H", "H"),
    3: ("int16", "<h", "h"),
    4: ("uint32", "<I", "I"),
    5: ("int32", "<i", "i"),
    6: ("float32", "<f", "f"),
    7: ("bool", "<B", "B"),
    10: ("uint64", "<Q", "Q"),
    11: ("int64", "<q", "q"),
    12: ("float64", "<d", "d"),
}
_BOOL = 7


@dataclass(frozen=True, slots=True)
class TextArray:
    """An array of strings that was checked but not kept: short strings cost far more memory as
    objects than they have bytes in the file."""

    count: int


Value = int | float | bool | str | list[bytes] | TextArray | array  # type: ignore[type-arg]


class HeaderReader:
    """A cursor over the first bytes of a file."""

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file = file
        self._end = min(file_bytes, MAX_HEADER_BYTES)
        self._is_cut = file_bytes > MAX_HEADER_BYTES
        self._data = b""
        self.position = 0

    def take(self, size: int, what: str) -> int:
        """Step over `size` bytes and return where they start. Raises GgufError at the end."""
        start = self.position
        if start + size > len(self._data):
            self._fill(start + size, what)
        self.position = start + size
        return start

    def uint32(self, what: str) -> int:
        return self._unpacked("<I", what)

    def uint64(self, what: str) -> int:
        return self._unpacked("<Q", what)

    def raw(self, size: int, what: str) -> bytes:
        start = self.take(size, what)
        return self._data[start : start + size]

    def text(self, limit: int, what: str) -> str:
        """A UTF-8 string of at most `limit` bytes."""
        size = self.uint64(what)
        if size > limit:
            raise GgufError(f"{what} has {size} bytes, more than the limit of {limit}")
        try:
            return self.raw(size, what).decode()
        except UnicodeDecodeError:
            raise GgufError(f"{what} is not UTF-8") from None

    def key(self) -> str:
        key = self.text(MAX_KEY_BYTES, "a metadata key")
        if not key or not key.isprintable():
            raise GgufError("a metadata key is empty or holds unprintable characters")
        return key

    def value(self, key: str) -> Value:
        """The value that follows `key`: a scalar, a string, or a flat array."""
        kind = self.uint32(key)
        if kind == STRING:
            return self.text(MAX_STRING_BYTES, key)
        if kind == ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _unpacked(self, code: str, what: str) -> int:
        # `take` may replace the data by more of it, so it comes first.
        start = self.take(struct.calcsize(code), what)
        found: int = struct.unpack_from(code, self._data, start)[0]
        return found

    def _scalar(self, kind: int, key: str) -> Value:
        if kind not in _SCALARS:
            raise GgufError(f"{key} has the unknown value type {kind}")
        _, code, _ = _SCALARS[kind]
        found = self._unpacked(code, key)
        if kind == _BOOL:
            if found not in (0, 1):
                raise GgufError(f"{key} is neither true nor false")
            return bool(found)
        return found

    def _array(self, key: str) -> Value:
        kind = self.uint32(key)
        count = self.uint64(key)
        if kind == ARRAY:
            raise GgufError(f"{key} is an array of arrays")
        if kind != STRING and kind not in _SCALARS:
            raise GgufError(f"{key} is an array of the unknown type {kind}")
        if count > MAX_ARRAY_ITEMS:
            raise GgufError(f"{key} has {count} items, more than the limit of {MAX_ARRAY_ITEMS}")
        if kind == STRING:
            texts = self._strings(count, MAX_ITEM_BYTES.get(key, MAX_STRING_BYTES), key)
            return list(texts) if key == TOKENS else TextArray(sum(1 for _ in texts))
        items = array(_SCALARS[kind][2])
        items.frombytes(self.raw(count * items.itemsize, key))
        if sys.byteorder == "big":
            items.byteswap()
        return items

    def _strings(self, count: int, limit: int, key: str) -> Iterator[bytes]:
        # The loop of 150,000 tokens and as many merges: nothing is looked up or called in it.
        unpack, data, at = struct.Struct("<Q").unpack_from, self._data, self.position
        available = len(data)
        for _ in range(count):
            if at + 8 > available:
                data = self._fill(at + 8, key)
                available = len(data)
            (size,) = unpack(data, at)
            if size > limit:
                raise GgufError(f"an item of {key} has {size} bytes, more than {limit}")
            at += 8
            if at + size > available:
                data = self._fill(at + size, key)
                available = len(data)
            yield data[at : at + size]
            at += size
        self.position = at

    def _fill(self, needed: int, what: str) -> bytes:
        """Read on until `needed` bytes are there, or more, so that growing costs little."""
        if needed > self._end:
            if self._is_cut:
                raise GgufError(f"the header is larger than {MAX_HEADER_BYTES} bytes, at {what}")
            raise GgufError(f"the file ends early, at {what}")
        wanted = min(self._end, max(needed, 2 * len(self._data), _FIRST_PIECE_BYTES))
        pieces = [self._data]
        missing = wanted - len(self._data)
        while missing > 0 and (piece := self._file.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        self._data = b"".join(pieces)
        if len(self._data) < needed:
            raise GgufError(f"the file ends early, at {what}")
        return self._data
