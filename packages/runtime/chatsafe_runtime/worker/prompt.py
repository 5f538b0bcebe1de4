"""Messages to tokens, so that no message can ever become a control token.

The template is rendered with a random placeholder in each content's place. In the rendered text
only what the template itself wrote may be a control token; the runs between control tokens,
template text and contents joined, are tokenized as plain text. A chat without marker strings in
its contents so gets exactly the tokens that parsing the whole prompt would give.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chatsafe_common.chat import Message
from chatsafe_runtime.worker.engine import Vocabulary
from chatsafe_runtime.worker.template import (
    ChatTemplate,
    TemplateFailed,
    TemplateMessage,
    TemplateRefused,
)

# A text is measured by a sample when it has more bytes per token of the window than this: no
# tokenizer makes so few tokens of it that it would fit, and reading 32 MiB takes half a minute.
_HOPELESS_BYTES_PER_TOKEN: Final = 256
_SAMPLE_CHARS: Final = 64 * 1024
# Private-use characters around digits: no filter that changes case or quotes touches them.
_OPEN: Final = "\ue0f0"
_CLOSE: Final = "\ue0f1"


class PromptTooLong(Exception):
    """The prompt cannot fit; `num_tokens` is its length, estimated from a sample."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__(f"{num_tokens} tokens")
        self.num_tokens = num_tokens


@dataclass(frozen=True, slots=True)
class _Control:
    token: int


class Prompter:
    """Renders and tokenizes chats for one model."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        *,
        context_window: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._context_window = context_window
        # Longest first, so that a control token never hides a longer one that begins alike.
        spellings = sorted(vocabulary.control_tokens, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's tokens, BOS as the vocabulary wants it.

        Raises TemplateRefused, TemplateFailed, PromptTooLong.
        """
        num_bytes = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
        if num_bytes > _HOPELESS_BYTES_PER_TOKEN * self._context_window + _SAMPLE_CHARS:
            raise PromptTooLong(self._estimate(messages, num_bytes))
        chat = self._render(messages)
        tokens: list[int] = []
        for run in self._runs(chat):
            if isinstance(run, _Control):
                tokens.append(run.token)
            else:
                tokens += self._vocabulary.tokenize(run)
        return self._with_bos(tokens)

    def _estimate(self, messages: Sequence[Message], num_bytes: int) -> int:
        longest = max((message.content for message in messages), key=len)
        sample = longest[:_SAMPLE_CHARS]
        share = len(self._vocabulary.tokenize(sample)) / len(sample.encode("utf-8", "replace"))
        return max(self._context_window, round(num_bytes * share))

    def _render(self, messages: Sequence[Message]) -> "_Chat":
        """Render; a template that will not take a system message gets it in the first turn."""
        chat = _Chat(messages)
        system_at = [at for at, message in enumerate(messages) if message.role == "system"]
        try:
            chat.render(self._template)
        except TemplateRefused:
            if not system_at or len(system_at) == len(messages):
                raise
        else:
            if not system_at or chat.shows(system_at[0]):
                return chat
        chat = _Chat(_merge_system(messages))
        chat.render(self._template)
        return chat

    def _runs(self, chat: "_Chat") -> list[str | _Control]:
        """Control tokens and the plain text between them, in order."""
        runs: list[str | _Control] = []
        plain = ""
        strips_next = False
        for text, is_template in chat.parts():
            pieces = self._split(text) if is_template else [text]
            for piece in pieces:
                if isinstance(piece, _Control):
                    strips_before, strips_after = self._vocabulary.strips(piece.token)
                    plain = plain.rstrip() if strips_before else plain
                    if plain:
                        runs.append(plain)
                    runs.append(piece)
                    plain, strips_next = "", strips_after
                else:
                    plain += piece.lstrip() if strips_next and not plain else piece
        if plain:
            runs.append(plain)
        return runs

    def _split(self, text: str) -> list[str | _Control]:
        pieces: list[str | _Control] = []
        end = 0
        for match in self._controls.finditer(text):
            pieces.append(text[end : match.start()])
            pieces.append(_Control(self._vocabulary.control_tokens[match.group()]))
            end = match.end()
        pieces.append(text[end:])
        return pieces

    def _with_bos(self, tokens: list[int]) -> list[int]:
        """BOS exactly once where the vocabulary wants it, and never twice."""
        bos = self._vocabulary.bos
        if bos is None:
            return tokens
        written = 0
        while written < len(tokens) and tokens[written] == bos:
            written += 1
        return [bos] * (written > 0 or self._vocabulary.adds_bos) + tokens[written:]


class _Chat:
    """One rendering: messages with placeholders in, template text and contents out."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._nonce = str(secrets.randbits(64))
        self._texts: list[str] = []
        self._content_marks: list[str] = []
        self._messages = [self._with_placeholders(message) for message in messages]
        self._rendered = ""

    def _with_placeholders(self, message: Message) -> TemplateMessage:
        content = self._placeholder(message.content)
        self._content_marks.append(content.strip())
        fields = {"role": message.role, "content": content}
        if message.name is not None:
            fields["name"] = self._placeholder(message.name)
        if message.tool_call_id is not None:
            fields["tool_call_id"] = self._placeholder(message.tool_call_id)
        return fields

    def _placeholder(self, text: str) -> str:
        """White space around the text stays visible, since templates trim it."""
        core = text.strip()
        if not core:
            return text
        before, _, after = text.partition(core)
        self._texts.append(core)
        return f"{before}{_OPEN}{self._nonce}.{len(self._texts) - 1}{_CLOSE}{after}"

    def render(self, template: ChatTemplate) -> None:
        try:
            self._rendered = template.render(self._messages)
        except TemplateRefused as refusal:
            # What it quotes of a message are placeholders.
            reason = re.sub(f"{_OPEN}[^{_CLOSE}]*{_CLOSE}?", "...", str(refusal))
            raise TemplateRefused(reason) from None

    def shows(self, at: int) -> bool:
        """Whether the content of message `at` made it into the prompt."""
        return self._content_marks[at] in self._rendered

    def parts(self) -> list[tuple[str, bool]]:
        """Pieces of text in order, each with whether the template wrote it."""
        marks = re.compile(f"{_OPEN}{self._nonce}\\.([0-9]+){_CLOSE}")
        parts: list[tuple[str, bool]] = []
        for at, text in enumerate(marks.split(self._rendered)):
            is_template = at % 2 == 0
            if is_template and (_OPEN in text or _CLOSE in text):
                raise TemplateFailed("it cuts messages into parts, which is not supported")
            parts.append((text if is_template else self._texts[int(text)], is_template))
        return parts


def _merge_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The system texts at the head of the first user turn."""
    system = [message.content for message in messages if message.role == "system"]
    merged: list[Message] = []
    for message in messages:
        if message.role == "user" and system:
            merged.append(Message("user", "\n\n".join([*system, message.content])))
            system = []
        elif message.role != "system":
            merged.append(message)
    return merged
