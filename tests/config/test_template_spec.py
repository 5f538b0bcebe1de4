"""Prompt templates: the exact text that the registry's templates make of a conversation."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_config.registry import default_registry
from chatsafe_config.template_spec import TemplateSpec

# The worker renders; this package only writes the source and does not need Jinja itself.
jinja2 = pytest.importorskip("jinja2")
sandbox = pytest.importorskip("jinja2.sandbox")

Turn = tuple[str, str]
CHAT: list[Turn] = [("user", "Hello"), ("assistant", "Hi there!"), ("user", "How are you?")]
WITH_SYSTEM: list[Turn] = [("system", "Be brief."), *CHAT]


def render(template: TemplateSpec, turns: Sequence[Turn], prompt: bool = True) -> str:
    environment = sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    rendered: str = environment.from_string(template.source()).render(
        messages=tuple({"role": role, "content": content} for role, content in turns),
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    return rendered


def shipped(template_id: str) -> TemplateSpec:
    found = default_registry().template(template_id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("template_id", "expected"),
    [
        (
            "llama3",
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHi there!<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
            "<|im_start|>assistant\nHi there!<|im_end|>\n"
            "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nHello\n\n### Response:\nHi there!\n\n"
            "### Instruction:\nHow are you?\n\n### Response:\n",
        ),
        (
            "mistral",
            "[INST] Be brief.\n\nHello[/INST] Hi there!</s>[INST] How are you?[/INST]",
        ),
        (
            "gemma",
            "<start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
            "<start_of_turn>model\nHi there!<end_of_turn>\n"
            "<start_of_turn>user\nHow are you?<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "phi3",
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n"
            "<|assistant|>\nHi there!<|end|>\n<|user|>\nHow are you?<|end|>\n<|assistant|>\n",
        ),
    ],
)
def test_the_exact_prompt(template_id: str, expected: str) -> None:
    assert render(shipped(template_id), WITH_SYSTEM) == expected


def test_the_guide_template_is_chatml_without_a_word_more() -> None:
    guide, chatml = shipped("chatsafe-guide"), shipped("chatml")
    assert render(guide, WITH_SYSTEM) == render(chatml, WITH_SYSTEM)
    assert render(guide, CHAT).startswith("<|im_start|>user\nHello")


@pytest.mark.parametrize("template_id", [item.id for item in default_registry().templates])
def test_no_template_writes_the_beginning_of_text(template_id: str) -> None:
    text = render(shipped(template_id), WITH_SYSTEM)
    assert "<s>" not in text
    assert "<|begin_of_text|>" not in text
    assert "<bos>" not in text


@pytest.mark.parametrize("template_id", ["llama3", "chatml", "alpaca", "phi3"])
def test_the_default_system_prompt_comes_first_when_nobody_gave_one(template_id: str) -> None:
    template = shipped(template_id)
    default = template.default_system_prompt
    assert 10 < len(default) < 120
    assert render(template, CHAT) == render(template, [("system", default), *CHAT])
    # Also in front of a conversation that begins with the assistant.
    turns = [("assistant", "Hi!"), ("user", "Hello")]
    assert render(template, turns) == render(template, [("system", default), *turns])
    # A system message anywhere takes its place.
    assert default not in render(template, [*CHAT, ("system", "Be brief.")])


@pytest.mark.parametrize("template_id", ["mistral", "gemma"])
def test_a_late_system_message_is_not_lost(template_id: str) -> None:
    template = shipped(template_id)
    assert "Be brief." in render(template, [*CHAT, ("system", "Be brief.")])
    text = render(template, [("user", "A"), ("system", "B"), ("user", "C"), ("user", "D")])
    assert text.count("B\n\nC") == 1
    assert text.count("B") == 1


@pytest.mark.parametrize("template_id", [item.id for item in default_registry().templates])
def test_without_a_generation_prompt_the_text_ends_with_the_last_turn(template_id: str) -> None:
    template = shipped(template_id)
    without, with_it = render(template, CHAT, prompt=False), render(template, CHAT)
    assert with_it.startswith(without)
    if template_id != "mistral":  # [/INST] is both: the end of the question and the prompt
        assert len(with_it) > len(without)


_texts = st.text(max_size=12)


@given(
    parts=st.lists(_texts, min_size=6, max_size=6),
    default=_texts,
    turns=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), _texts), max_size=4),
)
def test_prefixes_and_suffixes_are_written_letter_by_letter(
    parts: list[str], default: str, turns: list[Turn]
) -> None:
    around = {
        "system": (parts[0], parts[1]),
        "user": (parts[2], parts[3]),
        "assistant": (parts[4], parts[5]),
    }
    template = TemplateSpec(
        id="t",
        name="t",
        default_system_prompt=default,
        system_prefix=parts[0],
        system_suffix=parts[1],
        user_prefix=parts[2],
        user_suffix=parts[3],
        assistant_prefix=parts[4],
        assistant_suffix=parts[5],
    )
    if default and all(role != "system" for role, _ in turns):
        turns = [("system", default), *turns]
    expected = "".join(around[role][0] + text + around[role][1] for role, text in turns)
    assert render(template, turns) == expected + parts[4]
