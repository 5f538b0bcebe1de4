"""The messages of a chat request in the OpenAI dialect: JSON to `Message`.

Text only: images, audio and files are refused as `unsupported_content`, tools and calls as
`unsupported_parameter`, both with the path of the offender.
"""

from typing import cast

from chatsafe_common.chat import Message, Role
from chatsafe_common.errors import InvalidRequest, UnsupportedContent, UnsupportedParameter
from chatsafe_common.fields import Fields, as_fields

MAX_MESSAGES = 512

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MEDIA_PARTS = ("image_url", "input_audio", "file")
# Fields of an earlier reply that clients send back as they got them.
_REPLY_ONLY = ("annotations", "reasoning_content", "reasoning")


def parse_messages(fields: Fields, ignored: list[str]) -> tuple[Message, ...]:
    """The conversation in `messages`; appends to `ignored` the paths of what has no effect."""
    items = fields.array("messages")
    if items is None:
        raise fields.missing("messages")
    if not items:
        raise fields.wrong_value("messages", "Messages array cannot be empty.")
    if len(items) > MAX_MESSAGES:
        raise fields.wrong_value("messages", f"messages may hold at most {MAX_MESSAGES} messages.")
    found = []
    for index, item in enumerate(items):
        message = as_fields(item, f"messages[{index}]")
        found.append(_message(message))
        ignored += [message.at(name) for name in _REPLY_ONLY if message.has(name)]
        ignored += message.unknown()
    return tuple(found)


def _message(fields: Fields) -> Message:
    role = fields.choice("role", _ROLES)
    if role is None:
        raise fields.missing("role")
    if role in ("tool", "function"):
        raise _no_tools(fields.at("role"))
    for call in ("tool_calls", "function_call", "audio"):
        if fields.raw(call) not in (None, []):
            raise _no_tools(fields.at(call))
    refusal = fields.string("refusal")
    name = fields.string("name", max_chars=64)
    if not fields.has("content"):
        if role == "assistant" and refusal:
            return Message("assistant", refusal, name)
        raise fields.missing("content")
    content = _content(fields, role)
    if role == "user" and not content:
        raise InvalidRequest("Message content cannot be empty.", param=fields.at("content"))
    # Templates know no developer; the two say the same thing to a model.
    return Message(cast(Role, "system" if role == "developer" else role), content, name)


def _content(fields: Fields, role: str) -> str:
    content = fields.raw("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise fields.wrong_type("content", "a string or an array of parts")
    return "".join(
        _part(as_fields(part, f"{fields.at('content')}[{index}]"), role)
        for index, part in enumerate(content)
    )


def _part(part: Fields, role: str) -> str:
    kind = part.string("type")
    if kind is None:
        raise part.missing("type")
    if kind in _MEDIA_PARTS:
        raise UnsupportedContent(
            "This model reads text only. Send the request without images, audio and files.",
            param=part.at(kind),
        )
    key = {"text": "text", "refusal": "refusal"}.get(kind)
    if key is None or (key == "refusal" and role != "assistant"):
        raise part.wrong_value("type", 'The type of a content part must be "text".')
    text = part.string(key)
    if text is None:
        raise part.missing(key)
    return text


def _no_tools(path: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"{path} belongs to tool use, which this version of ChatSafe does not support. "
        "Send messages of the roles system, user and assistant with text.",
        param=path,
    )
