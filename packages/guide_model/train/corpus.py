"""The corpus of the guide model: intent files in, an endless seeded stream of chats out.

Nothing here knows tensors. An intent is one fixed answer with many wordings of its question;
a chat is drawn from the intents, the off-topic templates, the table of small sums and junk.
The same seed and the same files give the same chats, so a corpus is never stored.

    python corpus.py            check all files, print counts and a few chats
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import augment
import sums
from facts import complaints

HERE = Path(__file__).parent
FALLBACK = "fallback"
FEW_SUMS = "sums_outside_table"
_GROUP = re.compile(r"\{([^{}]*\|[^{}]*)\}")
_CLASS = re.compile(r"(?<!\w)@([a-z_][a-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Intent:
    """One fixed answer and the templates of the questions that get it."""

    id: str
    topic: str
    answer: str
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as typed, the id of its intent and the answer."""

    user: str
    intent: str
    answer: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A system prompt (or none) and turns; the last turn is the one asked now."""

    system: str
    turns: tuple[Turn, ...]


@dataclass(slots=True)
class Corpus:
    """All that was read. `held_back` maps intent ids to templates kept out of training."""

    intents: dict[str, Intent]
    classes: dict[str, tuple[str, ...]]
    offtopic: tuple[str, ...]
    off_classes: dict[str, tuple[str, ...]]
    forbidden: frozenset[str]
    held_back: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


def normal(text: str) -> str:
    """Lower case, without punctuation of sentences: what counts as the same question."""
    return " ".join(re.findall(r"[a-z0-9+*/|;$`&<>~=-]+", text.lower()))


def read_classes(path: Path) -> dict[str, tuple[str, ...]]:
    """Read `@name = one|two` lines; a name may be given again to add members."""
    classes: dict[str, tuple[str, ...]] = {}
    if not path.exists():
        return classes
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, members = line.partition("=")
        key = name.strip().removeprefix("@")
        found = tuple(m.strip() for m in members.split("|"))
        classes[key] = classes.get(key, ()) + found
    return classes


def read_intents(folder: Path) -> tuple[dict[str, Intent], list[str]]:
    """Read every intent file; also return what is wrong with them."""
    intents: dict[str, Intent] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        if path.name.startswith("_"):
            continue
        for block in re.split(r"^## +", path.read_text(), flags=re.M)[1:]:
            name, *lines = block.splitlines()
            name = name.strip()
            answers = [ln[2:].strip() for ln in lines if ln.startswith("A:")]
            templates = tuple(ln[2:].strip() for ln in lines if ln.startswith("Q:"))
            strange = [ln for ln in lines if ln.strip() and not re.match(r"A:|Q:|#", ln)]
            problems += [f"{path.name} {name}: line not understood: {ln!r}" for ln in strange]
            if name in intents:
                problems.append(f"{path.name} {name}: id used twice")
            if len(answers) != 1 or (not templates and name not in (FALLBACK, FEW_SUMS)):
                problems.append(f"{path.name} {name}: needs one A: line and Q: lines")
                continue
            intents[name] = Intent(name, path.stem, answers[0], tuple(filter(None, templates)))
    return intents, problems


def expand(template: str, classes: dict[str, tuple[str, ...]], rng: Random) -> str:
    """Choose one alternative of every group and one member of every class."""
    for _ in range(4):  # members may hold groups and classes themselves; four levels is plenty
        template = _CLASS.sub(
            lambda m: rng.choice(classes[m[1]]) if m[1] in classes else m[0], template
        )
        if "|" in template:
            template = _GROUP.sub(lambda m: rng.choice(m[1].split("|")), template)
        elif "@" not in template:
            break
    return re.sub(r"\s+([,.?!])", r"\1", re.sub(r"[ \t]+", " ", template)).strip()


def check(corpus: Corpus) -> list[str]:
    """Everything that is wrong with the texts, as lines for a person."""
    problems: list[str] = []
    owner: dict[str, str] = {}
    for intent in corpus.intents.values():
        where = f"{intent.topic}.txt {intent.id}"
        problems += [f"{where}: {c}" for c in complaints(intent.answer)]
        if len(intent.answer.split()) > 60:
            problems.append(f"{where}: answer longer than 60 words")
        for template in intent.templates:
            for name in _CLASS.findall(template):
                if name not in corpus.classes:
                    problems.append(f"{where}: unknown class @{name}")
            if template.count("{") != template.count("}"):
                problems.append(f"{where}: braces do not match: {template}")
            key = normal(template)
            if key and owner.setdefault(key, intent.id) != intent.id:
                problems.append(f"{where}: same question as in {owner[key]}: {template}")
    answers: dict[str, str] = {}
    for intent in corpus.intents.values():
        if answers.setdefault(intent.answer, intent.id) != intent.id:
            problems.append(f"{intent.id}: same answer as {answers[intent.answer]}")
    for template in corpus.offtopic:
        unknown = [n for n in _CLASS.findall(template) if n not in corpus.off_classes]
        problems += [f"offtopic: unknown class @{n}: {template}" for n in unknown]
    return problems


def held_out_questions(folder: Path) -> frozenset[str]:
    """Questions of the judge set, which no training text may repeat.

    One or two words ("hi", "2 + 2") are exempt: there is only one way to say them.
    """
    found: set[str] = set()
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            if line.startswith("Q:") and len(key := normal(line[2:]).split()) > 2:
                found.add(" ".join(key))
    return frozenset(found)


def load(root: Path = HERE, hold_back: int = 0) -> Corpus:
    """Read all files under `root`; keep every `hold_back`-th template out of training."""
    intents, problems = read_intents(root / "intents")
    off_lines: list[str] = []
    for path in sorted((root / "offtopic").glob("*.txt")):
        if not path.name.startswith("_"):
            lines = path.read_text().splitlines()
            off_lines += [ln.strip() for ln in lines if ln.strip() and not ln.startswith("#")]
    corpus = Corpus(
        intents,
        read_classes(root / "intents" / "_classes.txt"),
        tuple(off_lines),
        read_classes(root / "offtopic" / "_classes.txt"),
        held_out_questions(root / "heldout"),
    )
    problems += check(corpus)
    for problem in problems:
        print("corpus:", problem)
    corpus.owners = owners(corpus)
    if hold_back:
        for intent in intents.values():
            if len(intent.templates) < 6:
                continue
            kept = [t for t in intent.templates if not _is_held(t, hold_back)]
            out = tuple(t for t in intent.templates if _is_held(t, hold_back))
            if out:
                corpus.held_back[intent.id] = out
                corpus.intents[intent.id] = Intent(
                    intent.id, intent.topic, intent.answer, tuple(kept)
                )
    return corpus


def answers_of(corpus: Corpus) -> dict[str, str]:
    """Every answer that can be given, by intent id; sums have one id each."""
    found = {i.id: i.answer for i in corpus.intents.values()}
    for line in sums.table():
        text = sums.answer(*line)
        found["sum:" + text] = text
    return found


def owners(corpus: Corpus, draws: int = 400) -> dict[str, str]:
    """Which intent owns a wording that several can produce: the one that produces it most often.

    Two answers to one and the same text would only teach the model to hesitate.
    """
    counts: dict[str, dict[str, int]] = {}
    rng = Random("owners")
    for intent in corpus.intents.values():
        for _ in range(draws if intent.templates else 0):
            key = normal(expand(rng.choice(intent.templates), corpus.classes, rng))
            if key:
                seen = counts.setdefault(key, {})
                seen[intent.id] = seen.get(intent.id, 0) + 1
    return {key: max(seen, key=lambda i: (seen[i], i)) for key, seen in counts.items()}


def _is_held(template: str, every: int) -> bool:
    return Random(template).randrange(every) == 0


def wording(corpus: Corpus, intent: Intent, rng: Random) -> str:
    """A question of this intent that is not in the judge set."""
    for _ in range(50):
        text = expand(rng.choice(intent.templates), corpus.classes, rng)
        key = normal(text)
        is_own = corpus.owners.get(key, intent.id) == intent.id
        if text and key not in corpus.forbidden and is_own:
            return text
    raise ValueError(f"{intent.id}: nearly all its wordings belong to other intents")


def off_topic(corpus: Corpus, rng: Random) -> str:
    """A question that nobody taught the model to answer."""
    while True:
        text = expand(rng.choice(corpus.offtopic), corpus.off_classes, rng)
        if "~" in text:
            text = re.sub("~", lambda _: augment.invented_word(rng), text)
        key = normal(text)
        if key not in corpus.forbidden and key not in corpus.owners:
            return text


def known_turn(corpus: Corpus, rng: Random) -> Turn:
    """A question with an answer of its own: an intent or, one time in six, a small sum."""
    if rng.random() < 0.16:
        question, answer = sums.draw(rng)
        if not answer:
            return Turn(question, FEW_SUMS, corpus.intents[FEW_SUMS].answer)
        return Turn(question, "sum:" + answer, answer)
    names = _names(corpus)
    intent = corpus.intents[rng.choices(*names)[0]]
    return Turn(wording(corpus, intent, rng), intent.id, intent.answer)


def _names(corpus: Corpus) -> tuple[list[str], list[float]]:
    names = [i.id for i in corpus.intents.values() if i.templates]
    return names, [corpus.weights.get(n, 1.0) for n in names]


def draw_turn(corpus: Corpus, rng: Random) -> Turn:
    """One question as a user types it, with its answer."""
    fallback = corpus.intents[FALLBACK].answer
    roll = rng.random()
    if roll < 0.01:
        return Turn(augment.junk(rng), FALLBACK, fallback)
    if roll < 0.37:
        text = off_topic(corpus, rng)
        text = augment.restyle(augment.reword(text, {}, rng), rng)
        return Turn(text, FALLBACK, fallback)
    turn = known_turn(corpus, rng)
    is_sum = turn.intent.startswith("sum") or turn.intent == FEW_SUMS
    text = turn.user if is_sum else augment.reword(turn.user, corpus.classes, rng)
    text = augment.restyle(text, rng, typos=not is_sum)
    if rng.random() < 0.04:
        text = augment.with_junk(text, rng)
    return Turn(text, turn.intent, turn.answer)


def draw(corpus: Corpus, rng: Random) -> Chat:
    """One chat: about a sixth have earlier turns, about a tenth a system prompt."""
    earlier = rng.choices((0, 1, 2, 3), (84, 10, 4, 2))[0]
    turns = tuple(draw_turn(corpus, rng) for _ in range(earlier + 1))
    system = augment.system_prompt(rng) if rng.random() < 0.10 else ""
    return Chat(system, turns)


def chats(corpus: Corpus, seed: int, start: int = 0) -> Iterator[Chat]:
    """The endless stream of chats of a seed, from number `start` on."""
    number = start
    while True:
        yield draw(corpus, Random(f"{seed}:{number}"))
        number += 1


def main() -> None:
    """Check the files; fail when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=10, help="how many chats to print")
    arguments = parser.parse_args()
    _, parse_problems = read_intents(HERE / "intents")
    corpus = load()
    lines = sum(len(i.templates) for i in corpus.intents.values())
    print(
        f"{len(corpus.intents)} intents, {lines} templates, {len(corpus.classes)} classes, "
        f"{len(corpus.offtopic)} off-topic templates, {len(corpus.off_classes)} classes"
    )
    stream = chats(corpus, seed=1)
    for _ in range(arguments.show):
        chat = next(stream)
        print("-", f"[{chat.system}] " if chat.system else "", end="")
        print(" / ".join(f"{t.user!r} -> {t.intent}" for t in chat.turns))
    if check(corpus) or parse_problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
