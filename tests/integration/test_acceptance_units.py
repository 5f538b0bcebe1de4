"""The unit half of the acceptance list (U1 to U5), through the parts that a package shows."""

from pathlib import Path

from tests.support.daemon import DaemonProcess, running_daemon
from tests.support.guide import endless_chat

from chatsafe_common.chat import Sampling
from chatsafe_common.errors import QueueFull, RateLimitExceeded
from chatsafe_common.events import Finished, FinishReason, Usage
from chatsafe_config.registry import default_registry
from chatsafe_local_api.limiter import Limiter
from chatsafe_local_api.metrics import Metrics


def test_u1_role_names_and_health(daemon: DaemonProcess) -> None:
    assert daemon.chat("Hi").json()["choices"][0]["message"]["role"] == "assistant"
    refused = daemon.post({"messages": [{"role": "User", "content": "Hi"}]})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].role"
    health = daemon.client.get("/healthz").json()
    assert set(health) == {"status", "model_loaded", "version", "uptime_seconds"}


def test_u2_the_eleventh_of_ten_a_minute_and_the_third_of_two_at_once() -> None:
    limiter = Limiter(
        per_caller_per_minute=10, max_concurrent_per_caller=2, global_per_minute=0, now=0.0
    )
    for _ in range(2):
        assert limiter.admit("a", 0.0) is None
    third = limiter.admit("a", 0.0)
    assert third is not None
    assert third.code == "concurrency_limit_exceeded"
    limiter.release("a", 0.0)
    assert limiter.admit("a", 0.0) is None
    for _ in range(7):
        limiter.release("a", 0.0)
        assert limiter.admit("a", 0.0) is None
    limiter.release("a", 0.0)
    assert isinstance(limiter.admit("a", 0.0), RateLimitExceeded)


def test_u2_a_global_refusal_gives_the_caller_s_share_back() -> None:
    limiter = Limiter(
        per_caller_per_minute=2, max_concurrent_per_caller=1, global_per_minute=1, now=0.0
    )
    assert limiter.admit("a", 0.0) is None
    for _ in range(5):
        assert isinstance(limiter.admit("b", 0.0), RateLimitExceeded)
    assert limiter.num_running == 1
    assert limiter.admit("b", 60.0) is None


def test_u2_a_slot_is_held_while_a_stream_runs_and_free_after_it(tmp_path: Path) -> None:
    flags = ("--api-key", "k" * 32, "--max-concurrent-per-ip", "1")
    with running_daemon(tmp_path / "home", *flags) as daemon:
        daemon.client.headers["authorization"] = "Bearer " + "k" * 32
        with daemon.client.stream("POST", "/v1/chat/completions", json=endless_chat()) as reply:
            lines = reply.iter_lines()  # held: when it goes, so does the connection
            assert next(lines)
            assert daemon.chat("Hi").status_code == 429
        while daemon.client.get("/metrics").json()["active_requests"]:
            """The daemon has yet to see that we left."""
        assert daemon.chat("Hi", temperature=9).status_code == 400
        assert daemon.chat("Hi").status_code == 200


def test_u3_metrics_move_and_errors_land_in_their_category() -> None:
    metrics = Metrics(clock=lambda: 0.0)
    metrics.count_request()
    metrics.begin_answer(is_stream=True)
    assert metrics.as_json(0.0)["active_streams"] == 1
    metrics.count_generation(Finished(FinishReason.STOP, Usage(3, 4)))
    metrics.end_answer(is_stream=True, outcome="completed", duration_s=0.5)
    metrics.count_error(RateLimitExceeded.code)
    metrics.count_error(QueueFull.code)
    view = metrics.as_json(0.0)
    assert view["active_streams"] == 0
    assert view["completed_streams"] == 1
    assert view["total_completion_tokens"] == 4
    categories = view["errors_by_category"]
    assert isinstance(categories, dict)
    assert categories["RateLimited"] == 1
    assert categories["Unavailable"] == 1


def test_u4_request_values_lie_over_the_model_s_defaults() -> None:
    spec = default_registry().model("llama-3.2-3b-instruct-q4_k_m")
    assert spec is not None
    overlaid = Sampling(temperature=0.8, top_k=50).over(spec.sampling)
    assert (overlaid.temperature, overlaid.top_k) == (0.8, 50)
    assert (overlaid.top_p, overlaid.repeat_penalty) == (0.9, 1.15)


def test_u5_a_worker_is_started_ended_replaced_and_leaves_nothing(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "home") as daemon:
        daemon.chat("Hi")
        (first,) = daemon.worker_ids()
        key = (tmp_path / "home/config/chatsafe/admin.key").read_text().strip()
        reply = daemon.client.post(
            "/v1/models/unload",
            json={"model": "chatsafe-guide"},
            headers={"authorization": f"Bearer {key}"},
        )
        assert reply.status_code == 200, reply.text
        assert not Path(f"/proc/{first}").exists()
        daemon.chat("Hi")
        (second,) = daemon.worker_ids()
        assert second != first
    assert not Path(f"/proc/{second}").exists()
