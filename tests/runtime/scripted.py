"""What the daemon-side tests share: a tiny model file, commands, a backend on scripted workers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from tests.config.gguf_writer import good_draft

from chatsafe_common.chat import ChatRequest, Message
from chatsafe_common.events import ChatEvent, TextDelta
from chatsafe_config.catalog import Catalog
from chatsafe_config.registry import Registry, parse_registry
from chatsafe_runtime.backend import LocalBackend, RuntimeOptions

PROGRAM = Path(__file__).with_name("scripted_worker.py")
# Long enough for a loaded machine, short enough to notice a hang.
PATIENCE_S = 20.0

REGISTRY = """
{"version": "1.0",
 "templates": [{"id": "plain", "user_prefix": "Q: ", "user_suffix": "\\n",
                "assistant_prefix": "A: ", "assistant_suffix": "\\n"}],
 "models": [
  {"id": "first", "path": "first.gguf", "ctx_window": 256, "template_id": "plain",
   "stop_sequences": ["</a>", "</b>"], "eos_token": "</s>", "default": true,
   "defaults": {"temperature": 0.7, "top_k": 20, "max_tokens": 33},
   "resources": {"gpu_layers": 3, "threads": 2},
   "metadata": {"source": "example/first-gguf", "license": "MIT", "quantization": "Q4_K_M"}},
  {"id": "second", "path": "second.gguf", "ctx_window": 4096, "template_id": "gguf"},
  {"id": "absent", "path": "absent.gguf", "ctx_window": 512, "template_id": "plain",
   "metadata": {"source": "example/absent-gguf"}}]}
"""


def command(mode: str = "ok") -> list[str]:
    return [sys.executable, str(PROGRAM), mode]


def registry() -> Registry:
    return parse_registry(REGISTRY, "test registry")


@cache
def model_bytes() -> bytes:
    """A GGUF file that passes the header check, made for a context of 512 tokens."""
    return good_draft().encode()


def write_models(folder: Path, *names: str) -> Path:
    """Model files with these ids in a model directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.gguf").write_bytes(model_bytes())
    return folder


@asynccontextmanager
async def local_backend(
    folder: Path, mode: str = "ok", options: RuntimeOptions | None = None
) -> AsyncIterator[LocalBackend]:
    """A backend over the models first and second, under a time limit."""
    catalog = Catalog(registry(), write_models(folder / "models", "first", "second"))
    async with (
        asyncio.timeout(PATIENCE_S),
        LocalBackend(catalog, options or RuntimeOptions(), os.environ, command(mode)) as backend,
    ):
        yield backend


def chat(
    text: str, model: str = "", *, keep_alive_s: float | None = None, request_id: str = "r"
) -> ChatRequest:
    return ChatRequest(
        request_id=request_id,
        messages=(Message("user", text),),
        model=model,
        keep_alive_s=keep_alive_s,
    )


async def ask(backend: LocalBackend, request: ChatRequest | str) -> str:
    """The whole text of one answer."""
    if isinstance(request, str):
        request = chat(request)
    pieces: list[ChatEvent] = [event async for event in backend.generate(request)]
    return " ".join(event.text for event in pieces if isinstance(event, TextDelta))


def is_alive(process_id: int | None) -> bool:
    """Whether a process exists, as a zombie or not."""
    assert process_id is not None
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop run until something that nobody announces has happened."""
    while not is_so():  # noqa: ASYNC110 - process tables and timers raise no event
        await asyncio.sleep(0.002)


def open_descriptors() -> int:
    """How many descriptors this process holds; only where the system lists them."""
    return len(list(Path("/proc/self/fd").iterdir()))


def worker_id(backend: LocalBackend, model: str = "first") -> int:
    """The process id of a model that is in memory."""
    (found,) = [status.process_id for status in backend.status() if status.id == model]
    assert found is not None
    return found
