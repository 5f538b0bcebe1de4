"""Reads and checks a model file's header without loading it: the bounded check before the engine.

The native engine aborts its whole process on many malformed files, so nothing reaches it before
every count, size, offset and id here is in range. Only this check of a model file runs inside the
daemon; templates are carried as text and never interpreted.
"""

import os
import stat
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatsafe_config.errors import GgufError
from chatsafe_config.gguf_names import ARCHITECTURES, FILE_TYPES, RECURRENT, TOKENIZERS
from chatsafe_config.gguf_reader import MERGES, TOKENS, HeaderReader, TextArray, Value
from chatsafe_config.gguf_tensors import Tensor, check_placement, read_tensors

MAX_METADATA = 4_096
MAX_TEMPLATE_BYTES = 64 * 1024
MAX_BLOCKS = 512
MAX_ALIGNMENT = 4_096
MAX_NUMBER = 2**31 - 1  # the engine keeps these in signed 32-bit numbers

_NUM_TOKEN_TYPES = 7


@dataclass(frozen=True, slots=True)
class Header:
    """What a model file says about itself, checked.

    Lengths count tokens, `tensor_bytes` and `size_bytes` bytes; `key_length` and `value_length`
    are the elements one head keeps of one token. `quantization` is the file type's name, or None.
    """

    version: int
    architecture: str
    name: str | None
    context_length: int
    block_count: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    vocab_size: int
    quantization: str | None
    chat_template: str | None = field(repr=False)
    tensor_bytes: int
    size_bytes: int
    parameter_count: int


def read_header(path: Path) -> Header:
    """The checked header of the model at `path`; reads at most 64 MiB.

    Raises GgufError with the reason, whatever the bytes are.
    """
    # Without blocking: opening a named pipe would otherwise wait for a writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "bad name"
        raise GgufError(f"the file cannot be opened ({reason})") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise GgufError("it is not a regular file")
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            return _read(HeaderReader(file, facts.st_size), facts.st_size)
    except OSError as error:
        raise GgufError(f"the file cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)


def _read(reader: HeaderReader, file_bytes: int) -> Header:
    if reader.raw(4, "the magic bytes") != b"GGUF":
        raise GgufError("it does not start with GGUF, so it is no GGUF file")
    version = reader.uint32("the version")
    if version in (2 << 24, 3 << 24):
        raise GgufError("it is a big-endian GGUF file; only little-endian ones are loaded")
    if version not in (2, 3):
        raise GgufError(f"its GGUF version is {version}; only 2 and 3 are loaded")
    num_tensors = reader.uint64("the number of tensors")
    num_metadata = reader.uint64("the number of metadata keys")
    if num_metadata > MAX_METADATA:
        raise GgufError(f"it claims {num_metadata} metadata keys, more than {MAX_METADATA}")
    values: dict[str, Value] = {}
    for _ in range(num_metadata):
        key = reader.key()
        if key in values:
            raise GgufError(f"the metadata key {key} occurs twice")
        values[key] = reader.value(key)
    metadata = _Metadata(values)
    tensors = read_tensors(reader, num_tensors)
    alignment = metadata.alignment()
    data_start = -(-reader.position // alignment) * alignment
    tensor_bytes = check_placement(tensors, data_start, file_bytes, alignment)
    return metadata.header(version, tensors, tensor_bytes, file_bytes)


class _Metadata:
    """The metadata of one file, asked for by key, type and range."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def header(
        self, version: int, tensors: list[Tensor], tensor_bytes: int, file_bytes: int
    ) -> Header:
        arch = self._text("general.architecture")
        if arch is None:
            raise GgufError("general.architecture is missing")
        if arch not in ARCHITECTURES:
            raise GgufError(f"its architecture {_short(arch)} is not one that ChatSafe loads")
        if self._number("split.count", low=0, default=1) > 1:
            raise GgufError("it is one part of a split model; join the parts into one file first")
        block_count = self._number(f"{arch}.block_count", low=1, high=MAX_BLOCKS)
        embedding = self._number(f"{arch}.embedding_length", low=1)
        heads, heads_kv, key_length, value_length = self._heads(arch, embedding, block_count)
        vocab_size = self._vocabulary()
        _check_embedding(tensors, embedding, vocab_size)
        file_type = self._number("general.file_type", low=0, default=-1)
        return Header(
            version=version,
            architecture=arch,
            name=self._text("general.name"),
            context_length=self._number(f"{arch}.context_length", low=1),
            block_count=block_count,
            embedding_length=embedding,
            head_count=heads,
            head_count_kv=heads_kv,
            key_length=key_length,
            value_length=value_length,
            vocab_size=vocab_size,
            quantization=FILE_TYPES.get(file_type),
            chat_template=self._template(),
            tensor_bytes=tensor_bytes,
            size_bytes=file_bytes,
            parameter_count=sum(tensor.num_elements for tensor in tensors),
        )

    def alignment(self) -> int:
        found = self._number("general.alignment", low=1, high=MAX_ALIGNMENT, default=32)
        if found & (found - 1):
            raise GgufError(f"general.alignment is {found}, which is no power of two")
        return found

    def _heads(self, arch: str, embedding: int, blocks: int) -> tuple[int, int, int, int]:
        """Heads, heads that keep keys and values, and the size of a key and a value."""
        lowest = 0 if arch in RECURRENT else 1
        heads = self._per_layer(f"{arch}.attention.head_count", blocks, lowest, None)
        heads_kv = self._per_layer(f"{arch}.attention.head_count_kv", blocks, 0, heads)
        if heads == 0:
            return 0, 0, 0, 0
        if heads_kv > heads or (heads_kv and heads % heads_kv):
            raise GgufError(f"{heads_kv} key-value heads do not divide its {heads} heads")
        given = f"{arch}.attention.key_length"
        if given not in self._values and embedding % heads:
            raise GgufError(f"{heads} heads do not divide its embedding length of {embedding}")
        size = max(1, embedding // heads)
        key_length = self._number(given, low=1, high=65536, default=size)
        value_length = self._number(
            f"{arch}.attention.value_length", low=1, high=65536, default=size
        )
        if self._number(f"{arch}.rope.dimension_count", low=0, default=0) > key_length:
            raise GgufError(f"{arch}.rope.dimension_count is more than the size of a head")
        return heads, heads_kv, key_length, value_length

    def _per_layer(self, key: str, blocks: int, low: int, default: int | None) -> int:
        """A number, or the largest of an array with one number for each block."""
        found = self._values.get(key)
        if not isinstance(found, array):
            return self._number(key, low=low, high=65536, default=default)
        if found.typecode not in "IiHhBb" or len(found) != blocks:
            raise GgufError(f"{key} must hold a whole number for each of the {blocks} blocks")
        if min(found) < 0 or not low <= max(found) <= 65536:
            raise GgufError(f"{key} holds a number out of range")
        return int(max(found))

    def _vocabulary(self) -> int:
        model = self._text("tokenizer.ggml.model")
        if model is None:
            raise GgufError("tokenizer.ggml.model is missing")
        if model not in TOKENIZERS:
            raise GgufError(f"its tokenizer {_short(model)} is not one that ChatSafe loads")
        tokens = self._values.get(TOKENS)
        if not isinstance(tokens, list) or not tokens:
            raise GgufError(f"{TOKENS} must be a list of texts")
        # The engine names empty tokens by their place, and aborts when two tokens are the same.
        filled = [token for token in tokens if token]
        if len(set(filled)) < len(filled):
            raise GgufError("two tokens of its vocabulary are the same")
        self._check_scores(len(tokens))
        self._check_token_types(len(tokens))
        merges = self._values.get(MERGES)
        if merges is not None and not isinstance(merges, TextArray):
            raise GgufError(f"{MERGES} must be a list of texts")
        if merges is None and model == "gpt2":
            raise GgufError(f"{MERGES} is missing")
        for key in self._values:
            if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
                found = self._number(key, low=0, high=2**64)
                if found >= len(tokens):
                    raise GgufError(f"{key} is {found}, outside a vocabulary of {len(tokens)}")
        return len(tokens)

    def _check_scores(self, num_tokens: int) -> None:
        found = self._values.get("tokenizer.ggml.scores")
        if found is None:
            return
        if not isinstance(found, array) or found.typecode != "f" or len(found) != num_tokens:
            raise GgufError("tokenizer.ggml.scores must hold one float32 for each token")

    def _check_token_types(self, num_tokens: int) -> None:
        found = self._values.get("tokenizer.ggml.token_type")
        if found is None:
            return
        if not isinstance(found, array) or found.typecode not in "iI" or len(found) != num_tokens:
            raise GgufError("tokenizer.ggml.token_type must hold one int32 for each token")
        if not set(found) <= set(range(_NUM_TOKEN_TYPES)):
            raise GgufError("tokenizer.ggml.token_type holds a type that does not exist")

    def _template(self) -> str | None:
        for key, value in self._values.items():
            if not key.startswith("tokenizer.chat_template"):
                continue
            if isinstance(value, str) and len(value.encode()) > MAX_TEMPLATE_BYTES:
                raise GgufError(f"{_short(key)} is longer than {MAX_TEMPLATE_BYTES} bytes")
        return self._text("tokenizer.chat_template") or None

    def _text(self, key: str) -> str | None:
        found = self._values.get(key)
        if found is None or isinstance(found, str):
            return found
        raise GgufError(f"{key} must be a text")

    def _number(
        self, key: str, *, low: int, high: int = MAX_NUMBER, default: int | None = None
    ) -> int:
        found = self._values.get(key)
        if found is None and default is not None:
            return default
        if found is None:
            raise GgufError(f"{key} is missing")
        if isinstance(found, bool) or not isinstance(found, int):
            raise GgufError(f"{key} must be a whole number")
        if not low <= found <= high:
            raise GgufError(f"{key} is {found}; it must be between {low} and {high}")
        return found


def _check_embedding(tensors: list[Tensor], embedding: int, vocab_size: int) -> None:
    for tensor in tensors:
        if tensor.name == "token_embd.weight":
            if tensor.dimensions != (embedding, vocab_size):
                raise GgufError(
                    f"token_embd.weight is {'x'.join(map(str, tensor.dimensions))}, but the "
                    f"embedding has {embedding} numbers and the vocabulary {vocab_size} tokens"
                )
            return
    raise GgufError("the tensor token_embd.weight is missing")


def _short(text: str) -> str:
    """A name from the file, fit for a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
