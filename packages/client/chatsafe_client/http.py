"""HttpBackend: any OpenAI-compatible URL as a `Backend`."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpx

from chatsafe_client.connection import Connection, read_body
from chatsafe_common.backend import EventStream
from chatsafe_common.chat import ChatRequest, ModelCard
from chatsafe_common.errors import PeerFailed
from chatsafe_common.openai_reply import END_OF_STREAM, ReplyReader, model_cards, request_json
from chatsafe_common.sse import SseDecoder, SseError

# One event holds one piece of an answer, seldom a whole one.
MAX_EVENT_BYTES = 8 * 1024 * 1024


class HttpBackend:
    """Answers chats by asking another server over a `Connection`, which the caller owns.

    Errors come back as the class whose code the server sent. `Started.prompt_tokens` is 0, since
    this dialect tells the count only at the end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"HttpBackend({self._connection.address})"

    async def models(self) -> Sequence[ModelCard]:
        return model_cards(await self._connection.get("v1/models"))

    async def generate(self, request: ChatRequest) -> EventStream:
        reader = ReplyReader()
        async with (
            self._connection.open(
                "POST",
                "v1/chat/completions",
                request_json(request, stream=True),
                {"accept": "text/event-stream", "x-request-id": request.request_id},
            ) as response,
            aclosing(_replies(response)) as replies,
        ):
            async for data in replies:
                for event in reader.receive(data):
                    yield event
        yield reader.finish()


async def _replies(response: httpx.Response) -> AsyncGenerator[str | bytes, None]:
    """The JSON texts in a reply: those of a stream, or the one whole result."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        yield await read_body(response)
        return
    decoder = SseDecoder(MAX_EVENT_BYTES)
    try:
        async for piece in response.aiter_bytes():
            for event in decoder.receive(piece):
                if event.data == END_OF_STREAM:
                    return
                yield event.data
    except SseError as error:
        raise PeerFailed(f"The server's reply cannot be read: {error}.") from error
