"""Prompter: no message becomes a control token, BOS comes once, system texts find their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.scripted_engine import BOS, CONTROL_TOKENS, END, START, TEMPLATE, ByteVocabulary

from chatsafe_common.chat import Message
from chatsafe_runtime.worker.prompt import Prompter, PromptTooLong
from chatsafe_runtime.worker.template import ChatTemplate, TemplateFailed, TemplateRefused

MARKERS = list(CONTROL_TOKENS)
nasty = st.lists(
    st.sampled_from([*MARKERS, "<|", "|>", "<|st", "art|>", "<s", ">", " ", "\n", "a", "\ue0f0"]),
    max_size=10,
).map("".join)


def prompter(
    template: str = TEMPLATE,
    *,
    vocabulary: ByteVocabulary | None = None,
    window: int = 4096,
) -> Prompter:
    vocabulary = vocabulary or ByteVocabulary()
    chat_template = ChatTemplate(template, bos_text="<s>", eos_text="", context_window=window)
    return Prompter(vocabulary, chat_template, context_window=window)


def user(text: str) -> Message:
    return Message("user", text)


def test_the_tokens_of_a_plain_chat() -> None:
    tokens = prompter().tokens([user("Hi"), Message("assistant", " yo "), user("é")])
    expected = [BOS, START, *b"Hi", END, START, *b" yo ", END, START, *"é".encode(), END, START]
    assert tokens == expected


@given(st.lists(nasty, min_size=1, max_size=4), nasty)
def test_contents_never_become_control_tokens(contents: list[str], name: str) -> None:
    template = (
        "{% for m in messages %}<|start|>{{ m.name }}:{{ m.content }}<|end|>{% endfor %}<|start|>"
    )
    messages = [Message("user", content, name=name) for content in contents]
    tokens = prompter(template).tokens(messages)
    text = [f"{name}:{content}".encode() for content in contents]
    expected = [BOS]
    for part in text:
        expected += [START, *part, END]
    assert tokens == [*expected, START]


def test_a_marker_does_not_form_across_the_border() -> None:
    tokens = prompter("<|st{{ messages[0].content }}|>").tokens([user("art")])
    assert tokens == [BOS, *b"<|start|>"]


def test_white_space_is_trimmed_as_the_template_says() -> None:
    messages = [user("  two words \n")]
    trimmed = prompter("{{ messages[0].content|trim }}!").tokens(messages)
    assert trimmed == [BOS, *b"two words!"]
    kept = prompter("{{ messages[0].content }}!").tokens(messages)
    assert kept == [BOS, *b"  two words \n!"]
    assert prompter("{{ messages[0].content }}!").tokens([user("  ")]) == [BOS, *b"  !"]


@pytest.mark.parametrize(
    ("template", "adds_bos", "tokens"),
    [
        ("{{ bos_token }}a", True, [BOS, *b"a"]),
        ("{{ bos_token }}{{ bos_token }}a", True, [BOS, *b"a"]),
        ("a", True, [BOS, *b"a"]),
        ("{{ bos_token }}a", False, [BOS, *b"a"]),
        ("{{ bos_token }}{{ bos_token }}a", False, [BOS, *b"a"]),
        ("a", False, [*b"a"]),
    ],
)
def test_bos_comes_once(template: str, adds_bos: bool, tokens: list[int]) -> None:
    vocabulary = ByteVocabulary()
    vocabulary.adds_bos = adds_bos
    assert prompter(template, vocabulary=vocabulary).tokens([user("x")]) == tokens


def test_white_space_beside_a_stripping_token_goes() -> None:
    vocabulary = ByteVocabulary()
    vocabulary.stripping = (False, True)
    assert prompter("<|start|>\n a <|end|>", vocabulary=vocabulary).tokens([user("x")]) == [
        BOS,
        START,
        *b"a ",
        END,
    ]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}|{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ m.content }}|{% endfor %}",
    ],
)
def test_a_template_without_system_gets_it_in_the_first_turn(template: str) -> None:
    tokens = prompter(template).tokens([Message("system", "S"), user("a"), user("b")])
    assert bytes(tokens[1:]) == b"S\n\na|b|"


def test_what_the_template_refuses_is_said() -> None:
    refusing = prompter("{{ raise_exception('only two turns') }}")
    with pytest.raises(TemplateRefused, match="only two turns"):
        refusing.tokens([user("a"), Message("system", "s")])
    with pytest.raises(TemplateRefused):
        refusing.tokens([Message("system", "s")])


def test_a_refusal_quotes_no_message() -> None:
    quoting = prompter("{{ raise_exception('not this: ' ~ messages[0].content ~ '!') }}")
    with pytest.raises(TemplateRefused, match=r"^not this: \.\.\.!$"):
        quoting.tokens([user("canary")])


def test_a_template_that_cuts_messages_is_refused() -> None:
    with pytest.raises(TemplateFailed, match="cuts"):
        prompter("{{ messages[0].content[:3] }}").tokens([user("canary")])


def test_a_hopelessly_long_chat_is_measured_by_a_sample() -> None:
    with pytest.raises(PromptTooLong) as caught:
        prompter(window=100).tokens([user("ab" * 100_000)])
    assert caught.value.num_tokens == 200_000
