"""LabelFilter: role labels and markers leave the text, everything else stays."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_runtime.worker.labels import LABELS, NOTHING_LEFT, LabelFilter


def run(*pieces: str) -> str:
    labels = LabelFilter()
    return "".join(labels.push(piece) for piece in pieces) + labels.flush()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("AI: x", "x"),
        ("You: q\nAI: a", "q\na"),
        ("User: What?\nAssistant: Let me help", "What?\nLet me help"),
        ("\n\nHuman: test\nBot: response", "\n\ntest\nresponse"),
        ("Assistant: AI: twice", "twice"),
        ("AI:\nHello", "Hello"),
        ("Hello\nAI:\nthere", "Hello\nthere"),
        ("Hello.\n\nUser: And now?\nAssistant: no", "Hello."),
        ("Sure.\n### Instruction:\nmore", "Sure."),
        ("### Response:\nYes", "Yes"),
        ("He said: You: and User: in a line", "He said: You: and User: in a line"),
        ("a\n\n    indented\n\tb\n", "a\n\n    indented\n\tb\n"),
        ("```\nUser: kept\n```\nok", "```\nUser: kept\n```\nok"),
        ("Useful\nAIs: no label", "Useful\nAIs: no label"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nHello there!", "Hello there!"),
        ("Hello<|eot_id|>", "Hello"),
        ("a <| b < c <|im_end|>d", "a <| b < c d"),
        ("AI:", NOTHING_LEFT),
        ("<|eot_id|>", NOTHING_LEFT),
        ("", ""),
        ("AI", "AI"),
    ],
)
def test_rules(text: str, cleaned: str) -> None:
    assert run(text) == cleaned
    assert run(*text) == cleaned


words = st.sampled_from(
    [*LABELS, "AI", "You", "``", "`", "\n", " ", "\t", "a", "b:", "<|eot_id|>", "<", "|", "<|im_"]
)


@given(st.lists(words, max_size=14).map("".join), st.lists(st.integers(0, 90), max_size=8))
def test_any_split_gives_the_same(text: str, cuts: list[int]) -> None:
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    assert run(*pieces) == run(text)


@given(st.lists(words, max_size=14).map("".join))
def test_no_line_begins_with_a_label(text: str) -> None:
    is_code = False
    for line in run(text).split("\n"):
        core = line.lstrip(" \t")
        if core.startswith("```"):
            is_code = not is_code
        assert is_code or not core.startswith(LABELS)


def test_an_invented_turn_ends_the_answer() -> None:
    labels = LabelFilter()
    assert labels.push("Yes.\nUser: and") == "Yes."
    assert labels.is_ended
    assert labels.push("more") == ""
    assert labels.flush() == ""
