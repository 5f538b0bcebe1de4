"""The header check: what it reads from a good file, and that nothing else gets through."""

import contextlib
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.config import gguf_corpus
from tests.config.gguf_writer import (
    ARRAY,
    CHAT_TEMPLATE,
    CONTEXT,
    EMBEDDING,
    FLOAT32,
    HEAD_SIZE,
    INT32,
    STRING,
    UINT32,
    Draft,
    array,
    good_draft,
    int32,
    string,
    uint32,
    vocabulary,
    write_good,
)

from chatsafe_config import gguf_reader
from chatsafe_config.errors import GgufError
from chatsafe_config.gguf import read_header

GOOD = good_draft().encode()


def write(directory: Path, draft: Draft) -> Path:
    path = directory / "model.gguf"
    path.write_bytes(draft.encode())
    return path


def test_a_good_header(tmp_path: Path) -> None:
    header = read_header(write_good(tmp_path / "good.gguf"))
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.name == "Tiny"
    assert header.context_length == CONTEXT
    assert header.block_count == 1
    assert header.embedding_length == EMBEDDING
    assert (header.head_count, header.head_count_kv) == (2, 1)
    assert (header.key_length, header.value_length) == (HEAD_SIZE, HEAD_SIZE)
    assert header.vocab_size == len(vocabulary())
    assert header.quantization == "F32"
    assert header.chat_template == CHAT_TEMPLATE
    assert header.size_bytes == len(GOOD)
    assert header.tensor_bytes == 4 * header.parameter_count
    assert CHAT_TEMPLATE not in repr(header)


def test_a_version_2_file(tmp_path: Path) -> None:
    assert read_header(write(tmp_path, replace(good_draft(), version=2))).version == 2


def test_optional_facts_may_be_absent(tmp_path: Path) -> None:
    draft = good_draft()
    for key in (
        "general.name",
        "general.file_type",
        "llama.attention.head_count_kv",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.chat_template",
    ):
        draft = draft.without_field(key)
    header = read_header(write(tmp_path, draft))
    assert header.name is None
    assert header.quantization is None
    assert header.chat_template is None
    assert header.head_count_kv == header.head_count


def test_heads_of_their_own_size_need_not_divide_the_embedding(tmp_path: Path) -> None:
    draft = good_draft().with_field("llama.attention.head_count", UINT32, uint32(3))
    draft = draft.with_field("llama.attention.key_length", UINT32, uint32(24))
    header = read_header(write(tmp_path, draft))
    assert (header.head_count, header.key_length) == (3, 24)


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    heads = array(INT32, [int32(2)])
    draft = good_draft().with_field("llama.attention.head_count", ARRAY, heads)
    assert read_header(write(tmp_path, draft)).head_count == 2


def test_empty_tokens_may_repeat(tmp_path: Path) -> None:
    # The engine gives each of them a name of its own.
    tokens = [string(token) for token in vocabulary()]
    tokens[40] = tokens[41] = string("")
    draft = good_draft().with_field("tokenizer.ggml.tokens", ARRAY, array(STRING, tokens))
    assert read_header(write(tmp_path, draft)).vocab_size == len(tokens)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path, bool]]:
    return list(gguf_corpus.cases(tmp_path_factory.mktemp("corpus")))


def test_the_corpus_is_large_and_named(corpus: list[tuple[str, Path, bool]]) -> None:
    names = [name for name, _, _ in corpus]
    assert len(names) >= 150
    assert len(set(names)) == len(names)


def test_every_case_of_the_corpus_is_judged_rightly(
    corpus: list[tuple[str, Path, bool]],
) -> None:
    wrong = []
    for name, path, header_rejects in corpus:
        try:
            read_header(path)
        except GgufError as error:
            if not header_rejects or len(str(error)) < 10 or str(path) in str(error):
                wrong.append(f"{name}: {error}")
        else:
            if header_rejects:
                wrong.append(f"{name}: accepted")
    assert not wrong


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut-in-tokens", "ends early, at tokenizer.ggml.tokens"),
        ("cut-in-last-tensor", "downloaded completely"),
        ("magic-is-html", "no GGUF file"),
        ("version-big-endian", "big-endian"),
        ("metadata-count-huge", "more than 4096"),
        ("tensor-count-over-limit", "limit of 65536"),
        ("key-twice", "occurs twice"),
        ("array-nested-5000-deep", "array of arrays"),
        ("alignment-3", "no power of two"),
        ("tensor-overlaps", "overlaps"),
        ("tensor-dimension-zero", "dimension of zero"),
        ("tensor-product-overflows", "more elements"),
        ("tensor-offset-wraps", "behind the end"),
        ("architecture-bert", "'bert' is not one that ChatSafe loads"),
        ("tokenizer-rwkv", "'rwkv' is not one that ChatSafe loads"),
        ("tokens-twice-the-same", "are the same"),
        ("token-types-unknown", "type that does not exist"),
        ("eos-out-of-range", "outside a vocabulary"),
        ("template-over-limit", "longer than 65536 bytes"),
        ("split.count-2", "split model"),
    ],
)
def test_a_refusal_names_the_reason(
    corpus: list[tuple[str, Path, bool]], name: str, reason: str
) -> None:
    (path,) = (path for found, path, _ in corpus if found == name)
    with pytest.raises(GgufError) as refused:
        read_header(path)
    assert reason in str(refused.value)


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    marks = good_draft()
    data = marks.encode()
    # Every seventh byte of the table of tensors, every 29th before: all sections, in all phases.
    table = range(marks.marks["token_embd.weight"], marks.marks["data"], 7)
    for end in [*range(0, table.start, 29), *table, len(data) - 1]:
        path.write_bytes(data[:end])
        with pytest.raises(GgufError):
            read_header(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4
    )
)
def test_changed_bytes_raise_nothing_but_gguf_errors(
    tmp_path_factory: pytest.TempPathFactory, changes: Sequence[tuple[int, bytes]]
) -> None:
    data = bytearray(GOOD)
    for at, new in changes:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(bytes(data))
    started = time.process_time()
    with contextlib.suppress(GgufError):
        read_header(path)
    assert time.process_time() - started < 5


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), with_magic=st.booleans())
def test_any_bytes_raise_nothing_but_gguf_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, with_magic: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    path.write_bytes((b"GGUF" + struct.pack("<I", 3) if with_magic else b"") + data)
    with pytest.raises(GgufError):
        read_header(path)


def test_a_header_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_reader, "MAX_HEADER_BYTES", 3000)
    with pytest.raises(GgufError, match="larger than 3000 bytes"):
        read_header(write_good(tmp_path / "good.gguf"))


def test_a_vocabulary_of_150000_tokens_is_read_quickly(tmp_path: Path) -> None:
    count = 150_000
    draft = good_draft()
    names = [f"token{number}" for number in range(count)]
    for key, kind, items in (
        ("tokenizer.ggml.tokens", STRING, map(string, names)),
        ("tokenizer.ggml.token_type", INT32, [int32(1)] * count),
        ("tokenizer.ggml.scores", FLOAT32, [b"\0\0\0\0"] * count),
        ("tokenizer.ggml.merges", STRING, [string("to ken")] * count),
    ):
        draft = draft.with_field(key, ARRAY, array(kind, items))
    draft = draft.with_tensor(
        "token_embd.weight",
        lambda tensor: replace(
            tensor, dimensions=(EMBEDDING, count), kind=8, data=bytes(34 * count)
        ),
    )
    path = write(tmp_path, draft)
    started = time.process_time()
    assert read_header(path).vocab_size == count
    # 0.09 s where this was written; the bound only catches a loop that became quadratic.
    assert time.process_time() - started < 3


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="cannot be opened"):
        read_header(tmp_path / "absent.gguf")
    with pytest.raises(GgufError, match=r"cannot be opened|not a regular file"):
        read_header(tmp_path)
    with pytest.raises(GgufError, match="cannot be opened"):
        read_header(Path("a\0b.gguf"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_make_us_wait(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(GgufError, match="not a regular file"):
        read_header(pipe)
