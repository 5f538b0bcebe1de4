"""A small GGUF writer for tests: one good tiny model, and drafts of it that can be spoiled."""

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
F32 = 0
ALIGNMENT = 32

EMBEDDING, HEAD_SIZE, FEED_FORWARD, CONTEXT = 32, 16, 64, 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Field:
    """One metadata key; `value` is encoded already, so that it can be anything."""

    key: bytes
    kind: int
    value: bytes


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table and its data; offset None is "where it belongs"."""

    name: bytes
    dimensions: tuple[int, ...]
    data: bytes
    kind: int = F32
    offset: int | None = None
    num_dimensions: int | None = None


@dataclass(frozen=True)
class Draft:
    """A whole file; counts None are the true ones."""

    fields: tuple[Field, ...]
    tensors: tuple[Tensor, ...]
    magic: bytes = b"GGUF"
    version: int = 3
    num_fields: int | None = None
    num_tensors: int | None = None
    marks: dict[str, int] = field(default_factory=dict, compare=False)

    def with_field(self, key: str, kind: int, value: bytes) -> "Draft":
        """Replace the value of `key`, or add it at the end."""
        new = Field(key.encode(), kind, value)
        if all(old.key != new.key for old in self.fields):
            return replace(self, fields=(*self.fields, new))
        fields = tuple(new if old.key == new.key else old for old in self.fields)
        return replace(self, fields=fields)

    def without_field(self, key: str) -> "Draft":
        return replace(self, fields=tuple(f for f in self.fields if f.key != key.encode()))

    def with_tensor(self, name: str, change: Callable[[Tensor], Tensor]) -> "Draft":
        tensors = tuple(change(t) if t.name == name.encode() else t for t in self.tensors)
        return replace(self, tensors=tensors)

    def without_tensor(self, name: str) -> "Draft":
        return replace(self, tensors=tuple(t for t in self.tensors if t.name != name.encode()))

    def encode(self) -> bytes:
        """The bytes of the file. `marks` then holds where each key, tensor and section starts."""
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_fields = len(self.fields) if self.num_fields is None else self.num_fields
        out = bytearray(self.magic + struct.pack("<IQQ", self.version, num_tensors, num_fields))
        for item in self.fields:
            self.marks[item.key.decode("latin-1")] = len(out)
            out += string(item.key) + struct.pack("<I", item.kind) + item.value
        at = 0
        for tensor in self.tensors:
            self.marks[tensor.name.decode("latin-1")] = len(out)
            count = len(tensor.dimensions)
            out += string(tensor.name)
            out += uint32(count if tensor.num_dimensions is None else tensor.num_dimensions)
            out += b"".join(struct.pack("<Q", size) for size in tensor.dimensions)
            offset = at if tensor.offset is None else tensor.offset
            out += struct.pack("<IQ", tensor.kind, offset)
            at += _padded(len(tensor.data))
        self.marks["end of table"] = len(out)
        out += b"\0" * (_padded(len(out)) - len(out))
        self.marks["data"] = len(out)
        for tensor in self.tensors:
            out += tensor.data.ljust(_padded(len(tensor.data)), b"\0")
        return bytes(out)


def string(text: bytes | str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def uint32(number: int) -> bytes:
    return struct.pack("<I", number)


def int32(number: int) -> bytes:
    return struct.pack("<i", number)


def array(kind: int, items: Iterable[bytes]) -> bytes:
    encoded = list(items)
    return struct.pack("<IQ", kind, len(encoded)) + b"".join(encoded)


def vocabulary() -> list[str]:
    """The 256 bytes as byte-level BPE spells them, two merged tokens, three control tokens."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(len(others))]
    return [*spelled, "he", "th", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def good_draft(seed: int = 7) -> Draft:
    """A one-block llama model with random weights that the engine loads and decodes."""
    tokens = vocabulary()
    last = len(tokens) - 1
    types = [1] * (len(tokens) - 3) + [3, 3, 3]
    fields = (
        _field("general.architecture", STRING, string("llama")),
        _field("general.name", STRING, string("Tiny")),
        _field("general.file_type", UINT32, uint32(0)),
        _field("llama.block_count", UINT32, uint32(1)),
        _field("llama.context_length", UINT32, uint32(CONTEXT)),
        _field("llama.embedding_length", UINT32, uint32(EMBEDDING)),
        _field("llama.feed_forward_length", UINT32, uint32(FEED_FORWARD)),
        _field("llama.attention.head_count", UINT32, uint32(2)),
        _field("llama.attention.head_count_kv", UINT32, uint32(1)),
        _field("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)),
        _field("llama.rope.dimension_count", UINT32, uint32(HEAD_SIZE)),
        _field("tokenizer.ggml.model", STRING, string("gpt2")),
        _field("tokenizer.ggml.pre", STRING, string("qwen2")),
        _field("tokenizer.ggml.tokens", ARRAY, array(STRING, map(string, tokens))),
        _field("tokenizer.ggml.token_type", ARRAY, array(INT32, map(int32, types))),
        _field("tokenizer.ggml.merges", ARRAY, array(STRING, map(string, ["h e", "t h"]))),
        _field("tokenizer.ggml.bos_token_id", UINT32, uint32(last - 2)),
        _field("tokenizer.ggml.eos_token_id", UINT32, uint32(last)),
        _field("tokenizer.ggml.add_bos_token", BOOL, b"\0"),
        _field("tokenizer.chat_template", STRING, string(CHAT_TEMPLATE)),
    )
    chance = random.Random(seed)

    def weights(name: str, *dimensions: int) -> Tensor:
        count = 1
        for size in dimensions:
            count *= size
        numbers = [chance.gauss(0, 0.2) for _ in range(count)]
        return Tensor(name.encode(), dimensions, struct.pack(f"<{count}f", *numbers))

    def ones(name: str) -> Tensor:
        return Tensor(name.encode(), (EMBEDDING,), struct.pack("<f", 1.0) * EMBEDDING)

    tensors = (
        weights("token_embd.weight", EMBEDDING, len(tokens)),
        ones("output_norm.weight"),
        ones("blk.0.attn_norm.weight"),
        weights("blk.0.attn_q.weight", EMBEDDING, EMBEDDING),
        weights("blk.0.attn_k.weight", EMBEDDING, HEAD_SIZE),
        weights("blk.0.attn_v.weight", EMBEDDING, HEAD_SIZE),
        weights("blk.0.attn_output.weight", EMBEDDING, EMBEDDING),
        ones("blk.0.ffn_norm.weight"),
        weights("blk.0.ffn_gate.weight", EMBEDDING, FEED_FORWARD),
        weights("blk.0.ffn_up.weight", EMBEDDING, FEED_FORWARD),
        weights("blk.0.ffn_down.weight", FEED_FORWARD, EMBEDDING),
    )
    return Draft(fields, tensors)


def write_good(path: Path) -> Path:
    """Write the good model to `path`."""
    path.write_bytes(good_draft().encode())
    return path


def _field(key: str, kind: int, value: bytes) -> Field:
    return Field(key.encode(), kind, value)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
