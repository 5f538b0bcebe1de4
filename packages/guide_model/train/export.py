"""Writes a checkpoint as a GGUF file (Q8_0, llama architecture) and checks it.

The check needs llama-cpp-python: token ids must be equal on hundreds of texts, and the scores of
the next token must agree with PyTorch, also at positions beyond 1,000.

    python export.py --work /tmp/guide --name guide --out /tmp/guide/chatsafe-guide.gguf
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import corpus
import gguf
import numpy as np
import torch
from model import Guide, Shape
from tokenizer import CONTROL, TEMPLATE, GuideTokenizer

from train import load_weights

NAME = "chatsafe-guide"


def read(work: Path, name: str) -> tuple[Guide, GuideTokenizer]:
    """The averaged weights of a checkpoint."""
    path = work / f"{name}.pt"
    saved = torch.load(path, weights_only=True)
    model = Guide(Shape(**saved["shape"]), len(saved["intents"]))
    load_weights(model, path, saved["intents"], "average")
    return model.eval(), GuideTokenizer(work / "tokenizer.json")


def write(model: Guide, tokenizer: GuideTokenizer, out: Path) -> None:
    """Metadata, tokens and weights into one file."""
    shape = model.shape
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(NAME)
    writer.add_description("ChatSafe's own tiny guide, trained from scratch on our own text")
    writer.add_license("MIT")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_tokenizer(writer, tokenizer)
    for name, weight in model.named_parameters():
        if name.startswith("intent_head"):
            continue
        values = weight.detach().float().numpy()
        label = name.replace("blocks.", "blk.")
        if values.ndim == 1:
            writer.add_tensor(label, values)
            continue
        quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(label, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: GuideTokenizer) -> None:
    data = json.loads(tokenizer.bpe.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].__getitem__) + list(CONTROL)
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([normal] * (len(tokens) - len(CONTROL)) + [control] * len(CONTROL))
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.im_end)
    writer.add_eot_token_id(tokenizer.im_end)
    writer.add_pad_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def check_texts() -> list[str]:
    """Texts on which both tokenizers must agree."""
    loaded = corpus.load()
    texts = [t.user for c in islice(corpus.chats(loaded, seed=3), 600) for t in c.turns]
    texts += [i.answer for i in loaded.intents.values()]
    texts += [
        "",
        " ",
        "  ",
        "\n",
        "\n\n\n",
        " \n \n x",
        "a  b   c",
        "tab\there",
        "1234567890 12 3.14",
        "héllo wörld ñ ç ß",
        "日本語のテキスト",
        "emoji 🙂🚀👩‍👩‍👧",
        "I'M don't we'LL they'd",
        "a" * 300,
        "🙂" * 50,
        "x\r\ny",
        "«quotes» \u2013 dash \u2014 …",
        "\u00a0nbsp",
        "مرحبا",
        "¼ ² Ⅷ",
        "<|im_start|>user",
        "<|im_end|>",
        "'s 'S 'Re",
        "a_b-c/d\\e",
        "  leading",
        "trailing  ",
    ]
    return texts


def check(model: Guide, tokenizer: GuideTokenizer, path: Path) -> None:
    """Compare the file, as llama.cpp reads it, with PyTorch; raise when they differ."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=2048, verbose=False, logits_all=True, n_threads=2)
    texts = check_texts()
    for text in texts:
        theirs = llama.tokenize(text.encode(), add_bos=False, special=False)
        if theirs != tokenizer.encode(text):
            raise SystemExit(f"token ids differ for {text!r}: {theirs} {tokenizer.encode(text)}")
    print(f"token ids equal on {len(texts)} texts")
    if llama.tokenize(b"<|im_end|>", add_bos=False, special=True) != [tokenizer.im_end]:
        raise SystemExit("control token is not one id")
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer.head("user"), *tokenizer.encode(text), *tokenizer.tail()]
        if len(ids) > 1900:
            break
    ids = ids[:1900]
    llama.eval(ids)
    theirs_all = np.array(llama.scores[: len(ids)])
    with torch.no_grad():
        at = torch.arange(len(ids))[None]
        ours = model.logits(model(torch.tensor(ids)[None], at))[0].numpy()
    for low, high in ((0, 200), (1000, 1200), (1700, 1900)):
        a, b = ours[low:high], theirs_all[low:high]
        same = (a.argmax(-1) == b.argmax(-1)).mean()
        apart = np.abs(a - b).mean() / a.std()
        print(f"positions {low}-{high}: same best token {same:.3f}, mean difference {apart:.4f} sd")
        if same < 0.9 or apart > 0.05:
            raise SystemExit("the file and PyTorch disagree")


def main() -> None:
    """Write and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="guide")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, tokenizer = read(arguments.work, arguments.name)
    temporary = arguments.out.with_suffix(".new")
    write(model, tokenizer, temporary)
    try:
        check(model, tokenizer, temporary)
    except ImportError:
        print("llama_cpp is not installed: not checked")
    temporary.replace(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
