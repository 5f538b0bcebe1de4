"""The template for a model that brings none and whose registry entry names none.

ChatML where the vocabulary has its control tokens, else instructions in plain words.
"""

from collections.abc import Container
from typing import Final

_CHATML: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
_PLAIN: Final = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
    "{% elif message.role == 'assistant' %}{{ '### Response:\n' + message.content + '\n\n' }}"
    "{% else %}{{ '### Instruction:\n' + message.content + '\n\n' }}{% endif %}"
    "{% endfor %}{{ '### Response:\n' }}"
)


def generic_template(control_tokens: Container[str]) -> tuple[str, tuple[str, ...]]:
    """Jinja source, and the stop strings that go with it."""
    if "<|im_start|>" in control_tokens and "<|im_end|>" in control_tokens:
        return _CHATML, ("<|im_end|>", "<|im_start|>")
    return _PLAIN, ("### Instruction:",)
