"""generic_template: control tokens where they exist, plain words elsewhere."""

from chatsafe_runtime.worker.generic_template import generic_template
from chatsafe_runtime.worker.template import ChatTemplate

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
]


def render(controls: set[str]) -> tuple[str, tuple[str, ...]]:
    source, stops = generic_template(controls)
    template = ChatTemplate(source, bos_text="", eos_text="", context_window=512)
    return template.render(CHAT), stops


def test_with_control_tokens() -> None:
    prompt, stops = render({"<|im_start|>", "<|im_end|>"})
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "<|im_end|>" in stops


def test_in_plain_words() -> None:
    prompt, stops = render({"</s>"})
    assert prompt == (
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nYes?\n\n"
        "### Instruction:\nBye\n\n### Response:\n"
    )
    assert stops == ("### Instruction:",)
