"""How messages become a prompt: a registry template, and its Jinja source.

A template is either a set of prefixes and suffixes, one pair per role, or Jinja of its own. Both
come out as Jinja source over `messages` (role, content), `add_generation_prompt`, `bos_token` and
`eos_token`. The beginning-of-text token is never in it: the tokenizer adds that once.
Nothing is rendered here; only a model's worker process does that, in a sandbox.
"""

import msgspec

# The template inside the model file, rather than one of the registry's.
GGUF_TEMPLATE = "gguf"


class TemplateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One template entry. `extra` keeps fields that we do not know, for export."""

    id: str
    name: str
    system_prefix: str = ""
    system_suffix: str = ""
    user_prefix: str = ""
    user_suffix: str = ""
    assistant_prefix: str = ""
    assistant_suffix: str = ""
    default_system_prompt: str = ""
    jinja: str = ""
    extra: dict[str, object] = {}

    @property
    def turn_end(self) -> str:
        """The text that ends an answer, or "" when the template does not say."""
        return self.assistant_suffix.strip() or self.user_prefix.strip()

    def source(self) -> str:
        """The Jinja source; the default system prompt comes first if no message is a system's."""
        return self._default_system() + (self.jinja or self._turns())

    def _default_system(self) -> str:
        if not self.default_system_prompt:
            return ""
        prompt = _literal(self.default_system_prompt)
        return (
            "{%- if messages | selectattr('role', 'equalto', 'system') | list | length == 0 -%}"
            "{%- set messages = [{'role': 'system', 'content': " + prompt + "}]"
            " + (messages | list) -%}"
            "{%- endif -%}"
        )

    def _turns(self) -> str:
        def turn(prefix: str, suffix: str) -> str:
            return _printed(prefix) + "{{ message['content'] }}" + _printed(suffix)

        return (
            "{%- for message in messages -%}"
            "{%- if message['role'] == 'system' -%}"
            + turn(self.system_prefix, self.system_suffix)
            + "{%- elif message['role'] == 'assistant' -%}"
            + turn(self.assistant_prefix, self.assistant_suffix)
            + "{%- else -%}"
            + turn(self.user_prefix, self.user_suffix)
            + "{%- endif -%}{%- endfor -%}"
            + "{%- if add_generation_prompt -%}"
            + _printed(self.assistant_prefix)
            + "{%- endif -%}"
        )


def _printed(text: str) -> str:
    return "{{ " + _literal(text) + " }}" if text else ""


def _literal(text: str) -> str:
    """`text` as a Jinja string: Jinja reads escapes as Python does."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
