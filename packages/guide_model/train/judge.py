"""How an answer of the guide model is judged: required and forbidden words, and no babble."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from facts import complaints

OFF_TOPIC = "offtopic"


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
    if question.category == OFF_TOPIC:
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
