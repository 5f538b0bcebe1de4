"""Logging: a closed set of fields, no foreign text, no exception text."""

import logging

import pytest

from chatsafe_daemon.log import ContentFreeFormatter, describe


def line(name: str, message: str, *args: object, **fields: object) -> str:
    record = logging.LogRecord(name, logging.INFO, __file__, 1, message, args, None)
    for key, value in fields.items():
        setattr(record, key, value)
    return ContentFreeFormatter().format(record)


def failure() -> BaseException:
    try:
        raise ValueError("secretword")
    except ValueError as error:
        return error


def test_our_events_with_known_fields() -> None:
    text = line(
        "chatsafe.api", "chat", request_id="r1", model="m-1", duration_ms=12, stream=True, code=None
    )
    assert text.endswith(
        'level=info event=chat request_id=r1 model="m-1" stream=true duration_ms=12'
    )


def test_our_modules_may_format_codes_and_counts() -> None:
    assert 'event="model a is ready after 0.31 s"' in line(
        "chatsafe_runtime.pool", "model %s is ready after %.2f s", "a", 0.312
    )


def test_zero_and_false_are_values() -> None:
    assert line("chatsafe.api", "chat", completion_tokens=0, stream=False).endswith(
        "stream=false completion_tokens=0"
    )


def test_unknown_fields_are_dropped() -> None:
    assert "secretword" not in line("chatsafe.api", "chat", prompt="secretword", path="secretword")


@pytest.mark.parametrize("name", ["uvicorn.error", "asyncio", "chatsafety", "root"])
def test_foreign_messages_are_dropped(name: str) -> None:
    text = line(name, "got %s", "secretword")
    assert "secretword" not in text
    assert f"logger={name}" in text or f'logger="{name}"' in text


def test_exceptions_show_type_and_frames_only() -> None:
    record = logging.LogRecord("chatsafe.api", logging.ERROR, __file__, 1, "failed", (), None)
    error = failure()
    record.exc_info = (type(error), error, error.__traceback__)
    text = ContentFreeFormatter().format(record)
    assert "ValueError" in text
    assert "secretword" not in text
    assert "\n" not in text


def test_our_frames_are_named_without_their_folders() -> None:
    try:
        line("chatsafe.api", "%d", "secretword")
    except TypeError as error:
        text = describe(error)
        assert text.startswith("TypeError < log.py:")
        assert "/" not in text


def test_a_request_id_cannot_forge_a_second_line() -> None:
    text = line("chatsafe.api", "chat", request_id='x" level=error\nevent=fake')
    assert "\n" not in text
    assert text.count(" level=error\\n") == 1
