"""Turns, trimming, and conversations as files."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from chatsafe_client.conversation import Conversation, Trimmed, converse, parse_conversation
from chatsafe_common.backend import EventStream
from chatsafe_common.chat import ChatRequest, Message, ModelCard
from chatsafe_common.errors import ContextLengthExceeded, InvalidRequest, WorkerDied
from chatsafe_common.events import ChatEvent
from chatsafe_common.testing import ScriptedBackend, collect_text


class SmallBackend:
    """Refuses more than `room` characters, each of which it calls a token."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[tuple[Message, ...]] = []

    async def models(self) -> Sequence[ModelCard]:
        return ()

    async def generate(self, request: ChatRequest) -> EventStream:
        size = sum(len(message.content) for message in request.messages)
        if size > self.room:
            raise ContextLengthExceeded(size, self.room)
        self.asked.append(request.messages)
        async with aclosing(ScriptedBackend(["ok"]).generate(request)) as events:
            async for event in events:
                yield event


def talk(backend: SmallBackend | ScriptedBackend, chat: Conversation) -> list[ChatEvent | Trimmed]:
    async def collect() -> list[ChatEvent | Trimmed]:
        async with aclosing(converse(backend, chat)) as events:
            return [event async for event in events]

    return asyncio.run(collect())


def test_an_answer_joins_the_conversation() -> None:
    chat = Conversation("be kind")
    chat.add_question("Hi")
    talk(ScriptedBackend(["Hel", "lo"]), chat)
    assert chat.messages == (
        Message("system", "be kind"),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
    )


def test_the_oldest_turns_go_and_it_is_said() -> None:
    chat = Conversation("sys")
    for index in range(5):
        chat.add_question(f"question {index}")
        chat.add_answer("an answer.")
    chat.add_question("the newest")
    backend = SmallBackend(room=60)
    events = talk(backend, chat)
    trimmed = sum(event.num_messages for event in events if isinstance(event, Trimmed))
    assert trimmed == 8
    assert [message.content for message in backend.asked[0]] == [
        "sys",
        "question 4",
        "an answer.",
        "the newest",
    ]
    assert len(chat) == 4  # with the new answer


def test_a_question_that_is_too_long_alone_is_refused() -> None:
    chat = Conversation()
    chat.add_question("x" * 100)
    with pytest.raises(ContextLengthExceeded):
        talk(SmallBackend(room=10), chat)
    assert chat.last_question == "x" * 100


def test_more_messages_than_a_request_may_hold() -> None:
    chat = Conversation()
    for index in range(300):
        chat.add_question(f"{index}")
        chat.add_answer("a")
    chat.add_question("last")
    events = talk(ScriptedBackend(["ok"]), chat)
    assert events[0] == Trimmed(601 + 1 - len(chat))
    assert len(chat) <= 512
    assert chat.last_question == "last"


def test_an_empty_answer_is_an_answer() -> None:
    chat = Conversation()
    chat.add_question("Hi")
    talk(ScriptedBackend([]), chat)
    assert chat.messages[-1] == Message("assistant", "")


def test_half_an_answer_is_kept() -> None:
    chat = Conversation()
    chat.add_question("Hi")
    with pytest.raises(WorkerDied):
        talk(ScriptedBackend(["Half", " way"], error=WorkerDied("x"), error_after=1), chat)
    assert chat.messages[-1] == Message("assistant", "Half")


def test_closing_the_stream_keeps_what_arrived_and_frees_the_backend() -> None:
    backend = ScriptedBackend(["One", "Two"])
    chat = Conversation()
    chat.add_question("Hi")

    async def stop_early() -> None:
        async with aclosing(converse(backend, chat)) as events:
            async for event in events:
                if collect_text([event] if not isinstance(event, Trimmed) else []):
                    break

    asyncio.run(stop_early())
    assert chat.messages[-1] == Message("assistant", "One")
    assert backend.num_open == 0


def test_taking_back() -> None:
    chat = Conversation()
    assert chat.take_back() is None
    chat.add_question("a")
    chat.add_answer("b")
    chat.add_question("c")
    chat.add_answer("d")
    assert chat.take_back() == "c"
    assert [message.content for message in chat.messages] == ["a", "b"]


def test_a_saved_conversation_comes_back() -> None:
    chat = Conversation("sys")
    chat.add_question('quote " and \n and 😀')
    chat.add_answer("sure")
    again = parse_conversation(chat.export())
    assert again.messages == chat.messages
    assert again.system == "sys"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\xff",
        b"{}",
        b'{"format":"other","version":1,"system":"","messages":[]}',
        b'{"format":"chatsafe-conversation","version":2,"system":"","messages":[]}',
        b'{"format":"chatsafe-conversation","version":1,"system":"","messages":[{"role":"x"}]}',
        b'{"format":"chatsafe-conversation","version":1,"system":"",'
        b'"messages":[{"role":"system","content":"x"}]}',
    ],
)
def test_files_that_are_no_conversation(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no saved conversation"):
        parse_conversation(data)


def test_repr_hides_the_text() -> None:
    chat = Conversation("secret")
    chat.add_question("secret")
    assert "secret" not in repr(chat)
