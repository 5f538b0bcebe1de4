"""The local models as a `Backend`: pick the model, complete the request, run the generation.

Every model runs in a process of its own (`supervisor.py`); nothing inside a model file is
interpreted here but its header, by `chatsafe_config.gguf`.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from chatsafe_common.backend import EventStream, ModelStatus
from chatsafe_common.chat import ChatRequest, ModelCard, Sampling
from chatsafe_common.errors import ModelLoadFailed
from chatsafe_config.catalog import GUIDE_ID, Catalog, CatalogEntry
from chatsafe_runtime.channel import Load, Submit
from chatsafe_runtime.generation import answer
from chatsafe_runtime.pool import Pool, PoolOptions
from chatsafe_runtime.supervisor import WORKER_COMMAND, Deadlines

# What holds where neither the request nor the registry says anything: temperature and top_p as
# the OpenAI API has them, everything else neutral but for top_k, without which the long tail of a
# small quantized model spells nonsense at temperature 1.
NEUTRAL = Sampling(
    temperature=1.0,
    top_p=1.0,
    top_k=40,
    min_p=0.0,
    typical_p=1.0,
    repeat_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How models run. None is "as the registry says"; seconds, tokens and counts otherwise."""

    context_window: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    parallel: int = 8
    batch_size: int = 512
    queue_size: int = 32
    queue_timeout_s: float = 30.0
    keep_alive_s: float = 300.0
    load_timeout_s: float = 120.0
    stall_timeout_s: float = 30.0
    prefill_timeout_s: float = 120.0


class LocalBackend:
    """Answers chats with the models of a catalog: a `Backend` and a `ModelHost`.

    An async context manager; leaving it stops every worker process. `environ` is what workers
    may inherit from (see `supervisor.worker_environment`), `command` starts one.
    """

    def __init__(
        self,
        catalog: Catalog,
        options: RuntimeOptions,
        environ: Mapping[str, str] = os.environ,
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._catalog = catalog
        self._options = options
        # The catalog reads directories and headers, so it is asked in a thread, by one at a time.
        self._catalog_turn = asyncio.Lock()
        self._pool = Pool(
            PoolOptions(
                queue_size=options.queue_size,
                keep_alive_s=options.keep_alive_s,
                deadlines=Deadlines(
                    load_s=options.load_timeout_s,
                    stall_s=options.stall_timeout_s,
                    prefill_s=options.prefill_timeout_s,
                ),
            ),
            environ,
            command,
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def models(self) -> Sequence[ModelCard]:
        """Every model that can be named, the default one first."""
        async with self._catalog_turn:
            entries = await asyncio.to_thread(self._catalog.entries)
        return [self._card(entry, entry is entries[0]) for entry in entries]

    async def generate(self, request: ChatRequest) -> EventStream:
        """Answer one chat. Raises what `generation.answer` does, and ModelNotFound."""
        entry = await self._resolve(request.model)
        spec = entry.spec
        submit = Submit(
            seq=0,
            messages=request.messages,
            sampling=request.sampling.over(spec.sampling.over(NEUTRAL)),
            max_tokens=spec.max_tokens if request.max_tokens is None else request.max_tokens,
            stop=request.stop,
            clean_labels=(
                spec.clean_labels if request.clean_labels is None else request.clean_labels
            ),
            queue_timeout_s=self._options.queue_timeout_s,
        )
        events = answer(self._pool, entry.id, self._load_frame(entry), submit, request.keep_alive_s)
        async with aclosing(events):
            async for event in events:
                yield event

    def status(self) -> Sequence[ModelStatus]:
        """Every model that is in memory, on its way there, or could not get there."""
        return self._pool.status()

    async def load(self, model: str) -> None:
        """Bring a model into memory, also one that was given up after too many crashes.

        Raises ModelNotFound, ModelLoadFailed, InsufficientMemory or ShuttingDown.
        """
        entry = await self._resolve(model)
        await self._pool.load(entry.id, self._load_frame(entry))

    async def unload(self, model: str) -> None:
        """Take a model out of memory. Raises ModelNotFound or ModelBusy."""
        if not any(status.id == model for status in self.status()):
            model = (await self._resolve(model)).id
        await self._pool.unload(model)

    async def _resolve(self, model: str) -> CatalogEntry:
        async with self._catalog_turn:
            return await asyncio.to_thread(self._catalog.resolve, model)

    def _load_frame(self, entry: CatalogEntry) -> Load:
        """How to load a model. Raises ModelLoadFailed when its file is not there."""
        if not entry.is_available:
            raise _unavailable(entry)
        spec, options = entry.spec, self._options
        stops = (*spec.stop_sequences, spec.eos_token)
        return Load(
            path=str(entry.path),
            context_window=options.context_window or spec.context_window,
            max_parallel=options.parallel,
            batch_size=options.batch_size,
            threads=options.threads or spec.threads or 0,
            gpu_layers=spec.gpu_layers if options.gpu_layers is None else options.gpu_layers,
            template=self._catalog.template_source(entry),
            stop=tuple(dict.fromkeys(stop for stop in stops if stop)),
        )

    def _card(self, entry: CatalogEntry, is_default: bool) -> ModelCard:
        spec, header = entry.spec, entry.header
        return ModelCard(
            id=entry.id,
            name=spec.name,
            context_window=self._options.context_window or spec.context_window,
            available=entry.is_available,
            is_default=is_default,
            loaded=self._pool.is_loaded(entry.id),
            created=int(entry.modified_s),
            size_bytes=entry.size_bytes,
            quantization=spec.fact("quantization") or (header.quantization if header else None),
            sha256=spec.fact("sha256"),
            parameters=spec.fact("parameters"),
            architecture=header.architecture if header else spec.fact("family"),
            license=spec.fact("license"),
            source=spec.fact("source"),
            template=spec.template_id,
            sampling=spec.sampling,
            max_tokens=spec.max_tokens,
        )


def _unavailable(entry: CatalogEntry) -> ModelLoadFailed:
    spec = entry.spec
    if entry.problem is not None:
        return ModelLoadFailed(
            f"The file {spec.path} of the model {spec.id} is not used: {entry.problem}. Put a "
            "good one into the model directory."
        )
    if spec.id == GUIDE_ID:
        return ModelLoadFailed(
            "The built-in model's file is missing from this installation. Install ChatSafe again."
        )
    file = spec.fact("file") or spec.path
    source = spec.fact("source") or "its publisher"
    return ModelLoadFailed(
        f"The model {spec.id} is not on this machine. Download {file} from {source} and put it "
        f"into the model directory as {spec.path}; no restart is needed. `chatsafe config show` "
        "names the directory (runtime.model_dir)."
    )
