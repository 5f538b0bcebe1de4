"""A conversation: its turns, its system prompt, and what to do when it no longer fits.

Lives in memory. `export` and `parse_conversation` turn it into text and back for people who ask
for a file; nothing here opens one.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import uuid4

import msgspec

from chatsafe_common.backend import Backend
from chatsafe_common.chat import ChatRequest, Message, Sampling
from chatsafe_common.errors import ContextLengthExceeded, InvalidRequest
from chatsafe_common.events import ChatEvent, TextDelta
from chatsafe_common.openai_messages import MAX_MESSAGES

FORMAT = "chatsafe-conversation"
MAX_SAVED_BYTES = 32 * 1024 * 1024  # the API's own limit for one request
# Of the context after trimming. What just fits would leave the answer no room, and be too long
# again at the next question.
PROMPT_SHARE = 0.7


class Trimmed(msgspec.Struct, frozen=True):
    """The oldest messages were left out, because the conversation is longer than the context."""

    num_messages: int


class Conversation:
    """Turns of user and assistant, oldest first, under an optional system prompt."""

    def __init__(self, system: str = "", turns: Sequence[Message] = ()) -> None:
        self.system = system
        self._messages = list(turns)

    def __repr__(self) -> str:
        return f"Conversation({len(self._messages)} messages)"

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is sent: the system prompt, if any, then the turns."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, *self._messages)

    @property
    def last_question(self) -> str | None:
        """The text of the newest user message."""
        return next((m.content for m in reversed(self._messages) if m.role == "user"), None)

    def add_question(self, text: str) -> None:
        self._messages.append(Message("user", text))

    def add_answer(self, text: str) -> None:
        self._messages.append(Message("assistant", text))

    def take_back(self) -> str | None:
        """Removes the newest question and all that followed it; returns its text, or None."""
        for index in reversed(range(len(self._messages))):
            if self._messages[index].role == "user":
                text = self._messages[index].content
                del self._messages[index:]
                return text
        return None

    def clear(self) -> None:
        self._messages.clear()

    def drop_oldest(self, share: float) -> int:
        """Forgets whole turns from the front until `share` (0..1) of the text is gone.

        At least one turn goes, and the newest question always stays. Returns how many messages
        went: 0 when nothing may go.
        """
        to_drop = share * sum(len(message.content) for message in self._messages)
        dropped = size = 0
        while dropped == 0 or size < to_drop:
            end = self._end_of_first_turn()
            if end == 0:
                break
            size += sum(len(message.content) for message in self._messages[:end])
            del self._messages[:end]
            dropped += end
        return dropped

    def _end_of_first_turn(self) -> int:
        for index in range(1, len(self._messages)):
            if self._messages[index].role == "user":
                return index
        return 0

    def export(self) -> bytes:
        """This conversation as indented JSON. It holds everything that was said."""
        plain = {
            "format": FORMAT,
            "version": 1,
            "system": self.system,
            "messages": [{"role": m.role, "content": m.content} for m in self._messages],
        }
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


class _Saved(msgspec.Struct):
    format: str
    version: int
    system: str
    messages: list[Message]


def parse_conversation(data: bytes) -> Conversation:
    """What `export` wrote. Raises InvalidRequest saying what is wrong; never quotes the text."""
    if len(data) > MAX_SAVED_BYTES:
        raise InvalidRequest(f"The file is over {MAX_SAVED_BYTES} bytes.")
    try:
        saved = msgspec.json.decode(data, type=_Saved)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The file is no saved conversation: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("The file is no saved conversation: it is not JSON.") from error
    if saved.format != FORMAT or saved.version != 1:
        raise InvalidRequest(
            f"The file is no saved conversation of this version (format {FORMAT!r}, version 1)."
        )
    if any(message.role not in ("user", "assistant") for message in saved.messages):
        raise InvalidRequest("The file is no saved conversation: a turn has another role.")
    return Conversation(saved.system, saved.messages)


async def converse(
    backend: Backend,
    conversation: Conversation,
    *,
    model: str = "",
    sampling: Sampling | None = None,
    max_tokens: int | None = None,
) -> AsyncGenerator[ChatEvent | Trimmed, None]:
    """Asks for the next answer; adds to the conversation what arrived of it, even when cut short.

    A conversation that no longer fits (by its tokens, or by the number of its messages) loses its
    oldest turns, and each time says so with `Trimmed`. Raises ContextLengthExceeded when the newest
    question alone is too long.
    """
    if len(conversation.messages) > MAX_MESSAGES:
        yield Trimmed(conversation.drop_oldest(1 / 2))
    pieces: list[str] = []
    is_complete = False
    try:
        while True:
            request = ChatRequest(
                request_id=str(uuid4()),
                messages=conversation.messages,
                model=model,
                sampling=sampling or Sampling(),
                max_tokens=max_tokens,
            )
            try:
                async with aclosing(backend.generate(request)) as events:
                    async for event in events:
                        if isinstance(event, TextDelta):
                            pieces.append(event.text)
                        yield event
                is_complete = True
                return
            except ContextLengthExceeded as error:
                num_messages = 0 if pieces else conversation.drop_oldest(_excess(error))
                if num_messages == 0:
                    raise
            yield Trimmed(num_messages)
    finally:
        # An empty answer is one too: two questions in a row would break many templates.
        if pieces or is_complete:
            conversation.add_answer("".join(pieces))


def _excess(error: ContextLengthExceeded) -> float:
    """The share of the conversation that is too much, as far as the server told."""
    prompt, window = error.details.get("n_prompt_tokens"), error.details.get("n_ctx")
    if not isinstance(prompt, int) or not isinstance(window, int) or prompt <= 0:
        return 0.0
    return max(0.0, 1 - PROMPT_SHARE * window / prompt)
