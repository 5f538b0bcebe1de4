"""Answers as raw text and as markdown."""

import asyncio
import io
import itertools
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from chatsafe_cli.answer import (
    AnswerFacts,
    MarkdownAnswer,
    RawAnswer,
    end_of_block,
    show_answer,
)
from chatsafe_client.conversation import Trimmed
from chatsafe_common.events import (
    ChatEvent,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)

TEXT = "Some *text*.\n\n1. one\n\n   still one\n\n2. two\n\n```sh\nls\n\npwd\n```\n\nThe end."


def markdown(pieces: list[str], *, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=40, height=10, force_terminal=is_terminal, legacy_windows=False
    )
    writer = MarkdownAnswer(console)
    for piece in pieces:
        writer.write(piece)
    writer.end()
    return out.getvalue()


@settings(deadline=None, max_examples=50)  # time is no part of what is promised
@given(st.lists(st.integers(0, len(TEXT))))
def test_any_split_of_an_answer_looks_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in itertools.pairwise(edges)]
    assert markdown(pieces) == markdown([TEXT])


def test_markdown_is_rendered() -> None:
    lines = [line.strip() for line in markdown([TEXT]).splitlines()]
    assert lines[0] == "Some text."
    assert "2 two" in lines
    assert lines.index("pwd") == lines.index("ls") + 2
    assert lines[-1] == "The end."


def test_a_terminal_obeys_no_model() -> None:
    shown = markdown(["\x1b]0;title\x07\x1b[2J\x9b31m", "[x](http://a.example)"], is_terminal=True)
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "http://a.example" in shown  # the address stands in the text


def test_two_answers_from_one_writer_begin_alike() -> None:
    out = io.StringIO()
    writer = MarkdownAnswer(Console(file=out, width=40))
    for _ in range(2):
        writer.write("Same.\n\nText.")
        writer.end()
    half = len(out.getvalue()) // 2
    assert out.getvalue()[:half] == out.getvalue()[half:]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("one line", 0),
        ("one\n\n", 0),
        ("one\n\ntwo", 5),
        ("one\n\n  two", 0),
        ("\n\none", 0),
        ("```\na\n\nb\n", 0),
        ("```\na\n\nb\n```\n\nc", 14),
        ("~~~\n```\n\nx\n~~~\n\ny", 16),
        ("````\n```\n\nx\n", 0),
    ],
)
def test_where_a_block_ends(text: str, end: int) -> None:
    assert end_of_block(text) == end


def test_raw_text_ends_with_one_line_end() -> None:
    out = io.StringIO()
    writer = RawAnswer(out)
    for answer in (["a", "b"], ["c\n"], [""], []):
        for piece in answer:
            writer.write(piece)
        writer.end()
    assert out.getvalue() == "ab\nc\n"


def test_the_facts_of_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    async def events() -> AsyncGenerator[ChatEvent | Trimmed, None]:
        yield Trimmed(4)
        yield Started("m", 3)
        yield TextDelta("x")
        yield Finished(FinishReason.LENGTH, Usage(3, 10), Timings(decode_s=0.5))

    facts = asyncio.run(show_answer(events(), RawAnswer(io.StringIO())))
    assert facts.model == "m"
    assert facts.tokens_per_second == 20
    assert facts.total_s >= facts.first_text_s > 0
    said = capsys.readouterr().err
    assert "oldest 4 messages were left out" in said
    assert "the answer was cut" in said


def test_speed_without_a_clock_of_the_servers() -> None:
    facts = AnswerFacts(first_text_s=1.0, total_s=3.0, usage=Usage(1, 10))
    assert facts.tokens_per_second == 5
