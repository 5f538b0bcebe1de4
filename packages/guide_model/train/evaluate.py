"""Judges the exported model: right answers by category, fallback rate, gibberish, speed.

Greedy, through llama.cpp, on the held-out questions that no training text repeats. Writes the
table to `chatsafe_guide_model/evaluation.md`.

    python evaluate.py ../chatsafe_guide_model/chatsafe-guide.gguf
"""

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import augment
import corpus
from batches import answers_of
from facts import complaints

HERE = Path(__file__).parent
REPORT = HERE.parent / "chatsafe_guide_model" / "evaluation.md"
Message = dict[str, str]
Answer = Callable[[list[Message]], tuple[str, int, float]]  # messages -> text, tokens, seconds


@dataclass(slots=True)
class Question:
    """A held-out question: each group needs one hit, no forbidden word may occur."""

    category: str
    text: str
    required: list[list[str]] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)


def read_questions(folder: Path) -> list[Question]:
    """Parse `## category`, `Q:`, `M:` and `X:` lines."""
    questions: list[Question] = []
    category = ""
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            key, _, rest = line.partition(":")
            parts = [p.strip().lower() for p in rest.split("|") if p.strip()]
            if line.startswith("## "):
                category = line[3:].strip()
            elif key == "Q":
                questions.append(Question(category, rest.strip()))
            elif key == "M":
                questions[-1].required.append(parts)
            elif key == "X":
                questions[-1].forbidden += parts
    return questions


def is_right(question: Question, answer: str, fallback: str) -> bool:
    """Whether the answer satisfies the judge set; off topic only the fallback does."""
    if question.category == "offtopic":
        return answer.strip() == fallback
    text = answer.lower()
    return all(any(word in text for word in group) for group in question.required) and not any(
        word in text for word in question.forbidden
    )


def words_of(text: str) -> list[str]:
    """Words for the gibberish check."""
    return re.findall(r"[a-z0-9']+", text.lower())


def gibberish(answer: str, known: set[str]) -> list[str]:
    """What looks like babble in an answer."""
    found = [f"unknown word {w}" for w in words_of(answer) if w not in known]
    if len(answer.split()) > 80:
        found.append("longer than 80 words")
    return found + complaints(answer)


def llama_answerer(path: Path) -> tuple[Answer, float]:
    """Greedy answers straight from llama.cpp, and how long loading took."""
    from llama_cpp import Llama

    began = time.monotonic()
    llama = Llama(str(path), n_ctx=2048, verbose=False, n_threads=2)
    loading = time.monotonic() - began

    def answer(messages: list[Message]) -> tuple[str, int, float]:
        began = time.monotonic()
        reply = llama.create_chat_completion(messages, temperature=0.0, max_tokens=160)
        took = time.monotonic() - began
        text = reply["choices"][0]["message"]["content"]
        return text, reply["usage"]["completion_tokens"], took

    return answer, loading


def disturbed(question: str, loaded: corpus.Corpus, rng: Random) -> dict[str, list[Message]]:
    """The same question in the company of things that must not change the answer."""
    asked = {"role": "user", "content": question}
    earlier = corpus.draw_turn(loaded, rng)
    before = [
        {"role": "user", "content": earlier.user},
        {"role": "assistant", "content": earlier.answer},
    ]
    buried = augment.with_junk(question, rng)
    return {
        "with an earlier turn": [*before, asked],
        "with a system prompt": [
            {"role": "system", "content": augment.system_prompt(rng)},
            asked,
        ],
        "in capital letters": [{"role": "user", "content": question.upper()}],
        "among pasted junk": [{"role": "user", "content": buried}],
    }


def main() -> None:
    """Ask everything, print the misses, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--heldout", type=Path, default=HERE / "heldout")
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--stress", action="store_true", help="also ask in disturbed ways")
    parser.add_argument("--quiet", action="store_true", help="do not print the misses")
    arguments = parser.parse_args()
    loaded = corpus.load()
    answers = answers_of(loaded)
    owner = {text: name for name, text in answers.items()}
    known = {w for text in answers.values() for w in words_of(text)}
    fallback = answers[corpus.FALLBACK]
    answer, loading = llama_answerer(arguments.model)
    right: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    babble = verbatim = tokens = 0
    seconds = 0.0
    for question in read_questions(arguments.heldout):
        text, count, took = answer([{"role": "user", "content": question.text}])
        tokens, seconds = tokens + count, seconds + took
        asked[question.category] += 1
        right[question.category] += (ok := is_right(question, text, fallback))
        babble += bool(odd := gibberish(text, known))
        verbatim += text.strip() in owner
        if not ok and not arguments.quiet:
            said = owner.get(text.strip(), "?? " + text)
            print(f"{question.category}: {question.text!r} -> {said}")
        if odd:
            print(f"  gibberish {odd}: {text!r}")
    stress: dict[str, list[int]] = defaultdict(list)
    rng = Random("stress")
    for question in read_questions(arguments.heldout) if arguments.stress else ():
        for name, messages in disturbed(question.text, loaded, rng).items():
            text, _, _ = answer(messages)
            stress[name].append(is_right(question, text, fallback))
    size = arguments.model.stat().st_size / 1e6
    total = sum(asked.values())
    off = asked.pop("offtopic", 0)
    off_right = right.pop("offtopic", 0)
    lines = ["# Evaluation of the guide model", "", "Made by `train/evaluate.py`, greedy.", ""]
    lines += ["| held-out questions | asked | right |", "|---|---|---|"]
    for name in sorted(asked):
        lines.append(f"| {name} | {asked[name]} | {right[name] / asked[name]:.0%} |")
    lines.append(
        f"| **all of these** | {sum(asked.values())} | "
        f"**{sum(right.values()) / max(1, sum(asked.values())):.1%}** |"
    )
    lines.append(f"| off topic, fallback said | {off} | {off_right / max(1, off):.1%} |")
    lines += [
        f"| all of them {name} | {len(hits)} | {sum(hits) / len(hits):.1%} |"
        for name, hits in stress.items()
    ]
    lines += ["", f"- answers with gibberish: {babble} of {total}"]
    lines.append(f"- answers that are word for word in the corpus: {verbatim} of {total}")
    lines.append(f"- speed: {tokens / seconds:.0f} tokens/s on two cores, prompts included")
    lines.append(f"- file: {size:.1f} MB, loaded in {loading:.2f} s")
    print("\n".join(lines))
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
