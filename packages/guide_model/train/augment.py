"""What real typing does to a question: politeness, typos, lost words, pasted junk, system prompts.

None of it changes the answer. The model starts without any knowledge of English, so every kind of
noise that it must ignore has to occur here, in front of every kind of question and with the same
rate on and off topic; otherwise the noise itself would become a hint.
"""

import re
import string
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from random import Random

Classes = dict[str, tuple[str, ...]]


def _lists() -> dict[str, tuple[str, ...]]:
    """The word lists of noise.txt."""
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "noise.txt").read_text().splitlines():
        if line.startswith("## "):
            found[line[3:]] = items = []
        elif line and found:
            items.append("" if line == "(nothing)" else line)
    return {name: tuple(items) for name, items in found.items()}


_LISTS = _lists()
_STOP = frozenset(_LISTS["stop"])
_QUESTION = re.compile(r"^(what|how|why|when|where|who|which|is|are|can|does|do|will|if)\b", re.I)
# the letters beside a, b, c ... on a keyboard
_BESIDE = "sq vn xv sf wr dg fh gj uo hk jl k n bm ip o wa et ad ry yi cb qe zc tu x"
_NEAR = dict(zip(string.ascii_lowercase, _BESIDE.split(), strict=True))
_SYLLABLES = _LISTS["syllable"]


def invented_word(rng: Random) -> str:
    """A word that means nothing, two to four syllables."""
    word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(2, 5)))
    return word.capitalize() if rng.random() < 0.3 else word


def _swaps(groups: Iterable[tuple[str, ...]]) -> tuple[re.Pattern[str], Classes]:
    """A pattern that finds members of groups, and what each may be swapped for."""
    owner: Classes = {}
    for members in groups:
        plain = tuple(m for m in members if m and not re.search(r"[{}@|]", m))
        for member in plain:
            owner[member] = owner.get(member, ()) + plain
    keys = sorted((k for k, v in owner.items() if len(v) > 1), key=len, reverse=True)
    body = "|".join(re.escape(k) for k in keys) or r"(?!)"
    # names of commands, paths and settings are no words to swap
    return re.compile(rf"(?<!chatsafe )(?<![\w/._`-])(?:{body})(?![\w/._=-])", re.I), owner


@lru_cache(maxsize=1)
def _synonyms() -> tuple[re.Pattern[str], Classes]:
    lines = (Path(__file__).parent / "synonyms.txt").read_text().splitlines()
    return _swaps(tuple(ln.split("|")) for ln in lines if ln and not ln.startswith("#"))


_class_swaps: dict[int, tuple[re.Pattern[str], Classes]] = {}


def reword(text: str, classes: Classes, rng: Random) -> str:
    """Swap members of a class for each other, lose or swap words, put a carrier around it."""
    if classes and rng.random() < 0.2:
        if id(classes) not in _class_swaps:
            _class_swaps[id(classes)] = _swaps(classes.values())
        text = _swap(text, *_class_swaps[id(classes)], rng)
    if rng.random() < 0.4:
        text = _swap(text, *_synonyms(), rng)
    words = text.split(" ")
    if len(words) > 3:
        roll = rng.random()
        if roll < 0.06:  # as people type into a search box
            kept = [w for w in words if w.lower().strip("?,.!") not in _STOP]
            words = kept if len(kept) > 1 else words
        elif roll < 0.16:
            stops = [i for i, w in enumerate(words) if w.lower() in _STOP]
            if stops:
                del words[rng.choice(stops)]
        elif roll < 0.19:
            at = rng.randrange(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
        elif roll < 0.22:
            filler = ("just", "the", "a", "really", "like", "my", "this", "maybe", "even", "simply")
            words.insert(rng.randrange(len(words)), rng.choice(filler))
        elif roll < 0.235 and len(words) > 5:
            words[rng.randrange(len(words))] = invented_word(rng)
    text = " ".join(words)
    if _QUESTION.match(text):
        if rng.random() < 0.10:
            text = rng.choice(_LISTS["carry"]).format(text)
    elif rng.random() < 0.05:
        text = (
            rng.choice(
                (
                    "i want to ",
                    "can you ",
                    "how about this: ",
                    "my problem: ",
                    "about ",
                    "i have a problem: ",
                    "it is about this: ",
                    "hmm ",
                    "well ",
                )
            )
            + text
        )
    return text


def _swap(text: str, pattern: re.Pattern[str], owner: Classes, rng: Random) -> str:
    return pattern.sub(
        lambda m: rng.choice(owner[m[0].lower()]) if rng.random() < 0.5 else m[0], text
    )


def restyle(text: str, rng: Random, typos: bool = True) -> str:
    """Politeness, spelling of the name, case, punctuation and typing errors."""
    if rng.random() < 0.10:
        text = rng.choice(_LISTS["front"]) + " " + text
    if rng.random() < 0.08:
        tail = rng.choice(_LISTS["back"])
        text = text.rstrip("?.! ") + ("" if tail[0] in ",.?" else " ") + tail
    if rng.random() < 0.15:
        spelling = rng.choice(_LISTS["spelling"])
        text = re.sub(r"(?<![\w~/.-])chatsafe(?![\w/.-]|[ ]\w+ *`)", spelling, text, flags=re.I)
    if typos and len(text) > 6 and rng.random() < 0.18:
        for _ in range(1 if rng.random() < 0.75 else 2):
            text = _typo(text, rng)
    roll = rng.random()
    if roll < 0.35:
        text = text[:1].upper() + text[1:]
    elif roll < 0.65:
        text = text.lower()
    elif roll < 0.67:
        text = text.upper()
    elif roll < 0.68:
        text = text.title()
    roll = rng.random()
    if roll < 0.30:
        text = text.rstrip("?.! ")
    elif roll < 0.62:
        text = text.rstrip("?.! ") + "?"
    elif roll < 0.68:
        text = text.rstrip("?.! ") + rng.choice((".", "!", "??", "...", " ?", "!!", ",", "?!"))
    if rng.random() < 0.1:
        text = re.sub(r"['\u2019]", rng.choice(("", "\u2019")), text)
    if rng.random() < 0.05:
        text = re.sub(r",", "", text)
    return text.strip() or "?"


def _typo(text: str, rng: Random) -> str:
    """One letter dropped, doubled, swapped or replaced by its neighbour; digits stay."""
    spots = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i - 1].isalpha()]
    if not spots:
        return text
    at = rng.choice(spots)
    match rng.randrange(5):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + text[at] + text[at:]
        case 2:
            near = _NEAR.get(text[at].lower(), text[at])
            return text[:at] + rng.choice(near) + text[at + 1 :]
        case 3 if " " in text:
            gap = rng.choice([i for i, c in enumerate(text) if c == " "])
            return text[:gap] + text[gap + 1 :]
        case _:
            return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]


def system_prompt(rng: Random) -> str:
    """A system prompt of any kind; the guide answers the same with all of them."""
    return " ".join(rng.sample(_LISTS["system"], rng.choice((1, 1, 1, 2))))


def junk(rng: Random, long: bool = False, calm: bool = True) -> str:
    """Text that asks nothing: markers, payloads, repeated letters, pasted lines.

    Calm junk holds no payloads, because some of those have answers of their own.
    """
    count = rng.randrange(20, 60) if long else rng.randrange(1, 6)
    parts = [_junk_part(rng, calm) for _ in range(count)]
    return rng.choice((" ", " ", "\n", "")).join(parts).strip() or "..."


def _junk_part(rng: Random, calm: bool) -> str:
    match rng.randrange(9):
        case 0 | 1 if not calm or rng.random() < 0.3:
            markers = [m for m in _LISTS["marker"] if not (calm and m[0].isalpha())]
            return rng.choice(markers) * rng.choice((1, 1, 2, 5))
        case 2 | 3 if not calm:
            return rng.choice(_LISTS["payload"])
        case 4:
            return rng.choice(string.ascii_letters + "?!.#=-_*0123456789") * rng.randrange(4, 40)
        case 5 | 6:
            return rng.choice(_LISTS["pasted"]) + rng.choice((".", "", ".", ","))
        case 0 | 1 | 2 | 7:
            letters = string.ascii_lowercase if rng.random() < 0.5 else string.hexdigits + "+/="
            return "".join(rng.choice(letters) for _ in range(rng.randrange(5, 24)))
        case _:
            return " ".join(
                [
                    rng.choice(
                        (
                            "bla",
                            "test",
                            "x",
                            "foo",
                            "la",
                            "ha",
                            "yes",
                            "no",
                            "the",
                            "word",
                            "one two",
                            "🙂",
                            "asdf",
                            "é",
                            "qwerty",
                            "ok",
                        )
                    )
                ]
                * rng.randrange(2, 12)
            )


def with_junk(question: str, rng: Random, long: bool = False) -> str:
    """A real question with junk in front of it or, less often, behind it."""
    if long or rng.random() < 0.8:
        text = junk(rng, long, calm=False)
        joint = rng.choice((" ", "\n", "\n\n", ". ", " "))
        return f"{text}{joint}{rng.choice(_LISTS['dismiss'])} {question}".replace("  ", " ")
    return f"{question}{rng.choice((' ', chr(10), chr(10) * 2))}{junk(rng)}"
