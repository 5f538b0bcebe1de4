"""Rows of the conformance table as test parameters, and one look at every refusal."""

from typing import Any

import httpx
import pytest

Fields = dict[str, Any]
# Status, code and path.
Refusal = tuple[int, str, str | None]


def refusal(reply: httpx.Response) -> Refusal:
    """What was refused; the body has the form of section 12."""
    body = reply.json()
    error = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"].endswith((".", "?"))
    assert body["request_id"] == reply.headers["x-request-id"]
    return reply.status_code, error["code"], error["param"]


def rows(*given: tuple[str, Fields, Any]) -> list[Any]:
    """Parameters (fields, what they lead to), with the row's name as id."""
    return [pytest.param(fields, wanted, id=name) for name, fields, wanted in given]


def wrong(code: str, path: str | None) -> Refusal:
    return 400, f"invalid_{code}", path


def missing(path: str) -> Refusal:
    return 400, "missing_required_parameter", path


def unsupported(path: str) -> Refusal:
    return 400, "unsupported_parameter", path
