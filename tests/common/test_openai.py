"""The request side of the dialect, row by row: what is honoured, refused, or listed as ignored."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.chat import Message, Sampling
from chatsafe_common.errors import ChatSafeError
from chatsafe_common.openai import ChatCall, parse_chat

USER = {"role": "user", "content": "Hi"}


def call(*, is_strict: bool = False, stream_when_absent: bool = False, **fields: Any) -> ChatCall:
    return parse_chat(
        {"messages": [USER], **fields},
        request_id="r",
        context_windows={"": 2048, "big": 8192},
        max_choices=4,
        stream_when_absent=stream_when_absent,
        is_strict=is_strict,
    )


def refusal(**fields: Any) -> tuple[str, str | None]:
    with pytest.raises(ChatSafeError) as caught:
        call(**fields)
    assert "secretword" not in caught.value.message
    return caught.value.code, caught.value.param


def test_defaults() -> None:
    found = call()
    assert found.request.messages == (Message("user", "Hi"),)
    assert found.request.model == ""
    assert found.request.sampling == Sampling()
    assert found.request.max_tokens is None
    assert (found.stream, found.include_usage, found.num_choices, found.ignored) == (
        False,
        False,
        1,
        (),
    )


def test_supported_parameters_are_honoured_exactly() -> None:
    found = call(
        model="big",
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.1,
        typical_p=0.9,
        repeat_penalty=1.1,
        presence_penalty=-2,
        frequency_penalty=2,
        seed=-(2**63),
        logit_bias={"5": -100, "7": 1.5},
        stop=["a", "b"],
        max_completion_tokens=8192,
        n=4,
        stream=True,
        stream_options={"include_usage": True},
        clean=False,
        keep_alive="10m",
    )
    assert found.request.sampling == Sampling(
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.1,
        typical_p=0.9,
        repeat_penalty=1.1,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        seed=-(2**63),
        logit_bias=((5, -100.0), (7, 1.5)),
    )
    assert found.request.model == "big"
    assert found.request.stop == ("a", "b")
    assert found.request.max_tokens == 8192
    assert found.request.clean_labels is False
    assert found.request.keep_alive_s == 600
    assert (found.stream, found.include_usage, found.num_choices) == (True, True, 4)


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "n",
        "seed",
        "stop",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "metadata",
        "user",
        "store",
        "service_tier",
        "max_tokens",
        "keep_alive",
        "grammar",
        "something_new",
    ],
)
def test_null_is_the_same_as_absent(name: str) -> None:
    fields: dict[str, Any] = {name: None}
    assert call(is_strict=True, **fields) == call()


def test_integral_floats_are_integers() -> None:
    assert call(max_tokens=5.0, seed=3.0).request.max_tokens == 5
    assert refusal(max_tokens=5.5) == ("invalid_type", "max_tokens")
    assert refusal(max_tokens="5") == ("invalid_type", "max_tokens")
    assert refusal(max_tokens=True) == ("invalid_type", "max_tokens")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": -0.1}, "invalid_value", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"temperature": "1"}, "invalid_type", "temperature"),
        ({"top_p": 1.01}, "invalid_value", "top_p"),
        ({"top_k": 1001}, "invalid_value", "top_k"),
        ({"top_k": -1}, "invalid_value", "top_k"),
        ({"min_p": 2}, "invalid_value", "min_p"),
        ({"typical_p": -1}, "invalid_value", "typical_p"),
        ({"repeat_penalty": 0}, "invalid_value", "repeat_penalty"),
        ({"presence_penalty": 2.5}, "invalid_value", "presence_penalty"),
        ({"frequency_penalty": -2.5}, "invalid_value", "frequency_penalty"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 5}, "invalid_value", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 2049}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 10000}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "invalid_value", "max_tokens"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
        ({"stop": ["a"] * 33}, "invalid_value", "stop"),
        ({"stop": "é" * 129}, "invalid_value", "stop"),
        ({"stop": 5}, "invalid_type", "stop"),
        ({"stop": [5]}, "invalid_type", "stop[0]"),
        ({"logit_bias": {"secretword": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"٣": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": 101}}, "invalid_value", "logit_bias.5"),
        ({"logit_bias": []}, "invalid_type", "logit_bias"),
        ({"model": 5}, "invalid_type", "model"),
        ({"model": "m" * 257}, "invalid_value", "model"),
        ({"stream": "true"}, "invalid_type", "stream"),
        ({"stream_options": {}}, "invalid_value", "stream_options"),
        ({"stream": True, "stream_options": 1}, "invalid_type", "stream_options"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "invalid_type",
            "stream_options.include_usage",
        ),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"logprobs": 1}, "invalid_type", "logprobs"),
        ({"top_logprobs": 3}, "invalid_value", "top_logprobs"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
        ({"response_format": {"type": "json_schema"}}, "unsupported_parameter", "response_format"),
        ({"response_format": {"type": "x"}}, "invalid_value", "response_format.type"),
        ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
        ({"response_format": "text"}, "invalid_type", "response_format"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter", "tools"),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "invalid_value", "tool_choice"),
        ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions"),
        ({"function_call": {"name": "f"}}, "unsupported_parameter", "function_call"),
        ({"prediction": {"type": "content"}}, "unsupported_parameter", "prediction"),
        ({"grammar": "root ::= x"}, "unsupported_parameter", "grammar"),
        ({"chat_template_kwargs": {"a": 1}}, "unsupported_parameter", "chat_template_kwargs"),
        ({"continue_final_message": True}, "unsupported_parameter", "continue_final_message"),
        ({"modalities": ["audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio"),
        ({"web_search_options": {"a": 1}}, "unsupported_parameter", "web_search_options"),
        ({"store": True}, "unsupported_parameter", "store"),
        ({"store": "yes"}, "invalid_type", "store"),
        ({"metadata": {str(i): "v" for i in range(17)}}, "invalid_value", "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "invalid_value", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata"),
        ({"metadata": {"k": 1}}, "invalid_type", "metadata"),
        ({"user": 1}, "invalid_type", "user"),
        ({"safety_identifier": "s" * 65}, "invalid_value", "safety_identifier"),
        ({"service_tier": "gold"}, "invalid_value", "service_tier"),
        ({"reasoning_effort": "enormous"}, "invalid_value", "reasoning_effort"),
        ({"verbosity": "loud"}, "invalid_value", "verbosity"),
        ({"keep_alive": "soon"}, "invalid_value", "keep_alive"),
        ({"keep_alive": []}, "invalid_type", "keep_alive"),
        ({"clean": "no"}, "invalid_type", "clean"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": "secretword"}, "invalid_type", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [USER] * 513}, "invalid_value", "messages"),
        ({"messages": ["secretword"]}, "invalid_type", "messages[0]"),
    ],
)
def test_refused_with_code_and_path(fields: dict[str, Any], code: str, param: str) -> None:
    assert refusal(**fields) == (code, param)


def part(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "a"}, fields]}


@pytest.mark.parametrize(
    ("message", "code", "path"),
    [
        ({"content": "x"}, "missing_required_parameter", "role"),
        ({"role": 1, "content": "x"}, "invalid_type", "role"),
        ({"role": "secretword", "content": "x"}, "invalid_value", "role"),
        ({"role": "User", "content": "x"}, "invalid_value", "role"),
        ({"role": "tool", "content": "x"}, "unsupported_parameter", "role"),
        ({"role": "function", "content": "x"}, "unsupported_parameter", "role"),
        ({"role": "assistant", "tool_calls": [{}]}, "unsupported_parameter", "tool_calls"),
        ({"role": "assistant", "content": None}, "missing_required_parameter", "content"),
        ({"role": "user"}, "missing_required_parameter", "content"),
        ({"role": "user", "content": ""}, "invalid_value", "content"),
        ({"role": "user", "content": []}, "invalid_value", "content"),
        ({"role": "user", "content": 5}, "invalid_type", "content"),
        ({"role": "user", "content": "x", "name": 5}, "invalid_type", "name"),
        (part(type="image_url"), "unsupported_content", "content[1].image_url"),
        (part(type="input_audio"), "unsupported_content", "content[1].input_audio"),
        (part(type="file"), "unsupported_content", "content[1].file"),
        (part(type="secretword"), "invalid_value", "content[1].type"),
        (part(type="refusal", refusal="no"), "invalid_value", "content[1].type"),
        (part(type="text"), "missing_required_parameter", "content[1].text"),
        (part(type="text", text=1), "invalid_type", "content[1].text"),
        (part(), "missing_required_parameter", "content[1].type"),
    ],
)
def test_messages_refused_with_code_and_path(message: dict[str, Any], code: str, path: str) -> None:
    assert refusal(messages=[USER, message]) == (code, f"messages[1].{path}")


def test_messages_understood() -> None:
    found = call(
        messages=[
            {"role": "system", "content": ""},
            {"role": "developer", "content": [{"type": "text", "text": "be"}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": "", "refusal": None, "tool_calls": None},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "user", "content": " ", "name": "eve"},
        ]
    )
    assert found.request.messages == (
        Message("system", ""),
        Message("system", "be"),
        Message("user", "ab"),
        Message("assistant", ""),
        Message("assistant", "no"),
        Message("user", " ", "eve"),
    )
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"temperature": 3.0}, "Temperature must be between"),
        ({"messages": []}, "Messages array cannot be empty"),
        ({"messages": [{"role": "user", "content": ""}]}, "Message content cannot be empty"),
        ({"max_tokens": 10000}, "max_tokens must be between 1 and 2048"),
        ({"top_p": 2}, "top_p must be between"),
        ({"repeat_penalty": 3}, "repeat_penalty must be between"),
    ],
)
def test_phrases_that_older_scripts_look_for(fields: dict[str, Any], phrase: str) -> None:
    with pytest.raises(ChatSafeError, match=phrase):
        call(**fields)


def test_max_tokens_of_an_unknown_model_is_left_to_whoever_resolves_it() -> None:
    assert call(model="unheard-of", max_tokens=10_000).request.max_tokens == 10_000


def test_what_cannot_change_the_answer_is_accepted_and_listed_where_it_has_no_effect() -> None:
    found = call(
        stream=True,
        stream_options={"include_obfuscation": True, "other": 1},
        user="u",
        metadata={"k": "v"},
        service_tier="auto",
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        modalities=["text"],
        functions=[],
        chat_template_kwargs={},
        continue_final_message=False,
        prompt_cache_key="k",
        reasoning_effort="low",
        verbosity="high",
        return_progress=True,
        prompt_cache_retention="24h",
        brand_new=1,
    )
    assert set(found.ignored) == {
        "stream_options.include_obfuscation",
        "stream_options.other",
        "reasoning_effort",
        "verbosity",
        "return_progress",
        "prompt_cache_retention",
        "brand_new",
    }


def test_unknown_fields_of_messages_are_listed() -> None:
    messages = [{**USER, "mood": "good"}, {"role": "assistant", "content": "x", "annotations": []}]
    assert call(messages=messages).ignored == ("messages[0].mood", "messages[1].annotations")


def test_strict_mode_refuses_unknown_fields() -> None:
    assert refusal(is_strict=True, brand_new=1) == ("unknown_parameter", "brand_new")
    assert call(is_strict=True, user="u", reasoning_effort="low").ignored == ("reasoning_effort",)


def test_absent_stream_follows_the_caller_s_preference() -> None:
    assert call(stream_when_absent=True).stream
    assert not call(stream_when_absent=True, stream=False).stream
    assert call(stream_when_absent=True, stream_options={"include_usage": True}).include_usage


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 0), (90, 90), (-1, -1), (-5, -1), ("30s", 30), ("2h", 7200), ("500ms", 0.5), ("7", 7)],
)
def test_keep_alive(given: object, seconds: float) -> None:
    assert call(keep_alive=given).request.keep_alive_s == seconds


@pytest.mark.parametrize("document", [[], "x", 1, None, True])
def test_a_document_that_is_no_object(document: object) -> None:
    with pytest.raises(ChatSafeError) as caught:
        parse_chat(
            document,
            request_id="r",
            context_windows={},
            max_choices=1,
            stream_when_absent=False,
            is_strict=False,
        )
    assert (caught.value.code, caught.value.param) == ("invalid_type", None)


known = [
    "messages", "model", "stream", "stream_options", "temperature", "top_p", "n", "seed", "stop",
    "max_tokens", "logit_bias", "logprobs", "response_format", "tools", "tool_choice", "metadata",
    "store", "modalities", "keep_alive", "clean", "functions", "grammar", "other",
]  # fmt: skip
small = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=4)
keys = st.sampled_from(["type", "role", "content", "text", "user", "include_usage", "5"])
nested = st.recursive(
    small, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(known), nested, max_size=6), st.booleans())
def test_any_document_is_understood_or_refused_with_a_path(
    document: dict[str, Any], is_strict: bool
) -> None:
    found = outcome(is_strict=is_strict, **{"messages": [USER], **document})
    if isinstance(found, ChatSafeError):
        assert found.param
        assert found.param.split(".")[0].split("[")[0] in known
    else:
        assert found.request.messages
        assert 1 <= found.num_choices <= 4


def outcome(**fields: Any) -> ChatCall | ChatSafeError:
    try:
        return call(**fields)
    except ChatSafeError as error:
        return error
