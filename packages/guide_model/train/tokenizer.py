"""The tokenizer of the guide model: byte-level BPE that llama.cpp splits the same way.

The split pattern is the one llama.cpp calls `qwen2` (single digits). The three control tokens are
no part of the trained vocabulary and get the last ids, so typed text can never become one.

    python tokenizer.py --out /tmp/guide/tokenizer.json
"""

import argparse
from itertools import islice
from pathlib import Path

import corpus
import facts
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 3072
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class GuideTokenizer:
    """Text to ids and back; control tokens are put in by id, never by spelling."""

    def __init__(self, path: Path) -> None:
        self.bpe = Tokenizer.from_file(str(path))
        size = self.bpe.get_vocab_size()
        self.end_of_text, self.im_start, self.im_end = size, size + 1, size + 2
        self.size = size + len(CONTROL)
        self._memo: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        return self.bpe.encode(text).ids

    def fixed(self, text: str) -> list[int]:
        """Like encode, remembered: for answers and role names, which come again and again."""
        if text not in self._memo:
            self._memo[text] = self.encode(text)
        return self._memo[text]

    def head(self, role: str) -> list[int]:
        """The ids that open a message."""
        return [self.im_start, *self.fixed(role + "\n")]

    def tail(self) -> list[int]:
        """The ids that close a message."""
        return [self.im_end, *self.fixed("\n")]


def train(seed: int, chats: int) -> Tokenizer:
    """Learn the merges from a sample of the corpus; answers and names are added."""
    texts: list[str] = []
    loaded = corpus.load()
    for chat in islice(corpus.chats(loaded, seed), chats):
        texts += [t.user for t in chat.turns]
        texts += [chat.system, "user\n", "assistant\n", "system\n"]
    for intent in loaded.intents.values():
        texts += [intent.answer] * 20
    names = facts.KEYS | facts.FLAGS | facts.REPL | facts.PATHS
    texts += [f"`{name}` {name}" for name in sorted(names)] * 10
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=3,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--chats", type=int, default=60_000)
    arguments = parser.parse_args()
    bpe = train(arguments.seed, arguments.chats)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    bpe.save(str(arguments.out))
    sample = "How do I stop the server? chatsafe config show --origin"
    print(bpe.get_vocab_size(), "tokens;", bpe.encode(sample).tokens)


if __name__ == "__main__":
    main()
