"""The official OpenAI client against the real daemon and guide model."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tests.support.daemon import DaemonProcess

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello, how are you?"}]


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="anything", max_retries=0) as client:
        yield client


def test_buffered_answer(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="chatsafe-guide",
        messages=QUESTION,
        temperature=0,
    )
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens > 0


def test_streamed_answer_equals_the_buffered_one(client: openai.OpenAI) -> None:
    buffered = client.chat.completions.create(
        model="chatsafe-guide",
        messages=QUESTION,
        temperature=0,
    )
    pieces = []
    usage = None
    with client.chat.completions.create(
        model="chatsafe-guide",
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == buffered.choices[0].message.content
    assert usage is not None
    assert buffered.usage is not None
    assert usage.completion_tokens == buffered.usage.completion_tokens


def test_stream_helper_and_raw_headers(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="chatsafe-guide", messages=QUESTION) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content
    raw = client.chat.completions.with_raw_response.create(
        model="chatsafe-guide",
        messages=QUESTION,
    )
    assert raw.headers["x-chatsafe-route"] == "local"
    assert raw.request_id


def test_models(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert listed[0].id == "chatsafe-guide"
    assert client.models.retrieve("chatsafe-guide").id == "chatsafe-guide"


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_value"),
        ({"n": 1000}, openai.BadRequestError, "invalid_value"),
        (
            {"response_format": {"type": "json_object"}},
            openai.BadRequestError,
            "unsupported_parameter",
        ),
    ],
)
def test_errors_arrive_as_the_client_s_own_classes(
    client: openai.OpenAI,
    fields: dict[str, object],
    error: type[openai.APIStatusError],
    code: str,
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            **{"model": "chatsafe-guide", "messages": QUESTION, **fields}  # type: ignore[call-overload]
        )
    assert caught.value.code == code


def test_async_client_runs_eight_streams_at_once(daemon: DaemonProcess) -> None:
    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model="chatsafe-guide",
            messages=QUESTION,
            temperature=0,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="x") as client:
            return list(await asyncio.gather(*(one(client) for _ in range(8))))

    answers = asyncio.run(all_of_them())
    assert len(answers) == 8
    assert all(answers)
