"""The one JSON dialect, from the answering side: a chat request's JSON to `ChatRequest`.

Rule zero: nothing is silent. A parameter is honoured exactly, or refused with its path, or (when
it cannot change the answer) listed in `ChatCall.ignored`. The messages are in `openai_messages`,
what goes back in `openai_result`, the asker's side in `openai_reply`.
"""

import re
from collections.abc import Mapping

import msgspec

from chatsafe_common.chat import ChatRequest, Sampling
from chatsafe_common.errors import InvalidRequest, UnknownParameter, UnsupportedParameter
from chatsafe_common.fields import Fields, as_fields
from chatsafe_common.openai_messages import parse_messages

MAX_STOPS = 32
MAX_STOP_BYTES = 256
MAX_BIASES = 4096
# The largest answer to speak of while the model, and with it the context, is not known.
MAX_TOKENS = 1_048_576

_SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERBOSITIES = ("low", "medium", "high")
# Known, accepted, without effect on this machine; the caller is told.
_NO_EFFECT = ("prompt_cache_options", "prompt_cache_retention")
# Known, and an answer without them would not be what was asked for.
_UNSUPPORTED = (
    "audio",
    "web_search_options",
    "moderation",
    "functions",
    "function_call",
    "prediction",
    "grammar",
    "chat_template_kwargs",
    "continue_final_message",
)
_OPTION_OBJECTS = ("audio", "web_search_options", "moderation")
_DURATION = re.compile(r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """A chat request and how its answer is to be sent. `ignored` are paths of fields."""

    request: ChatRequest
    stream: bool
    include_usage: bool
    num_choices: int
    ignored: tuple[str, ...]


def parse_chat(
    document: object,
    *,
    request_id: str,
    context_windows: Mapping[str, int],
    max_choices: int,
    stream_when_absent: bool,
    is_strict: bool,
) -> ChatCall:
    """The request that a JSON document spells.

    `context_windows` maps model ids to tokens, "" being the default model; they bound
    `max_tokens`. Raises InvalidRequest and its kin with the field's path as `param`.
    """
    fields = as_fields(document, "")
    ignored: list[str] = []
    model = fields.string("model", max_chars=256) or ""
    messages = parse_messages(fields, ignored)
    request = ChatRequest(
        request_id=request_id,
        messages=messages,
        model=model,
        sampling=_sampling(fields),
        max_tokens=_max_tokens(fields, context_windows.get(model) or MAX_TOKENS),
        stop=_stop(fields),
        clean_labels=fields.boolean("clean"),
        keep_alive_s=_keep_alive_s(fields),
    )
    num_choices = fields.integer("n", 1, max_choices) or 1
    stream = fields.boolean("stream")
    stream = stream_when_absent if stream is None else stream
    include_usage = _include_usage(fields, stream, ignored)
    _refuse_unsupported(fields)
    _check_without_effect(fields, ignored)
    unknown = fields.unknown()
    if unknown and is_strict:
        raise UnknownParameter(
            "The request has a field that ChatSafe does not know, and strict mode is on. "
            "Leave the field out, or leave strict mode.",
            param=unknown[0],
        )
    return ChatCall(
        request=request,
        stream=stream,
        include_usage=include_usage,
        num_choices=num_choices,
        ignored=tuple(ignored + unknown),
    )


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=fields.number("temperature", 0, 2, label="Temperature"),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.integer("top_k", 0, 1000),
        min_p=fields.number("min_p", 0, 1),
        typical_p=fields.number("typical_p", 0, 1),
        repeat_penalty=fields.number("repeat_penalty", 0.1, 2),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        seed=fields.integer("seed", -(2**63), 2**63 - 1),
        logit_bias=_logit_bias(fields),
    )


def _logit_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    given = fields.mapping("logit_bias")
    if not given:
        return ()
    if len(given) > MAX_BIASES:
        raise fields.wrong_value("logit_bias", f"logit_bias may hold at most {MAX_BIASES} tokens.")
    # isdecimal alone would let other scripts' digits in, and int() would read them.
    if not all(key.isascii() and key.isdecimal() and len(key) <= 9 for key in given):
        raise fields.wrong_value("logit_bias", "The keys of logit_bias must be token ids.")
    biases = Fields(given, "logit_bias")
    found: dict[int, float] = {}
    for key in given:
        bias = biases.number(key, -100, 100, label="A logit_bias")
        if bias is not None:
            found[int(key)] = bias
    return tuple(found.items())


def _max_tokens(fields: Fields, context_window: int) -> int | None:
    older = fields.integer("max_tokens", 1, context_window)
    newer = fields.integer("max_completion_tokens", 1, context_window)
    if older is not None and newer is not None and older != newer:
        raise fields.wrong_value(
            "max_tokens", "max_tokens and max_completion_tokens differ. Send one of them."
        )
    return older if newer is None else newer


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.raw("stop")
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list):
        raise fields.wrong_type("stop", "a string or an array of strings")
    if len(strings) > MAX_STOPS:
        raise fields.wrong_value("stop", f"stop may hold at most {MAX_STOPS} strings.")
    found: list[str] = []
    for index, item in enumerate(strings):
        name = "stop" if isinstance(value, str) else f"stop[{index}]"
        if not isinstance(item, str):
            raise fields.wrong_type(name, "a string")
        if not 1 <= len(item.encode()) <= MAX_STOP_BYTES:
            raise fields.wrong_value(
                name, f"A stop string must have between 1 and {MAX_STOP_BYTES} bytes."
            )
        found.append(item)
    return tuple(found)


def _keep_alive_s(fields: Fields) -> float | None:
    """Seconds as a number, or a duration like "10m"; anything below zero is "for good"."""
    value = fields.raw("keep_alive")
    if isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if found is None:
            raise fields.wrong_value(
                "keep_alive", 'keep_alive must be seconds, or a duration like "30s", "10m" or "2h".'
            )
        return max(-1.0, float(found[1]) * _UNIT_S[found[2]])
    seconds = fields.number("keep_alive", -1e9, 1e9)
    return None if seconds is None else max(-1.0, seconds)


def _include_usage(fields: Fields, stream: bool, ignored: list[str]) -> bool:
    given = fields.mapping("stream_options")
    if given is None:
        return False
    if not stream:
        raise fields.wrong_value("stream_options", 'stream_options needs "stream": true.')
    options = Fields(given, "stream_options")
    include_usage = options.boolean("include_usage")
    if options.boolean("include_obfuscation"):
        # Padding hides lengths from a network in between; on loopback there is none.
        ignored.append(options.at("include_obfuscation"))
    ignored += options.unknown()
    return bool(include_usage)


def _refuse_unsupported(fields: Fields) -> None:
    for name in _UNSUPPORTED:
        value = fields.raw(name)
        # Empty or false asks for nothing: clients send such values for what they do not use. Where
        # an object holds options, the empty one asks for the usual options.
        is_empty = value == {} and name not in _OPTION_OBJECTS
        if not is_empty and value not in (None, False, "none", []):
            raise unsupported(name)
    if fields.boolean("logprobs"):
        raise unsupported("logprobs")
    if fields.integer("top_logprobs", 0, 20) is not None:
        raise fields.wrong_value("top_logprobs", 'top_logprobs needs "logprobs": true.')
    if fields.array("tools"):
        raise unsupported("tools")
    choice = fields.raw("tool_choice")
    if not isinstance(choice, str | dict | None):
        raise fields.wrong_type("tool_choice", "a string or an object")
    if choice not in (None, "none", "auto"):
        raise fields.wrong_value("tool_choice", "tool_choice asks for a tool, and there are none.")
    if fields.boolean("store"):
        raise UnsupportedParameter(
            "Answers are never stored here. Leave store out, or send false.", param="store"
        )
    form = fields.mapping("response_format")
    if form is not None:
        kinds = ("text", "json_object", "json_schema")
        kind = Fields(form, "response_format").choice("type", kinds)
        if kind is None:
            raise Fields(form, "response_format").missing("type")
        if kind != "text":
            raise unsupported("response_format")
    modalities = fields.array("modalities")
    if modalities not in (None, [], ["text"]):
        raise unsupported("modalities")


def unsupported(path: str) -> UnsupportedParameter:
    """The refusal of a field that is known and cannot be honoured."""
    return UnsupportedParameter(
        f"{path} is not supported by this version of ChatSafe, and leaving it out would change the "
        "answer. Send the request without it.",
        param=path,
    )


def _check_without_effect(fields: Fields, ignored: list[str]) -> None:
    """Fields that cannot change the answer: their form is checked, their content is dropped."""
    fields.string("user")
    fields.string("safety_identifier", max_chars=64)
    fields.string("prompt_cache_key")
    fields.choice("service_tier", _SERVICE_TIERS)
    fields.boolean("parallel_tool_calls")
    _check_metadata(fields)
    if fields.choice("reasoning_effort", _EFFORTS):
        ignored.append("reasoning_effort")
    if fields.choice("verbosity", _VERBOSITIES):
        ignored.append("verbosity")
    if fields.boolean("return_progress"):
        ignored.append("return_progress")
    ignored += [name for name in _NO_EFFECT if fields.has(name)]


def _check_metadata(fields: Fields) -> None:
    metadata = fields.mapping("metadata")
    if metadata is None:
        return
    if len(metadata) > 16:
        raise fields.wrong_value("metadata", "metadata may hold at most 16 pairs.")
    for key, value in metadata.items():
        if len(key) > 64:
            raise fields.wrong_value("metadata", "A metadata key may have at most 64 characters.")
        if not isinstance(value, str):
            raise fields.wrong_type("metadata", "an object whose values are strings")
        if len(value) > 512:
            raise InvalidRequest(
                "A metadata value may have at most 512 characters.", param="metadata"
            )
