"""What one step computes, as llama.cpp reads it.

The arrays are filled through the buffer protocol, so that numpy stays out of the process: it would
start threads, and a process with threads may not leave the network namespace.
"""

import ctypes
from array import array
from collections.abc import Sequence
from itertools import chain

from chatsafe_runtime.worker.bindings import bindings
from chatsafe_runtime.worker.engine import Slice


class Batch:
    """A native batch whose arrays we own; filled slice by slice without a loop over tokens."""

    def __init__(self, size: int, max_parallel: int) -> None:
        self._tokens = (ctypes.c_int32 * size)()
        self._positions = (ctypes.c_int32 * size)()
        self._num_slots = (ctypes.c_int32 * size)(*([1] * size))
        self._slots = (ctypes.c_int32 * max_parallel)(*range(max_parallel))
        self._slot_pointers = (ctypes.c_size_t * size)()
        self._wants_logits = (ctypes.c_int8 * size)()
        self._slot_addresses = [
            ctypes.addressof(self._slots) + slot * ctypes.sizeof(ctypes.c_int32)
            for slot in range(max_parallel)
        ]
        # Pointer-sized integers of the platform; `array` has no other name for them.
        self._pointer_code = "Q" if ctypes.sizeof(ctypes.c_size_t) == 8 else "L"
        self.native = bindings.llama_batch()
        for name, values in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._num_slots),
            ("seq_id", self._slot_pointers),
            ("logits", self._wants_logits),
        ):
            kind = dict(bindings.llama_batch._fields_)[name]
            setattr(self.native, name, ctypes.cast(values, kind))

    def fill(self, slices: Sequence[Slice]) -> dict[int, int]:
        """Write the slices; returns each slot's index among the batch's logits."""
        tokens = array("i", chain.from_iterable(part.tokens for part in slices))
        positions, pointers = array("i"), array(self._pointer_code)
        wants_logits = bytearray(len(tokens))
        outputs: dict[int, int] = {}
        for part in slices:
            positions.extend(range(part.start, part.start + len(part.tokens)))
            pointers.extend([self._slot_addresses[part.slot]] * len(part.tokens))
            if part.wants_logits:
                outputs[part.slot] = len(positions) - 1
                wants_logits[len(positions) - 1] = 1
        for target, source in (
            (self._tokens, tokens),
            (self._positions, positions),
            (self._slot_pointers, pointers),
            (self._wants_logits, wants_logits),
        ):
            memoryview(target).cast("B")[: memoryview(source).nbytes] = memoryview(source).cast("B")
        self.native.n_tokens = len(tokens)
        return outputs
