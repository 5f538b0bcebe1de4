"""Exact bytes of streams: each file in `sse/` is one case, with id and time made equal."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.asgi import Api

from chatsafe_common.errors import WorkerDied
from chatsafe_common.events import FinishReason
from chatsafe_common.testing import ScriptedBackend

CASES = sorted(Path(__file__).with_name("sse").glob("*.json"))


def stream(case: dict[str, Any]) -> bytes:
    backend = ScriptedBackend(
        case["pieces"],
        model="golden",
        reason=FinishReason(case.get("reason", "stop")),
        error=WorkerDied(case["error"]) if "error" in case else None,
        error_after=case.get("error_after", -1),
    )
    headers = [("x-request-id", "golden")]
    reply = asyncio.run(Api(backend).chat(headers=headers, stream=True, **case["request"]))
    body = re.sub(rb'"created":\d+', b'"created":0', reply.body)
    return re.sub(rb'"timings":\{[^}]*\}', b'"timings":{}', body)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_stream_bytes(path: Path) -> None:
    assert stream(json.loads(path.read_text("utf-8"))) == path.with_suffix(".sse").read_bytes()


def test_there_are_cases() -> None:
    assert len(CASES) >= 5
