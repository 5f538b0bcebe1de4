"""Chats to tensors: what is fed to the network and which of its guesses are scored.

Answers are fixed texts, so all but their first words are trivial after a few minutes. Most
examples therefore stop a little after the point where the answer differs from all others, and the
compute goes where the difficulty is: recognizing the question.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import augment
import corpus
import sums
import torch
from tokenizer import GuideTokenizer
from torch import Tensor

DECIDING = 3.0  # weight of the tokens in which an answer differs from all others


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of equal length. `weights` scores the guess of the next token at each place."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    answer_row: Tensor  # for the intent head: row, place just before the answer, intent number
    answer_place: Tensor
    answer_intent: Tensor


@dataclass(slots=True)
class Row:
    """One encoded chat."""

    ids: list[int]
    weights: list[float]
    answers: list[tuple[int, int]]  # place of the last prompt token, intent number
    gaps: list[tuple[int, int]]  # place, how many positions are skipped there


def deciding_lengths(answers: dict[str, str], tokenizer: GuideTokenizer) -> dict[str, int]:
    """How many tokens of each answer must be said until it differs from every other answer."""
    seen: dict[tuple[int, ...], int] = {}
    encoded = {name: tokenizer.fixed(text) for name, text in answers.items()}
    for ids in encoded.values():
        for n in range(1, len(ids) + 1):
            seen[tuple(ids[:n])] = seen.get(tuple(ids[:n]), 0) + 1
    return {
        name: next((n for n in range(1, len(ids) + 1) if seen[tuple(ids[:n])] == 1), len(ids))
        for name, ids in encoded.items()
    }


class Encoder:
    """Encodes chats for one corpus and one tokenizer."""

    def __init__(self, loaded: corpus.Corpus, tokenizer: GuideTokenizer) -> None:
        self.corpus, self.tokenizer = loaded, tokenizer
        self.answers = corpus.answers_of(loaded)
        self.numbers = {name: n for n, name in enumerate(sorted(self.answers))}
        self.deciding = deciding_lengths(self.answers, tokenizer)

    def row(self, chat: corpus.Chat, rng: Random, user_weight: float, whole: float) -> Row:
        """Encode; each answer is whole with probability `whole`, else cut after it is decided."""
        t = self.tokenizer
        row = Row([], [], [], [])
        stretch = rng.random() < 0.15

        def add(ids: list[int], weight: float) -> None:
            row.ids.extend(ids)
            row.weights.extend([weight] * len(ids))

        if chat.system:
            add([*t.head("system"), *t.encode(chat.system), *t.tail()], 0.0)
        for number, turn in enumerate(chat.turns):
            last = number == len(chat.turns) - 1
            if stretch and row.ids:
                row.gaps.append((len(row.ids), rng.randrange(1, 500)))
            add(t.head("user"), 0.0)
            add(t.encode(turn.user), user_weight)
            add([*t.tail(), *t.head("assistant")], 0.0)
            row.answers.append((len(row.ids) - 1, self.numbers[turn.intent]))
            answer = t.fixed(turn.answer)
            length = self.deciding[turn.intent] + rng.randrange(2, 5)
            is_whole = length >= len(answer) or rng.random() < (whole if last else 0.5)
            decided = self.deciding[turn.intent]
            add(answer[:decided], DECIDING)
            add(answer[decided:] if is_whole else answer[decided:length], 1.0)
            if last and is_whole:
                add([t.im_end], 1.0)
            elif not last:
                add([t.im_end], 1.0 if is_whole else 0.0)
                add(t.fixed("\n"), 0.0)
        return row


def drill(encoder: Encoder, rng: Random) -> Row:
    """A row of sums without questions, scored on the results only.

    The table is 308 facts to remember; asked one by one inside chats each would come up too
    rarely, and this takes half of the tokens.
    """
    t = encoder.tokenizer
    row = Row(t.head("assistant"), [0.0] * len(t.head("assistant")), [], [])
    for line in rng.sample(sums.table(), 6):
        ids = t.fixed(sums.answer(*line))
        asked = ids.index(t.fixed(" =")[0]) + 1
        row.ids += [*ids, *t.tail(), *t.head("assistant")]
        row.weights += [0.0] * asked + [1.0] * (len(ids) - asked)
        row.weights += [1.0] + [0.0] * (len(row.ids) - len(row.weights) - 1)
    return row


def width(length: int) -> int:
    """The padded length of a row.

    Few distinct shapes: oneDNN spends 2 ms on every matrix shape that it has not met, which was
    a quarter of a step.
    """
    step = 4 if length <= 64 else 16 if length <= 160 else 64
    return -(-length // step) * step


def collate(rows: list[Row], pad: int, length: int) -> Batch:
    """Rows of about the same length into one batch; padding stands behind and is not scored."""
    ids = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), pad)
    weights = torch.zeros(len(rows), length)
    positions = torch.arange(length).repeat(len(rows), 1)
    places: list[tuple[int, int, int]] = []
    for n, row in enumerate(rows):
        end = len(row.ids) - 1
        ids[n, :end] = torch.tensor(row.ids[:-1])
        targets[n, :end] = torch.tensor(row.ids[1:])
        weights[n, :end] = torch.tensor(row.weights[1:])
        for place, gap in row.gaps:
            positions[n, place:] += gap
        places += [(n, place, intent) for place, intent in row.answers]
    positions.clamp_(max=2047)
    at = torch.tensor(places or [(0, 0, 0)])
    if not places:  # a batch of sums only: nothing for the intent head
        at = at[:0]
    return Batch(ids, positions, targets, weights, at[:, 0], at[:, 1], at[:, 2])


def long_chat(loaded: corpus.Corpus, rng: Random) -> corpus.Chat:
    """A chat of many turns, or a question buried under a long run of junk."""
    if rng.random() < 0.5:
        count = rng.randrange(5, 12)
        return corpus.Chat("", tuple(corpus.draw_turn(loaded, rng) for _ in range(count)))
    turn = corpus.known_turn(loaded, rng)
    text = augment.with_junk(turn.user, rng, long=True)
    if rng.random() < 0.2:
        text, answer = augment.junk(rng, long=True), loaded.intents[corpus.FALLBACK].answer
        turn = corpus.Turn(text, corpus.FALLBACK, answer)
    return corpus.Chat("", (corpus.Turn(text, turn.intent, turn.answer),))


def _row(encoder: Encoder, rng: Random, user_weight: float, whole: float) -> Row:
    draw = long_chat if rng.random() < 0.005 else corpus.draw
    # guessing the words of questions teaches some English; a third of the rows is enough
    user_weight = user_weight if rng.random() < 0.3 else 0.0
    return encoder.row(draw(encoder.corpus, rng), rng, user_weight, whole)


def batches(
    encoder: Encoder, seed: int, start: int, tokens: int, user_weight: float, whole: float
) -> Iterator[tuple[int, Batch]]:
    """The endless stream of batches, each with the number of the next chat."""
    number, pad = start, encoder.tokenizer.end_of_text
    buckets: dict[int, list[Row]] = {}
    while True:
        rng = Random(f"{seed}:{number}")
        number += 1
        is_drill = rng.random() < 0.06
        row = drill(encoder, rng) if is_drill else _row(encoder, rng, user_weight, whole)
        length = width(len(row.ids) - 1)
        if length > 1200:
            continue
        rows = buckets.setdefault(length, [])
        rows.append(row)
        if len(rows) >= max(1, tokens // length):
            yield number, collate(rows, pad, length)
            rows.clear()
