"""Judges the exported model: right answers by category, fallback rate, gibberish, speed.

Greedy, through ChatSafe's own runtime, on the held-out questions that no training text repeats.
Writes the table to `chatsafe_guide_model/evaluation.md`. Run it with the environment of the
project (`scripts/setup`), not with that of the training.

    python evaluate.py ../chatsafe_guide_model/chatsafe-guide.gguf
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import augment
import corpus
import judge

from chatsafe_common.chat import ChatRequest, Message
from chatsafe_common.events import Finished, TextDelta
from chatsafe_config.catalog import GUIDE_ID, Catalog
from chatsafe_config.registry import default_registry
from chatsafe_runtime.backend import LocalBackend, RuntimeOptions

HERE = Path(__file__).parent
REPORT = HERE.parent / "chatsafe_guide_model" / "evaluation.md"
MAX_TOKENS = 160


@dataclass(slots=True)
class Tally:
    """What has been asked, and how it went."""

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    stressed: Counter[str] = field(default_factory=Counter)
    stressed_right: Counter[str] = field(default_factory=Counter)
    num_babble: int = 0
    num_verbatim: int = 0
    num_tokens: int = 0
    seconds: float = 0.0


async def ask(backend: LocalBackend, messages: tuple[Message, ...], tally: Tally) -> str:
    """One greedy answer."""
    text = ""
    request = ChatRequest("evaluate", messages, model=GUIDE_ID, max_tokens=MAX_TOKENS)
    async for event in backend.generate(request):
        match event:
            case TextDelta():
                text += event.text
            case Finished(usage=usage, timings=timings):
                tally.num_tokens += usage.completion_tokens
                tally.seconds += timings.prompt_s + timings.decode_s
            case _:
                pass
    return text.strip()


def disturbed(question: str, loaded: corpus.Corpus, rng: Random) -> dict[str, tuple[Message, ...]]:
    """The same question in the company of things that must not change the answer."""
    asked = Message("user", question)
    earlier = corpus.draw_turn(loaded, rng)
    before = (Message("user", earlier.user), Message("assistant", earlier.answer))
    return {
        "with an earlier turn": (*before, asked),
        "with a system prompt": (Message("system", augment.system_prompt(rng)), asked),
        "in capital letters": (Message("user", question.upper()),),
        "among pasted junk": (Message("user", augment.with_junk(question, rng)),),
    }


async def evaluate(
    backend: LocalBackend, questions: list[judge.Question], is_stressed: bool
) -> Tally:
    """Ask everything and print the misses."""
    loaded = corpus.load()
    answers = corpus.answers_of(loaded)
    owner = {text: name for name, text in answers.items()}
    known = {word for text in answers.values() for word in judge.words_of(text)}
    fallback = answers[corpus.FALLBACK]
    tally, rng = Tally(), Random("stress")
    for question in questions:
        text = await ask(backend, (Message("user", question.text),), tally)
        tally.asked[question.category] += 1
        if judge.is_right(question, text, fallback):
            tally.right[question.category] += 1
        else:
            print(f"{question.category}: {question.text!r} -> {owner.get(text, '?? ' + text)}")
        if odd := judge.gibberish(text, known):
            tally.num_babble += 1
            print(f"  gibberish {odd}: {text!r}")
        tally.num_verbatim += text in owner
        for name, messages in disturbed(question.text, loaded, rng).items() if is_stressed else ():
            tally.stressed[name] += 1
            said = await ask(backend, messages, Tally())
            tally.stressed_right[name] += judge.is_right(question, said, fallback)
    return tally


def report(tally: Tally, path: Path, loading_s: float) -> str:
    """The table, as Markdown."""
    topics = sorted(set(tally.asked) - {judge.OFF_TOPIC})
    num_asked = sum(tally.asked[topic] for topic in topics)
    num_right = sum(tally.right[topic] for topic in topics)
    off, off_right = tally.asked[judge.OFF_TOPIC], tally.right[judge.OFF_TOPIC]
    total = num_asked + off
    lines = [
        "# Evaluation of the guide model",
        "",
        "Made by `train/evaluate.py`, greedy, through the real runtime.",
        "",
        "| held-out questions | asked | right |",
        "|---|---|---|",
        *(f"| {t} | {tally.asked[t]} | {tally.right[t] / tally.asked[t]:.0%} |" for t in topics),
        f"| **all of these** | {num_asked} | **{num_right / max(1, num_asked):.1%}** |",
        f"| off topic, fallback said | {off} | {off_right / max(1, off):.1%} |",
        *(
            f"| all of them {name} | {number} | {tally.stressed_right[name] / number:.1%} |"
            for name, number in tally.stressed.items()
        ),
        "",
        f"- answers with gibberish: {tally.num_babble} of {total}",
        f"- answers that are word for word in the corpus: {tally.num_verbatim} of {total}",
        f"- speed: {tally.num_tokens / tally.seconds:.0f} tokens/s on {os.cpu_count()} cores, "
        "prompts included",
        f"- file: {path.stat().st_size / 1e6:.1f} MB, process started and model loaded in "
        f"{loading_s:.2f} s",
    ]
    return "\n".join(lines) + "\n"


async def run(arguments: argparse.Namespace) -> None:
    catalog = Catalog(default_registry(), arguments.model.parent, arguments.model)
    async with LocalBackend(catalog, RuntimeOptions()) as backend:
        began = time.monotonic()
        await backend.load(GUIDE_ID)
        loading_s = time.monotonic() - began
        questions = judge.read_questions(arguments.heldout)
        tally = await evaluate(backend, questions, arguments.stress)
    page = report(tally, arguments.model, loading_s)
    print(page)
    arguments.out.write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--heldout", type=Path, default=HERE / "heldout")
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--stress", action="store_true", help="also ask in disturbed ways")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
