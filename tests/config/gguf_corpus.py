"""Malformed and hostile GGUF files, each made from one good model by a single change.

Every case says whether the header check must refuse it. The others have a header in order and do
their harm later: their template never ends, a weight is missing or is no number.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.config.gguf_writer import (
    ARRAY,
    BOOL,
    CONTEXT,
    EMBEDDING,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    Draft,
    Field,
    Tensor,
    array,
    good_draft,
    int32,
    string,
    uint32,
    vocabulary,
    write_good,
)

__all__ = ["cases", "write_good"]

_Q4_0, _REMOVED_TYPE = 2, 4
_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_MERGES = "tokenizer.ggml.merges"
_TEMPLATE = "tokenizer.chat_template"


def cases(directory: Path) -> Iterator[tuple[str, Path, bool]]:
    """Write one file after the other: its name, its path, whether the header check refuses it."""
    good = good_draft()
    for header_rejects, group in (
        (True, _cut(good)),
        (True, _lies(good)),
        (True, _metadata(good)),
        (True, _tensors(good)),
        (True, _facts(good)),
        (True, _vocabulary(good)),
        (False, _traps(good)),
    ):
        for name, data in group:
            path = directory / f"{name}.gguf"
            path.write_bytes(data)
            yield name, path, header_rejects


def _cut(good: Draft) -> Iterator[tuple[str, bytes]]:
    """The file ends early, in every section."""
    data = good.encode()
    marks = good.marks
    first_tensor = marks["token_embd.weight"]
    ends = {
        "empty": 0,
        "cut-in-magic": 3,
        "cut-after-magic": 4,
        "cut-in-version": 6,
        "cut-in-tensor-count": 12,
        "cut-in-metadata-count": 20,
        "cut-before-metadata": 24,
        "cut-in-key-length": 28,
        "cut-in-key": 24 + 8 + 5,
        "cut-in-value-type": marks["general.name"] - 2 - 8,
        "cut-in-string-value": marks["general.name"] - 2,
        "cut-in-number": marks["llama.context_length"] - 2,
        "cut-in-array-type": marks[_TOKENS] + 8 + len(_TOKENS) + 6,
        "cut-in-array-count": marks[_TOKENS] + 8 + len(_TOKENS) + 12,
        "cut-in-tokens": marks[_TYPES] - 500,
        "cut-in-token-types": marks[_MERGES] - 40,
        "cut-in-merges": marks["tokenizer.ggml.bos_token_id"] - 3,
        "cut-in-template": marks[_TEMPLATE] + 60,
        "cut-before-tensor-table": first_tensor,
        "cut-in-tensor-name": first_tensor + 12,
        "cut-in-tensor-dimensions": first_tensor + 8 + 17 + 4 + 9,
        "cut-in-tensor-table": marks["blk.0.ffn_norm.weight"] + 3,
        "cut-after-tensor-table": marks["end of table"],
        "cut-before-data": marks["data"],
        "cut-in-first-tensor": marks["data"] + 100,
        "cut-in-last-tensor": len(data) - 1,
    }
    for name, end in ends.items():
        yield name, data[:end]


def _lies(good: Draft) -> Iterator[tuple[str, bytes]]:
    """Wrong magic, versions and counts."""
    for name, magic in (("magic-ggml", b"tjgg"), ("magic-lower-case", b"gguf")):
        yield name, replace(good, magic=magic).encode()
    yield "magic-is-html", b"<!doctype html><title>404</title>" + b" " * 4096
    for version in (0, 1, 4, 0xFFFFFFFF):
        yield f"version-{version}", replace(good, version=version).encode()
    yield "version-big-endian", replace(good, version=3 << 24).encode()
    count = len(good.fields)
    for name, number in (
        ("metadata-count-huge", 2**64 - 1),
        ("metadata-count-over-limit", 4097),
        ("metadata-count-one-more", count + 1),
        ("metadata-count-one-less", count - 1),
    ):
        yield name, replace(good, num_fields=number).encode()
    for name, number in (
        ("tensor-count-zero", 0),
        ("tensor-count-huge", 2**64 - 1),
        ("tensor-count-over-limit", 65_537),
        ("tensor-count-one-more", len(good.tensors) + 1),
    ):
        yield name, replace(good, num_tensors=number).encode()


def _metadata(good: Draft) -> Iterator[tuple[str, bytes]]:
    """Keys and values that no writer makes."""

    def added(key: bytes, kind: int, value: bytes) -> bytes:
        return replace(good, fields=(*good.fields, Field(key, kind, value))).encode()

    yield "key-empty", added(b"", UINT32, uint32(1))
    yield "key-too-long", added(b"k" * 257, UINT32, uint32(1))
    yield "key-not-utf8", added(b"\xff\xfe", UINT32, uint32(1))
    yield "key-with-newline", added(b"a\nb", UINT32, uint32(1))
    yield "key-twice", added(b"llama.block_count", UINT32, uint32(1))
    yield "value-type-unknown", added(b"x", 13, uint32(1))
    yield "value-type-huge", added(b"x", 0xFFFFFFFF, uint32(1))
    yield "bool-is-two", added(b"x", BOOL, b"\x02")
    yield "string-length-huge", added(b"x", STRING, struct.pack("<Q", 2**64 - 1))
    yield "string-over-limit", added(b"x", STRING, string(b"x" * (1024 * 1024 + 1)))
    yield "string-not-utf8", added(b"x", STRING, string(b"\xc3\x28"))
    yield "array-count-huge", added(b"x", ARRAY, struct.pack("<IQ", UINT32, 2**64 - 1))
    yield "array-count-overflows", added(b"x", ARRAY, struct.pack("<IQ", UINT32, 2**62 + 1))
    yield "array-over-limit", added(b"x", ARRAY, array(0, [b"\0"] * (1_048_576 + 1)))
    yield "array-type-unknown", added(b"x", ARRAY, struct.pack("<IQ", 99, 1))
    yield "array-of-strings-huge", added(b"x", ARRAY, struct.pack("<IQQ", STRING, 1, 2**63))
    yield "array-of-arrays", added(b"x", ARRAY, array(ARRAY, [array(UINT32, [uint32(1)])]))
    deep = array(UINT32, [])
    for _ in range(5000):
        deep = array(ARRAY, [deep])
    yield "array-nested-5000-deep", added(b"x", ARRAY, deep)
    for alignment in (0, 3, 8192, 0x80000000):
        yield f"alignment-{alignment}", added(b"general.alignment", UINT32, uint32(alignment))
    yield "alignment-is-text", added(b"general.alignment", STRING, string("32"))


def _tensors(good: Draft) -> Iterator[tuple[str, bytes]]:
    """A tensor table that points to the wrong places."""

    def changed(**change: object) -> bytes:
        def spoil(tensor: Tensor) -> Tensor:
            return replace(tensor, **change)  # type: ignore[arg-type]

        return good.with_tensor("blk.0.attn_q.weight", spoil).encode()

    yield "tensor-name-empty", changed(name=b"")
    yield "tensor-name-too-long", changed(name=b"n" * 64)
    yield "tensor-name-not-utf8", changed(name=b"\xff")
    yield "tensor-name-twice", changed(name=b"blk.0.attn_k.weight")
    yield "tensor-no-dimensions", changed(num_dimensions=0, dimensions=())
    yield "tensor-five-dimensions", changed(dimensions=(EMBEDDING, EMBEDDING, 1, 1, 1))
    yield "tensor-dimensions-huge", changed(num_dimensions=0xFFFFFFFF)
    yield "tensor-dimension-zero", changed(dimensions=(EMBEDDING, 0))
    yield "tensor-dimension-negative", changed(dimensions=(EMBEDDING, 2**64 - 32))
    yield "tensor-product-overflows", changed(dimensions=(2**32, 2**31, 2))
    yield "tensor-product-wraps-to-zero", changed(dimensions=(2**32, 2**32))
    yield "tensor-larger-than-file", changed(dimensions=(EMBEDDING, 2**30))
    yield "tensor-type-unknown", changed(kind=99)
    yield "tensor-type-huge", changed(kind=0xFFFFFFFF)
    yield "tensor-type-removed", changed(kind=_REMOVED_TYPE)
    yield "tensor-half-a-block", changed(kind=_Q4_0, dimensions=(16, 64))
    yield "tensor-outside-file", changed(offset=2**40)
    yield "tensor-offset-wraps", changed(offset=2**64 - 32)
    yield "tensor-not-aligned", changed(offset=4)
    yield "tensor-overlaps", changed(offset=32)
    yield "tensor-on-top-of-first", changed(offset=0)
    yield "no-token-embedding", good.without_tensor("token_embd.weight").encode()

    def transposed(tensor: Tensor) -> Tensor:
        return replace(tensor, dimensions=tensor.dimensions[::-1])

    yield (
        "token-embedding-transposed",
        good.with_tensor("token_embd.weight", transposed).encode(),
    )


def _facts(good: Draft) -> Iterator[tuple[str, bytes]]:
    """A model that cannot be."""

    def number(key: str, value: int) -> bytes:
        return good.with_field(key, UINT32, uint32(value)).encode()

    for key in (
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.attention.head_count",
    ):
        yield f"without-{key}", good.without_field(key).encode()
    for arch in ("", "bert", "no-such-architecture", "llama\n", "x" * 5000):
        spoiled = good.with_field("general.architecture", STRING, string(arch))
        yield f"architecture-{arch.strip()[:20] or len(arch)}", spoiled.encode()
    yield "architecture-is-number", number("general.architecture", 7)
    for key, values in {
        "llama.block_count": (0, 513, 0xFFFFFFFF),
        "llama.context_length": (0, 0xFFFFFFFF),
        "llama.embedding_length": (0, 31, 0xFFFFFFFF),
        "llama.attention.head_count": (0, 3, 0xFFFFFFFF),
        "llama.attention.head_count_kv": (4, 0xFFFFFFFF),
        "llama.rope.dimension_count": (CONTEXT,),
        "split.count": (2,),
    }.items():
        for value in values:
            yield f"{key}-{value}", number(key, value)
    count = "llama.block_count"
    yield "block-count-is-text", good.with_field(count, STRING, string("1")).encode()
    yield "block-count-negative", good.with_field(count, INT32, int32(-1)).encode()
    yield "block-count-is-float", good.with_field(count, FLOAT32, struct.pack("<f", 1)).encode()
    heads = array(UINT32, [uint32(2)] * 9)
    yield (
        "heads-for-nine-layers",
        good.with_field("llama.attention.head_count", ARRAY, heads).encode(),
    )


def _vocabulary(good: Draft) -> Iterator[tuple[str, bytes]]:
    """Tokens that do not fit together."""
    tokens = [string(token) for token in vocabulary()]
    floats = [struct.pack("<f", 0.0)] * len(tokens)

    def listed(key: str, kind: int, items: list[bytes]) -> bytes:
        return good.with_field(key, ARRAY, array(kind, items)).encode()

    for key in ("tokenizer.ggml.model", _TOKENS, _MERGES):
        yield f"without-{key}", good.without_field(key).encode()
    for model in ("bert", "rwkv", "none", "no-such-tokenizer"):
        field = good.with_field("tokenizer.ggml.model", STRING, string(model))
        yield f"tokenizer-{model}", field.encode()
    yield "tokens-empty", listed(_TOKENS, STRING, [])
    yield "tokens-are-numbers", listed(_TOKENS, UINT32, [uint32(1)] * len(tokens))
    yield "tokens-twice-the-same", listed(_TOKENS, STRING, [*tokens[:-1], tokens[0]])
    yield "tokens-one-less", listed(_TOKENS, STRING, tokens[:-1])
    yield "tokens-one-too-long", listed(_TOKENS, STRING, [*tokens[:-1], string("x" * 1025)])
    yield "token-types-short", listed(_TYPES, INT32, [int32(1)] * 3)
    yield "token-types-unknown", listed(_TYPES, INT32, [int32(99)] * len(tokens))
    yield "token-types-negative", listed(_TYPES, INT32, [int32(-1)] * len(tokens))
    yield "token-types-are-floats", listed(_TYPES, FLOAT32, floats)
    yield "scores-short", listed("tokenizer.ggml.scores", FLOAT32, floats[:-1])
    yield "scores-are-texts", listed("tokenizer.ggml.scores", STRING, tokens)
    yield "merges-are-numbers", listed(_MERGES, UINT32, [uint32(1)] * 4)
    yield "merges-one-too-long", listed(_MERGES, STRING, [string("x" * 2050)])
    for name, value in (("bos", len(tokens)), ("eos", 2**32 - 1), ("padding", 10**6)):
        key = f"tokenizer.ggml.{name}_token_id"
        yield f"{name}-out-of-range", good.with_field(key, UINT32, uint32(value)).encode()
    eos = good.with_field("tokenizer.ggml.eos_token_id", INT32, int32(-1))
    yield "eos-negative", eos.encode()
    for name, text in (("over-limit", "x" * (64 * 1024 + 1)), ("of-a-megabyte", "x" * 1024 * 1024)):
        yield f"template-{name}", good.with_field(_TEMPLATE, STRING, string(text)).encode()
    yield "template-is-number", good.with_field(_TEMPLATE, UINT32, uint32(1)).encode()


def _traps(good: Draft) -> Iterator[tuple[str, bytes]]:
    """The header is in order; what it describes is not."""
    loop = "{% for a in range(10000) %}"
    end = "{% endfor %}"
    templates = {
        "template-endless": loop * 3 + end * 3,
        "template-endless-text": loop * 2 + "x" * 1000 + end * 2,
        "template-memory": "{% set x = 'x' * 99999999999 %}{{ x }}",
        "template-doubling": "{% set n = namespace(x='x') %}" + loop
        + "{% set n.x = n.x + n.x %}" + end + "{{ n.x }}",
        "template-recursive": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "template-broken": "{% for %}",
        "template-deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "template-escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "template-raises": "{{ 1 // 0 }}",
        "template-include": "{% include '/etc/passwd' %}",
    }  # fmt: skip
    for name, source in templates.items():
        yield name, good.with_field(_TEMPLATE, STRING, string(source)).encode()

    yield "tensor-count-one-less", replace(good, num_tensors=len(good.tensors) - 1).encode()
    yield "layer-without-tensor", good.without_tensor("blk.0.ffn_down.weight").encode()
    yield "layer-missing", good.with_field("llama.block_count", UINT32, uint32(2)).encode()

    def thin(tensor: Tensor) -> Tensor:
        return replace(tensor, dimensions=(EMBEDDING, 1), data=tensor.data[: 4 * EMBEDDING])

    yield "layer-too-thin", good.with_tensor("blk.0.attn_q.weight", thin).encode()

    def not_numbers(tensor: Tensor) -> Tensor:
        return replace(tensor, data=struct.pack("<f", float("nan")) * (len(tensor.data) // 4))

    yield "weights-not-numbers", good.with_tensor("output_norm.weight", not_numbers).encode()
    unknown = good.with_field("tokenizer.ggml.pre", STRING, string("no-such-splitter"))
    yield "splitter-unknown", unknown.encode()
    yield (
        "norm-epsilon-missing",
        good.without_field("llama.attention.layer_norm_rms_epsilon").encode(),
    )
    experts = good.with_field("llama.expert_count", UINT32, uint32(100_000))
    yield "experts-too-many", experts.encode()
    heads = good.with_field("llama.attention.head_count_kv", UINT32, uint32(0))
    yield "kv-heads-zero", heads.encode()
