"""Content-free logging: one `key=value` line per event, on stderr.

Our own modules write messages of codes, counts and durations. Of other libraries' records only
the logger's name, the level and the type of an exception pass: their texts may quote a request.
Fields outside the closed set are dropped, and an exception shows its type and our own frames,
never its text. No level changes any of this.
"""

import asyncio
import json
import logging
import sys
import threading
import time
import traceback
from pathlib import PurePath
from types import TracebackType
from typing import Any

FIELDS = (
    "request_id",
    "model",
    "status",
    "code",
    "outcome",
    "stream",
    "prompt_tokens",
    "completion_tokens",
    "duration_ms",
)
_OURS = "chatsafe"


class ContentFreeFormatter(logging.Formatter):
    """A record as one line of `key=value` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: list[tuple[str, object]] = [
            ("time", f"{clock}.{int(record.msecs):03d}Z"),
            ("level", record.levelname.lower()),
        ]
        if record.name.split(".")[0].split("_")[0] == _OURS:
            pairs.append(("event", record.getMessage()))
            given = [(name, getattr(record, name, None)) for name in FIELDS]
            pairs += [(name, value) for name, value in given if value is not None]
        else:
            pairs.append(("logger", record.name))
        if record.exc_info and record.exc_info[1] is not None:
            pairs.append(("error", describe(record.exc_info[1])))
        return " ".join(f"{name}={_quoted(value)}" for name, value in pairs)


def describe(error: BaseException) -> str:
    """The type of an exception and the frames of ours that it passed, without its text."""
    frames = [
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{_OURS}_" in frame.filename
    ]
    return " < ".join([type(error).__name__, *reversed(frames)])


def start_logging(level: str) -> None:
    """Send everything through the formatter above, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ContentFreeFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # What uvicorn would report, the API reports with a request id.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    sys.excepthook = _report_crash
    threading.excepthook = _report_thread_crash


def report_loop_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's exception handler: `context` may hold anything, so little is shown."""
    error = context.get("exception")
    logging.getLogger("chatsafe.loop").error(
        "unhandled_error", exc_info=error if isinstance(error, BaseException) else None
    )


def _report_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    sys.stderr.write(f"chatsafe-server stopped by an internal error: {describe(error)}\n")


def _report_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        _report_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    # Quoting keeps a line one line: a request id is chosen by the client.
    return text if text.isascii() and text.isalnum() else json.dumps(text)
