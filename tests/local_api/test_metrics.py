"""Metrics: both families of names, real numbers, no content."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.asgi import Api

from chatsafe_common.errors import ModelNotFound, QueueFull, Timeout
from chatsafe_common.events import Finished, FinishReason, Timings, Usage
from chatsafe_common.testing import ScriptedBackend
from chatsafe_local_api.metrics import MAX_MODELS, Metrics, Series

NAMES = [
    "timestamp",
    "uptime_seconds",
    "total_requests",
    "streaming_requests",
    "non_streaming_requests",
    "active_requests",
    "active_streams",
    "completed_streams",
    "failed_streams",
    "dropped_frames",
    "total_chunks_sent",
    "first_token_latency_p50_ms",
    "first_token_latency_p95_ms",
    "first_token_latency_p99_ms",
    "p50_first_token_ms",
    "p90_first_token_ms",
    "p99_first_token_ms",
    "request_duration_p50_ms",
    "request_duration_p95_ms",
    "request_duration_p99_ms",
    "p50_request_duration_ms",
    "p90_request_duration_ms",
    "p99_request_duration_ms",
    "total_prompt_tokens",
    "total_completion_tokens",
    "average_tokens_per_second",
    "avg_tokens_per_second",
    "errors_by_category",
    "errors_by_type",
    "total_errors",
    "cancelled_requests",
    "timed_out_requests",
    "rate_limit_hits",
    "requests_by_model",
]


def test_all_names_are_there_and_zero_is_a_number() -> None:
    document = asyncio.run(Api().get("/metrics")).json()
    assert sorted(document) == sorted(NAMES)
    assert all(value is not None for value in document.values())
    assert sorted(document["errors_by_category"]) == [  # type: ignore[call-overload]
        "BadRequest",
        "Cancelled",
        "Internal",
        "RateLimited",
        "Timeout",
        "Unavailable",
    ]


def test_ten_samples() -> None:
    series = Series()
    for value in range(10, 101, 10):
        series.add(value / 1000)
    assert series.percentiles_ms(50, 90, 95, 99) == [50, 90, 90, 90]
    assert Series().percentiles_ms(50) == [0]


@given(st.lists(st.floats(0, 200), min_size=1, max_size=100))
def test_percentiles_are_samples_and_buckets_grow(samples: list[float]) -> None:
    series = Series()
    for sample in samples:
        series.add(sample)
    for value in series.percentiles_ms(0, 50, 99, 100):
        assert any(value == round(sample * 1000, 3) for sample in samples)
    assert series.num_up_to == sorted(series.num_up_to)
    assert series.num_up_to[-1] <= series.count == len(samples)


def test_a_chat_is_counted_once_everywhere() -> None:
    api = Api()
    asyncio.run(api.chat())
    asyncio.run(api.chat(stream=True))
    asyncio.run(api.chat(temperature=9))
    found = api.metrics.as_json(0.0)
    expected = {
        "total_requests": 3,
        "streaming_requests": 1,
        "non_streaming_requests": 1,
        "completed_streams": 1,
        "active_requests": 0,
        "active_streams": 0,
        "total_chunks_sent": 6,
        "total_prompt_tokens": 14,
        "total_completion_tokens": 6,
        "total_errors": 1,
        "errors_by_type": {"invalid_value": 1},
        "requests_by_model": {"scripted": 2},
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (QueueFull("x"), "Unavailable"),
        (Timeout("x"), "Timeout"),
        (ModelNotFound("x"), "Unavailable"),
    ],
)
def test_errors_land_in_their_category(
    error: QueueFull | Timeout | ModelNotFound, category: str
) -> None:
    api = Api(ScriptedBackend(error=error))
    asyncio.run(api.chat())
    counted = {name: number for name, number in api.metrics.num_by_category.items() if number}
    assert counted == {category: 1}


def test_rate_limit_hits_count_one_refusal_once() -> None:
    api = Api(api_key="k", per_ip_per_minute=1)
    for _ in range(3):
        asyncio.run(api.chat(headers=[("x-api-key", "k")]))
    assert api.metrics.as_json(0.0)["rate_limit_hits"] == 2


def test_tokens_per_second() -> None:
    metrics = Metrics(clock=lambda: 0.0)
    finished = Finished(FinishReason.STOP, Usage(5, 20), Timings(decode_s=0.5))
    metrics.count_generation(finished)
    metrics.count_generation(finished)
    assert metrics.as_json(0.0)["average_tokens_per_second"] == 40


def test_model_labels_are_bounded_and_never_what_a_client_wrote() -> None:
    metrics = Metrics()
    for number in range(MAX_MODELS + 50):
        metrics.count_model(f"m{number}")
    assert len(metrics.num_by_model) == MAX_MODELS + 1
    assert metrics.num_by_model["other"] == 50
    api = Api()
    asyncio.run(api.chat(model="secretword"))
    assert api.metrics.num_by_model == {"other": 1}


@pytest.mark.parametrize(
    ("accept", "media_type", "end"),
    [
        ("text/plain", "text/plain; version=", None),
        (
            "application/openmetrics-text; version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
            "# EOF",
        ),
        ("*/*", "application/json", None),
        ("application/json", "application/json", None),
    ],
)
def test_negotiation(accept: str, media_type: str, end: str | None) -> None:
    reply = asyncio.run(Api().get("/metrics", accept=accept))
    assert reply.headers["content-type"].startswith(media_type)
    if end:
        assert reply.body.decode().strip().endswith(end)


def test_prometheus_text() -> None:
    api = Api()
    asyncio.run(api.chat(stream=True))
    asyncio.run(api.chat(temperature=9))
    text = asyncio.run(api.get("/metrics", accept="text/plain")).body.decode()
    lines = text.splitlines()
    for line in (
        'chatsafe_requests_total{mode="stream"} 1.0',
        'chatsafe_requests_total{mode="invalid"} 1.0',
        'chatsafe_requests_by_model_total{model="scripted"} 1.0',
        'chatsafe_streams_total{result="completed"} 1.0',
        'chatsafe_tokens_total{kind="completion"} 3.0',
        'chatsafe_errors_total{type="invalid_value"} 1.0',
        'chatsafe_rate_limited_total{scope="rate"} 0.0',
        "chatsafe_active_streams 0.0",
        "chatsafe_first_token_seconds_count 1.0",
        'chatsafe_request_seconds_bucket{le="+Inf"} 1.0',
    ):
        assert line in lines, line
    assert "python_gc" not in text
    assert "process_" not in text


def test_no_text_of_a_chat_is_in_any_view() -> None:
    api = Api(ScriptedBackend(["secretanswer"]))
    asyncio.run(api.chat(messages=[{"role": "user", "content": "secretword"}], user="secretuser"))
    for accept in ("*/*", "text/plain"):
        assert b"secret" not in asyncio.run(api.get("/metrics", accept=accept)).body
    assert b"secret" not in json.dumps(api.metrics.as_json(0.0)).encode()
