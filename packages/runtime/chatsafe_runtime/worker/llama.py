"""The engine on llama.cpp: one loaded model.

One batch for all sequences in one unified KV memory, a C sampler chain per sequence.
"""

import ctypes
import math
import sys
from collections.abc import Sequence
from typing import Any, Final

from chatsafe_runtime.worker.batch import Batch
from chatsafe_runtime.worker.bindings import bindings, supports_gpu
from chatsafe_runtime.worker.engine import Decoded, EngineError, Limits, Slice
from chatsafe_runtime.worker.sampling import (
    Draw,
    Greedy,
    LogitBias,
    MinP,
    Penalties,
    Step,
    Temperature,
    TopK,
    TopP,
    TypicalP,
)
from chatsafe_runtime.worker.vocabulary import LlamaVocabulary

_DEFAULT_WINDOW_TOKENS: Final = 8192
_PHYSICAL_BATCH_TOKENS: Final = 512
_FLASH_WHERE_POSSIBLE: Final = -1  # LLAMA_FLASH_ATTN_TYPE_AUTO
_FLASH_OFF: Final = 0
_KV_BYTES_PER_VALUE: Final = 2  # half precision
_BANNED_BELOW: Final = -100.0


def _native_step(step: Step, vocabulary_size: int) -> Any:
    match step:
        case LogitBias(biases):
            items = (bindings.llama_logit_bias * len(biases))()
            for item, (token, bias) in zip(items, biases, strict=True):
                item.token = token
                item.bias = float("-inf") if bias <= _BANNED_BELOW else bias
            return bindings.llama_sampler_init_logit_bias(vocabulary_size, len(biases), items)
        case Penalties(window, repeat, frequency, presence):
            return bindings.llama_sampler_init_penalties(
                vocabulary_size, window, repeat, frequency, presence
            )
        case TopK(k):
            return bindings.llama_sampler_init_top_k(k)
        case TypicalP(p):
            return bindings.llama_sampler_init_typical(p, 1)
        case TopP(p):
            return bindings.llama_sampler_init_top_p(p, 1)
        case MinP(p):
            return bindings.llama_sampler_init_min_p(p, 1)
        case Temperature(t):
            return bindings.llama_sampler_init_temp(t)
        case Greedy():
            return bindings.llama_sampler_init_greedy()
        case Draw(seed):
            return bindings.llama_sampler_init_dist(seed)


class LlamaEngine:
    """One loaded model with its memory for running sequences."""

    def __init__(
        self,
        path: str,
        *,
        context_window: int,
        max_parallel: int,
        batch_size: int,
        threads: int,
        gpu_layers: int,
        kv_budget_bytes: int,
        flash_attention: bool = True,
    ) -> None:
        """Load. Raises EngineError with a reason, or the native code aborts the process.

        `context_window` 0: what the model was trained for, at most 8192. `kv_budget_bytes` limits
        how many whole windows the memory holds; one is always there. `flash_attention` saves
        memory that grows with the context, and time on a GPU.
        """
        bindings.llama_backend_init()
        self._model = _load_model(path, gpu_layers)
        trained = bindings.llama_model_n_ctx_train(self._model)
        window = min(context_window or _DEFAULT_WINDOW_TOKENS, trained or _DEFAULT_WINDOW_TOKENS)
        windows = min(max_parallel, kv_budget_bytes // (self._kv_bytes_per_token() * window))
        self.limits = Limits(
            context_window=window,
            num_cells=window * max(1, windows),
            max_parallel=max_parallel,
            # A step must have room for every sequence's token and some prompt beside them.
            batch_size=max(batch_size, 2 * max_parallel),
        )
        self.vocabulary = LlamaVocabulary(bindings.llama_model_get_vocab(self._model))
        self._context = self._make_context(threads, flash_attention)
        self._memory = bindings.llama_get_memory(self._context)
        self._batch = Batch(self.limits.batch_size, max_parallel)
        self._outputs: dict[int, int] = {}
        # The engine asks `strlen(flag)` between two graph nodes whether to stop: C code that
        # needs no interpreter lock, so asking costs nothing. A Python callback would run a
        # thousand times per token.
        self._interrupt_flag = ctypes.create_string_buffer(2)
        c_library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        strlen = ctypes.cast(c_library.strlen, bindings.ggml_abort_callback)
        self._interrupt_callback = strlen
        bindings.llama_set_abort_callback(
            self._context, strlen, ctypes.cast(self._interrupt_flag, ctypes.c_void_p)
        )

    def own_template(self) -> str | None:
        """The chat template inside the file."""
        text = bindings.llama_model_chat_template(self._model, None)
        return text.decode("utf-8", "replace") if text else None

    def _kv_bytes_per_token(self) -> int:
        """From the header; too much for models whose layers do not all look back at everything."""
        model = self._model
        heads = max(1, bindings.llama_model_n_head(model))
        head_size = max(1, bindings.llama_model_n_embd(model) // heads)
        kind = self._metadata("general.architecture") or ""
        sizes = [
            int(size) if size is not None and size.isdecimal() else head_size
            for size in (
                self._metadata(f"{kind}.attention.key_length"),
                self._metadata(f"{kind}.attention.value_length"),
            )
        ]
        # The first layer of a hybrid model may have no heads of this sort.
        kv_heads: int = bindings.llama_model_n_head_kv(model) or heads
        values = int(bindings.llama_model_n_layer(model)) * kv_heads * sum(sizes)
        return max(1, values * _KV_BYTES_PER_VALUE)

    def _metadata(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        size = bindings.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def _make_context(self, threads: int, flash_attention: bool) -> Any:
        parameters = bindings.llama_context_default_params()
        parameters.n_ctx = self.limits.num_cells
        parameters.n_batch = self.limits.batch_size
        parameters.n_ubatch = min(self.limits.batch_size, _PHYSICAL_BATCH_TOKENS)
        parameters.n_seq_max = self.limits.max_parallel
        # One row of logits per sequence; the default reserves one per batch token (260 MB with a
        # vocabulary of 128k).
        parameters.n_outputs_max = self.limits.max_parallel
        parameters.kv_unified = True
        parameters.flash_attn_type = _FLASH_WHERE_POSSIBLE if flash_attention else _FLASH_OFF
        parameters.n_threads = threads
        parameters.n_threads_batch = threads
        parameters.no_perf = True
        context = bindings.llama_init_from_model(self._model, parameters)
        if not context:
            raise EngineError(
                "The engine could not make a context for this model, most likely for lack of "
                "memory. Set a smaller runtime.context_window or runtime.parallel."
            )
        return context

    def decode(self, slices: Sequence[Slice]) -> Decoded:
        self._interrupt_flag[0] = b"\0"
        self._outputs = self._batch.fill(slices)
        result = bindings.llama_decode(self._context, self._batch.native)
        return _RESULTS.get(result, Decoded.FAILED)

    def warm_up(self) -> None:
        """One token through the whole model, so that the first answer does not wait for its pages.

        Raises EngineError when that fails or gives no numbers (damaged weights).
        """
        token = self.vocabulary.bos or 0
        result = self.decode([Slice(0, 0, [token], wants_logits=True)])
        if result is not Decoded.DONE:
            raise EngineError("The engine loaded the model but could not compute a token with it.")
        logits = bindings.llama_get_logits_ith(self._context, -1)
        if any(map(math.isnan, logits[: self.vocabulary.size])):
            raise EngineError("The model's weights are damaged: it computes no numbers.")
        self.truncate(0, 0)

    def interrupt(self) -> None:
        self._interrupt_flag[0] = b"\1"

    def sampler(self, steps: Sequence[Step]) -> "LlamaSampler":
        return LlamaSampler(self, steps)

    def sample(self, chain: Any, slot: int) -> int:
        """The token that a native sampler chain chooses for a slot."""
        return int(bindings.llama_sampler_sample(chain, self._context, self._outputs[slot]))

    def truncate(self, slot: int, length: int) -> bool:
        if bindings.llama_memory_seq_rm(self._memory, slot, length, -1):
            return True
        bindings.llama_memory_seq_rm(self._memory, slot, -1, -1)
        return False

    def close(self) -> None:
        """Give everything back. Samplers are closed before."""
        bindings.llama_free(self._context)
        bindings.llama_model_free(self._model)


class LlamaSampler:
    """A native sampler chain, freed exactly once."""

    def __init__(self, engine: LlamaEngine, steps: Sequence[Step]) -> None:
        self._engine = engine
        parameters = bindings.llama_sampler_chain_default_params()
        parameters.no_perf = True
        self._chain = bindings.llama_sampler_chain_init(parameters)
        for step in steps:
            # The chain owns what is added to it.
            native = _native_step(step, engine.vocabulary.size)
            bindings.llama_sampler_chain_add(self._chain, native)

    def sample(self, slot: int) -> int:
        return self._engine.sample(self._chain, slot)

    def close(self) -> None:
        if self._chain is not None:
            bindings.llama_sampler_free(self._chain)
            self._chain = None


_RESULTS: Final = {0: Decoded.DONE, 1: Decoded.FULL, 2: Decoded.INTERRUPTED}


def _load_model(path: str, gpu_layers: int) -> Any:
    parameters = bindings.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers if supports_gpu() else 0
    model = bindings.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        raise EngineError(
            "The engine refused the model file: it is damaged, or of a kind that this version of "
            "the engine does not know. Fetch the file again, or use another model."
        )
    if bindings.llama_model_has_encoder(model) or not bindings.llama_model_has_decoder(model):
        raise EngineError("This model does not answer chats: it has an encoder. Use another one.")
    return model
