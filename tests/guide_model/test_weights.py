"""The weights that are shipped: what they are, and how they answer what they never saw."""

import asyncio
import hashlib
from pathlib import Path

import evaluate
import judge
from tests.support.guide import GUIDE

from chatsafe_config.catalog import GUIDE_ID, Catalog
from chatsafe_config.gguf import read_header
from chatsafe_config.registry import default_registry
from chatsafe_runtime.backend import LocalBackend, RuntimeOptions

HELD_OUT = Path(str(judge.__file__)).with_name("heldout")


def test_the_file_is_the_one_that_the_registry_names() -> None:
    spec = default_registry().model(GUIDE_ID)
    assert spec is not None
    assert hashlib.sha256(GUIDE.read_bytes()).hexdigest() == spec.fact("sha256")


def test_the_file_is_small_and_has_room_for_a_chat() -> None:
    header = read_header(GUIDE)
    assert header.size_bytes <= 16_000_000
    assert header.context_length >= 2048


def test_held_out_questions(tmp_path: Path) -> None:
    """What `evaluate.py` reports, held to the goals: greedy answers of the real engine."""
    questions = judge.read_questions(HELD_OUT)
    assert len(questions) >= 210

    async def run() -> evaluate.Tally:
        catalog = Catalog(default_registry(), tmp_path, GUIDE)
        async with LocalBackend(catalog, RuntimeOptions()) as backend:
            return await evaluate.evaluate(backend, questions, is_stressed=False)

    tally = asyncio.run(run())
    share = {topic: tally.right[topic] / number for topic, number in tally.asked.items()}
    off_topic = share.pop(judge.OFF_TOPIC)
    right = sum(tally.right[topic] for topic in share)
    assert right / sum(tally.asked[topic] for topic in share) >= 0.9
    assert min(share.values()) >= 0.8, share
    assert off_topic >= 0.95
    assert tally.num_babble == 0
