"""The state of one chat at the terminal: the conversation, the model, how it samples."""

from contextlib import aclosing

from chatsafe_cli.answer import AnswerFacts, AnswerWriter, show_answer
from chatsafe_cli.choice import choose
from chatsafe_client.conversation import Conversation, converse
from chatsafe_common.backend import Backend
from chatsafe_common.chat import ModelCard, Sampling


class ChatSession:
    """Asks a backend, remembers what was said, writes the answers to `writer`."""

    def __init__(
        self, backend: Backend, writer: AnswerWriter, *, model: str = "", system: str = ""
    ) -> None:
        self.backend = backend
        self.writer = writer
        self.model = model
        self.conversation = Conversation(system)
        self.sampling = Sampling()
        self.max_tokens: int | None = None
        self.attachment = ""
        self.last: AnswerFacts | None = None

    async def card(self) -> ModelCard | None:
        """What the backend says of the chosen model; without a choice, of its default."""
        cards = await self.backend.models()
        return next((card for card in cards if self.model in ("", card.id)), None)

    async def choose_model(self, given: str) -> str:
        """Switches to the model that `given` names or begins. Raises Failure."""
        ids = [card.id for card in await self.backend.models()]
        self.model = choose(given, ids, only_usable=True)
        return self.model

    async def ask(self, text: str) -> AnswerFacts:
        """Sends `text`, after what `/file` attached, and writes the answer.

        A question that got no answer at all is forgotten, and its attachment kept.
        """
        question = f"{self.attachment}\n\n{text}" if self.attachment else text
        # What a terminal could not decode arrives as lone surrogates, which JSON cannot carry.
        self.conversation.add_question(question.encode("utf-8", "replace").decode("utf-8"))
        try:
            self.last = await self._answer()
        except BaseException:
            # Half an answer stays in the conversation; a question without one would only
            # confuse the next.
            if self.conversation.messages[-1].role == "user":
                self.conversation.take_back()
            else:
                self.attachment = ""
            raise
        self.attachment = ""
        return self.last

    async def _answer(self) -> AnswerFacts:
        events = converse(
            self.backend,
            self.conversation,
            model=self.model,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
        )
        async with aclosing(events):
            return await show_answer(events, self.writer)
