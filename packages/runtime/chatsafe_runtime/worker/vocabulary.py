"""The vocabulary of a model that llama.cpp has loaded: text to tokens and back to bytes."""

import ctypes
from collections.abc import Mapping
from typing import Any, Final

from chatsafe_runtime.worker.bindings import bindings
from chatsafe_runtime.worker.engine import EngineError

_CONTROL: Final = 1 << 3  # LLAMA_TOKEN_ATTR_CONTROL
_LSTRIP: Final = 1 << 7
_RSTRIP: Final = 1 << 8


class LlamaVocabulary:
    """The vocabulary of a loaded model."""

    def __init__(self, vocabulary: Any) -> None:
        self.native = vocabulary
        self.size: int = bindings.llama_vocab_n_tokens(vocabulary)
        attributes = [
            bindings.llama_vocab_get_attr(vocabulary, token) for token in range(self.size)
        ]
        self._attributes = {
            token: attribute for token, attribute in enumerate(attributes) if attribute & _CONTROL
        }
        self.control_tokens: Mapping[str, int] = {
            spelling: token for token in self._attributes if (spelling := self._spelling(token))
        }
        bos = bindings.llama_vocab_bos(vocabulary)
        eos = bindings.llama_vocab_eos(vocabulary)
        self.bos: int | None = bos if bos >= 0 else None
        self.adds_bos: bool = self.bos is not None and bool(
            bindings.llama_vocab_get_add_bos(vocabulary)
        )
        self.bos_text = self._spelling(bos)
        self.eos_text = self._spelling(eos)
        self._pieces: dict[int, bytes] = {}

    def _spelling(self, token: int) -> str:
        if token < 0:
            return ""
        text = bindings.llama_vocab_get_text(self.native, token)
        return str(text.decode("utf-8", "replace")) if text else ""

    def tokenize(self, text: str) -> list[int]:
        data = text.encode("utf-8", "replace")
        if not data:
            return []
        size = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * size)()
            count = bindings.llama_tokenize(
                self.native, data, len(data), tokens, size, False, False
            )
            if count >= 0:
                return tokens[:count]
            if -count <= size:
                raise EngineError("The engine could not tokenize the text.")
            size = -count

    def piece(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = self._read_piece(token)
        return self._pieces[token]

    def _read_piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = bindings.llama_token_to_piece(self.native, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def ends_turn(self, token: int) -> bool:
        return bool(bindings.llama_vocab_is_eog(self.native, token))

    def strips(self, token: int) -> tuple[bool, bool]:
        attribute = self._attributes.get(token, 0)
        return bool(attribute & _LSTRIP), bool(attribute & _RSTRIP)
