"""LlamaEngine on real files: the vocabulary, and chats decoded together as if each were alone."""

import ctypes
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.config.gguf_writer import (
    ARRAY,
    BOOL,
    CHAT_TEMPLATE,
    CONTEXT,
    EMBEDDING,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    array,
    good_draft,
    int32,
    string,
    uint32,
    write_good,
)

from chatsafe_common.chat import Message, Sampling
from chatsafe_runtime.worker import llama
from chatsafe_runtime.worker.bindings import bindings
from chatsafe_runtime.worker.engine import Decoded, EngineError, Slice
from chatsafe_runtime.worker.prompt import Prompter
from chatsafe_runtime.worker.sampling import Greedy, sampler_steps
from chatsafe_runtime.worker.template import ChatTemplate

QUESTIONS = (
    "Hello, how are you?",
    "How do I stop the server?",
    "what is 2+2?",
    "Is my text private?",
    "Where do I put a model file?",
    "Write a poem about rain.",
    "thanks!",
    "Which port does the daemon use, and how do I change it?",
)


def load(path: Path, **more: int) -> llama.LlamaEngine:
    options: dict[str, Any] = {
        "context_window": 0,
        "max_parallel": 8,
        "batch_size": 256,
        "threads": 1,
        "gpu_layers": 0,
        "kv_budget_bytes": 1 << 30,
    }
    return llama.LlamaEngine(str(path), **(options | more))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama.LlamaEngine]:
    engine = load(write_good(tmp_path_factory.mktemp("model") / "tiny.gguf"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def guide() -> Iterator[llama.LlamaEngine]:
    engine = load(Path(str(files("chatsafe_guide_model") / "chatsafe-guide.gguf")))
    yield engine
    engine.close()


def tokens_of_whole(engine: llama.LlamaEngine, text: str) -> list[int]:
    """How the engine itself reads a rendered prompt, control tokens and all."""
    data = text.encode()
    buffer = (ctypes.c_int32 * (len(data) + 8))()
    vocabulary = engine.vocabulary.native
    count = bindings.llama_tokenize(vocabulary, data, len(data), buffer, len(buffer), False, True)
    return buffer[:count]


def prompter(engine: llama.LlamaEngine) -> Prompter:
    source = engine.own_template()
    assert source is not None
    vocabulary, window = engine.vocabulary, engine.limits.context_window
    template = ChatTemplate(
        source,
        bos_text=vocabulary.bos_text,
        eos_text=vocabulary.eos_text,
        context_window=window,
    )
    return Prompter(vocabulary, template, context_window=window)


def answer(engine: llama.LlamaEngine, prompts: Sequence[list[int]], num_tokens: int) -> list[bytes]:
    """Greedy answers of all prompts, decoded together."""
    samplers = [engine.sampler((Greedy(),)) for _ in prompts]
    known = [list(prompt) for prompt in prompts]
    computed = [0 for _ in prompts]
    said = [b"" for _ in prompts]
    open_slots = set(range(len(prompts)))
    for step in range(num_tokens):
        slices = [
            Slice(slot, computed[slot], known[slot][computed[slot] :], wants_logits=True)
            for slot in sorted(open_slots)
        ]
        if not slices:
            break
        # Prompts one after the other, as they may not fit into one batch together.
        for batch in [[part] for part in slices] if step == 0 else [slices]:
            assert engine.decode(batch) is Decoded.DONE
            for part in batch:
                token = samplers[part.slot].sample(part.slot)
                computed[part.slot] = len(known[part.slot])
                known[part.slot].append(token)
                if engine.vocabulary.ends_turn(token):
                    open_slots.discard(part.slot)
                else:
                    said[part.slot] += engine.vocabulary.piece(token)
    for slot, sampler in enumerate(samplers):
        sampler.close()
        assert engine.truncate(slot, 0)
    return said


def test_what_the_file_says(tiny: llama.LlamaEngine) -> None:
    assert tiny.limits.context_window == CONTEXT
    assert tiny.limits.num_cells == 8 * CONTEXT
    assert tiny.own_template() == CHAT_TEMPLATE
    vocabulary = tiny.vocabulary
    assert vocabulary.size == 261
    assert set(vocabulary.control_tokens) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert vocabulary.bos_text == "<|endoftext|>"
    assert not vocabulary.adds_bos
    assert vocabulary.ends_turn(vocabulary.control_tokens["<|im_end|>"])
    assert all(vocabulary.piece(token) == b"" for token in vocabulary.control_tokens.values())


def test_room_follows_the_budget_but_one_window_is_always_there(tmp_path: Path) -> None:
    path = write_good(tmp_path / "tiny.gguf")
    token_bytes = 2 * 16 * 2  # keys and values of one head of 16 numbers in half precision
    for budget, windows in ((0, 1), (3 * CONTEXT * token_bytes, 3), (1 << 30, 8)):
        engine = load(path, kv_budget_bytes=budget)
        assert engine.limits.num_cells == windows * CONTEXT
        engine.close()
    engine = load(path, context_window=100, max_parallel=2, batch_size=1)
    assert (engine.limits.context_window, engine.limits.num_cells) == (100, 200)
    assert engine.limits.batch_size == 4
    engine.close()
    engine = load(path, context_window=100_000)
    assert engine.limits.context_window == CONTEXT
    engine.close()


def test_a_file_that_is_no_model_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "canary.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineError, match="refused the model file") as caught:
        load(path)
    assert "canary" not in str(caught.value)


@given(st.text(max_size=60))
def test_text_survives_the_vocabulary(tiny: llama.LlamaEngine, text: str) -> None:
    vocabulary = tiny.vocabulary
    pieces = b"".join(map(vocabulary.piece, vocabulary.tokenize(text)))
    assert pieces == text.encode("utf-8", "replace")


nasty = st.lists(
    st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "end|>", " ", "he"]),
    max_size=8,
).map("".join)


@given(st.lists(nasty | st.text(max_size=20), min_size=1, max_size=3))
def test_no_content_makes_a_control_token(tiny: llama.LlamaEngine, contents: list[str]) -> None:
    tokens = prompter(tiny).tokens([Message("user", content) for content in contents])
    controls = set(tiny.vocabulary.control_tokens.values())
    assert sum(token in controls for token in tokens) == 2 * len(contents) + 1
    text = "".join(f"user\n{content.encode('utf-8', 'replace').decode()}\n" for content in contents)
    assert b"".join(map(tiny.vocabulary.piece, tokens)).decode() == f"{text}assistant\n"


@given(st.lists(st.text(max_size=30).filter(lambda text: "<|" not in text), max_size=3))
def test_other_contents_are_read_as_the_engine_itself_would(
    guide: llama.LlamaEngine, contents: list[str]
) -> None:
    chat = [Message("system", "Be brief."), *(Message("user", content) for content in contents)]
    rendered = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in chat)
    expected = tokens_of_whole(guide, rendered + "<|im_start|>assistant\n")
    assert prompter(guide).tokens(chat) == expected


def test_eight_together_say_what_each_says_alone(guide: llama.LlamaEngine) -> None:
    write = prompter(guide)
    prompts = [write.tokens([Message("user", question)]) for question in QUESTIONS]
    alone = [answer(guide, [prompt], 64)[0] for prompt in prompts]
    assert answer(guide, prompts, 64) == alone
    assert all(text.decode().strip() for text in alone)


def test_an_interrupted_decode_can_be_done_again(guide: llama.LlamaEngine) -> None:
    prompt = guide.vocabulary.tokenize("How do I stop the server? " * 40)[:250]
    expected = answer(guide, [prompt], 3)
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.is_set():
            guide.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = guide.decode([Slice(0, 0, prompt, wants_logits=True)])
    is_over.set()
    thread.join()
    assert result is Decoded.INTERRUPTED
    assert guide.truncate(0, 0)
    assert answer(guide, [prompt], 3) == expected


def test_no_cells_left_is_said_and_harms_nobody(tmp_path: Path) -> None:
    engine = load(write_good(tmp_path / "tiny.gguf"), context_window=256, kv_budget_bytes=0)
    tokens = [1] * 200
    assert engine.decode([Slice(0, 0, tokens, wants_logits=True)]) is Decoded.DONE
    assert engine.decode([Slice(1, 0, tokens, wants_logits=True)]) is Decoded.FULL
    assert engine.truncate(1, 0)
    assert engine.decode([Slice(0, 200, [1], wants_logits=True)]) is Decoded.DONE
    engine.close()


def sample_many(engine: llama.LlamaEngine, sampling: Sampling, count: int = 24) -> list[int]:
    """Tokens that follow one another, drawn from the same model state each time."""
    sampler = engine.sampler(sampler_steps(sampling, engine.vocabulary.size, 100))
    tokens = [1]
    for position in range(count):
        slices = [Slice(0, position, [tokens[-1]], wants_logits=True)]
        assert engine.decode(slices) is Decoded.DONE
        tokens.append(sampler.sample(0))
    sampler.close()
    engine.truncate(0, 0)
    return tokens[1:]


def test_a_seed_repeats_and_another_does_not(tiny: llama.LlamaEngine) -> None:
    hot = Sampling(temperature=2.0, seed=11)
    assert sample_many(tiny, hot) == sample_many(tiny, hot)
    assert sample_many(tiny, hot) != sample_many(tiny, Sampling(temperature=2.0, seed=12))


def test_the_single_best_token_has_three_names(tiny: llama.LlamaEngine) -> None:
    best = sample_many(tiny, Sampling(temperature=0.0))
    assert sample_many(tiny, Sampling(top_p=0.0, temperature=2.0)) == best
    assert sample_many(tiny, Sampling(top_k=1, temperature=2.0, min_p=0.1)) == best
    assert sample_many(tiny, Sampling(min_p=1.0, typical_p=1.0, temperature=2.0, seed=3)) == best


def test_a_bias_forces_and_bans(tiny: llama.LlamaEngine) -> None:
    best = sample_many(tiny, Sampling(temperature=0.0), 1)[0]
    banned = Sampling(temperature=0.0, logit_bias=((best, -100.0),))
    assert best not in sample_many(tiny, banned)
    forced = Sampling(temperature=1.0, seed=1, logit_bias=((42, 100.0),))
    assert sample_many(tiny, forced) == [42] * 24


def test_penalties_drive_repetition_out(tiny: llama.LlamaEngine) -> None:
    forced = ((42, 12.0), (43, 11.5), (44, 11.0))
    plain = Sampling(temperature=0.0, logit_bias=forced)
    assert len(set(sample_many(tiny, plain))) == 1
    for penalty in (
        Sampling(temperature=0.0, logit_bias=forced, presence_penalty=2.0),
        Sampling(temperature=0.0, logit_bias=forced, frequency_penalty=1.0),
        Sampling(temperature=0.0, logit_bias=forced, repeat_penalty=1.5),
    ):
        assert len(set(sample_many(tiny, penalty))) >= 3


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama.LlamaEngine]:
    """The tiny model with the other kind of vocabulary: it puts a space before each run."""
    words = ["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"]
    controls = ["<s>", "</s>", "[INST]", "[/INST]"]
    tokens = ["<unk>", *controls, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2, *[3] * len(controls), *[6] * 256, *[1] * len(words)]
    scores = [0.0] * (len(tokens) - len(words)) + [-float(at) for at in range(len(words))]
    draft = good_draft()
    for key, kind, value in (
        ("tokenizer.ggml.model", STRING, string("llama")),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, map(string, tokens))),
        ("tokenizer.ggml.token_type", ARRAY, array(INT32, map(int32, types))),
        (
            "tokenizer.ggml.scores",
            ARRAY,
            array(FLOAT32, (struct.pack("<f", score) for score in scores)),
        ),
        ("tokenizer.ggml.bos_token_id", UINT32, uint32(1)),
        ("tokenizer.ggml.eos_token_id", UINT32, uint32(2)),
        ("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
    ):
        draft = draft.with_field(key, kind, value)
    draft = draft.without_field("tokenizer.ggml.merges").without_field("tokenizer.ggml.pre")
    weights = struct.pack("<f", 0.1) * (EMBEDDING * len(tokens))
    draft = draft.with_tensor(
        "token_embd.weight",
        lambda tensor: replace(tensor, dimensions=(EMBEDDING, len(tokens)), data=weights),
    )
    path = tmp_path_factory.mktemp("model") / "pieces.gguf"
    path.write_bytes(draft.encode())
    engine = load(path)
    yield engine
    engine.close()


@given(st.lists(st.text("ab \n\u00e9[/", max_size=12), min_size=1, max_size=3))
def test_a_sentencepiece_vocabulary_is_read_as_the_engine_itself_would(
    sentencepiece: llama.LlamaEngine, contents: list[str]
) -> None:
    vocabulary = sentencepiece.vocabulary
    assert vocabulary.adds_bos
    template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}[INST]{{ m.content }} [/INST]{% endfor %}",
        bos_text=vocabulary.bos_text,
        eos_text=vocabulary.eos_text,
        context_window=CONTEXT,
    )
    tokens = Prompter(vocabulary, template, context_window=CONTEXT).tokens(
        [Message("user", content) for content in contents]
    )
    rendered = "<s>" + "".join(f"[INST]{content} [/INST]" for content in contents)
    assert tokens == tokens_of_whole(sentencepiece, rendered)
