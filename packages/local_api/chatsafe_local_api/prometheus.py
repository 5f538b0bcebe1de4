"""The metrics as Prometheus and OpenMetrics text.

Imported at the first scrape: the client library brings an HTTP server and TLS along, which the
way to the first answer does not need. The registry is our own, so no process or interpreter
metrics join in.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from chatsafe_local_api.metrics import BUCKETS_S, Metrics, Series


def metrics_text(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """The text and its media type, OpenMetrics when `accept` asks for it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_View(metrics))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _View(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        m = self._metrics
        yield GaugeMetricFamily("chatsafe_uptime_seconds", "Seconds since the start.", m.uptime_s)
        answered = m.num_by_mode.total()
        yield _counter(
            "chatsafe_requests",
            "Chat requests; invalid ones never had a mode.",
            "mode",
            {
                "stream": m.num_by_mode["stream"],
                "json": m.num_by_mode["json"],
                "invalid": m.total_requests - answered,
            },
        )
        yield _counter(
            "chatsafe_requests_by_model", "Answers begun, by model id.", "model", m.num_by_model
        )
        yield GaugeMetricFamily(
            "chatsafe_active_requests", "Chats being answered.", m.active_requests
        )
        yield GaugeMetricFamily(
            "chatsafe_active_streams", "Of these, streamed ones.", m.active_streams
        )
        outcomes = m.num_streams_by_outcome
        yield _counter(
            "chatsafe_streams",
            "Streams that ended, by how.",
            "result",
            {
                name: outcomes.get(name, 0)
                for name in ("completed", "failed", "cancelled", "refused")
            },
        )
        yield CounterMetricFamily("chatsafe_dropped_frames", "Always 0: nothing is dropped.", 0)
        yield CounterMetricFamily(
            "chatsafe_chunks_sent", "Stream chunks sent.", m.total_chunks_sent
        )
        yield _histogram(
            "chatsafe_first_token_seconds", "From the request to its first text.", m.first_token
        )
        yield _histogram(
            "chatsafe_request_seconds", "From the request to the answer's end.", m.duration
        )
        yield _counter(
            "chatsafe_tokens",
            "Tokens read and written.",
            "kind",
            {"prompt": m.total_prompt_tokens, "completion": m.total_completion_tokens},
        )
        yield GaugeMetricFamily(
            "chatsafe_tokens_per_second", "Written, mean over all answers.", m.tokens_per_second
        )
        yield _counter("chatsafe_errors", "Errors told to clients.", "type", m.num_by_code)
        yield CounterMetricFamily("chatsafe_cancelled", "Chats whose client left.", m.num_cancelled)
        yield CounterMetricFamily("chatsafe_timeouts", "Chats out of time.", m.num_timed_out)
        yield _counter(
            "chatsafe_rate_limited", "Refusals of the limiter.", "scope", m.num_refused_by_scope
        )


def _counter(name: str, text: str, label: str, values: "dict[str, int]") -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _histogram(name: str, text: str, series: Series) -> HistogramMetricFamily:
    buckets = [
        (str(limit), float(number))
        for limit, number in zip(BUCKETS_S, series.num_up_to, strict=True)
    ]
    buckets.append(("+Inf", float(series.count)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=series.total_s)
