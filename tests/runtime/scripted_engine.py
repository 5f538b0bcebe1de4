"""An engine without a model: it says back the last message, letter by letter.

It checks what the loop asks of it: positions without gaps, no more cells, slots or batch tokens
than there are, logits only where they were wanted.
"""

from collections.abc import Callable, Mapping, Sequence

from chatsafe_runtime.worker.engine import Decoded, Limits, Slice
from chatsafe_runtime.worker.sampling import Step

BOS, END, START, TOOL = 256, 257, 258, 259
CONTROL_TOKENS = {"<s>": BOS, "<|end|>": END, "<|start|>": START, "<|tool|>": TOOL}
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>{% endif %}"
)


class ByteVocabulary:
    """One token per byte, and four control tokens."""

    def __init__(self) -> None:
        self.size = 260
        self.control_tokens: Mapping[str, int] = CONTROL_TOKENS
        self.bos: int | None = BOS
        self.adds_bos = True
        self.bos_text = "<s>"
        self.eos_text = "<|end|>"
        self.stripping = (False, False)

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < BOS else b""

    def ends_turn(self, token: int) -> bool:
        return token == END

    def strips(self, token: int) -> tuple[bool, bool]:
        return self.stripping


class CountedSampler:
    """Chooses the next letter, and knows whether it was closed once."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.num_closed = 0
        self._choose = choose

    def sample(self, slot: int) -> int:
        assert self.num_closed == 0
        return self._choose(slot)

    def close(self) -> None:
        self.num_closed += 1


class EchoEngine:
    """The engine. `on_decode` may return how the next decode ends."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.vocabulary = ByteVocabulary()
        self.cells: dict[int, list[int]] = {}
        self.samplers: list[CountedSampler] = []
        self.batches: list[list[Slice]] = []
        self.on_decode: Callable[[Sequence[Slice]], Decoded] = lambda _slices: Decoded.DONE
        self.on_sample: Callable[[int], None] = lambda _slot: None
        self.can_cut = True
        self.num_interrupts = 0
        self._outputs: set[int] = set()

    def decode(self, slices: Sequence[Slice]) -> Decoded:
        assert 0 < sum(len(part.tokens) for part in slices) <= self.limits.batch_size
        assert len({part.slot for part in slices}) == len(slices)
        self.batches.append(list(slices))
        result = self.on_decode(slices)
        for part in slices:
            held = self.cells.setdefault(part.slot, [])
            assert 0 <= part.slot < self.limits.max_parallel
            assert part.start == len(held)
            held.extend(part.tokens)
        assert sum(map(len, self.cells.values())) <= self.limits.num_cells
        self._outputs = {part.slot for part in slices if part.wants_logits}
        return result

    def interrupt(self) -> None:
        self.num_interrupts += 1

    def sampler(self, steps: Sequence[Step]) -> CountedSampler:
        self.samplers.append(CountedSampler(self._choose))
        return self.samplers[-1]

    def _choose(self, slot: int) -> int:
        assert slot in self._outputs
        self.on_sample(slot)
        held = self.cells[slot]
        turn = len(held) - 1 - held[::-1].index(START)
        before = held[:turn]
        asked = before[len(before) - before[::-1].index(START) : turn - 1]
        said = len(held) - turn - 1
        return asked[said] if said < len(asked) else END

    def truncate(self, slot: int, length: int) -> bool:
        if length and not self.can_cut:
            self.cells[slot] = []
            return False
        self.cells[slot] = self.cells.get(slot, [])[:length]
        return True
