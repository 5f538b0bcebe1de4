"""Trains the guide model on a CPU, with checkpoints, and can go on from one.

Muon moves the matrices, AdamW the embedding and the gains. The rate rises, stays and falls
linearly to zero at the end of the budget, so a run can be continued on a larger corpus at the full
rate. A running average of the weights is what gets evaluated and exported.

    python train.py --work /tmp/guide --name final --steps 20000
"""

import argparse
import copy
import signal
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import batches
import corpus
import torch
from model import Guide, Shape
from tokenizer import GuideTokenizer
from torch import Tensor
from torch.nn import functional as F

AVERAGE_EVERY = 5


@dataclass(slots=True)
class State:
    """What a checkpoint holds besides the weights."""

    step: int = 0
    chat: int = 0


def optimizers(model: Guide, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    own = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in own]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(rest, lr=rate * 0.15, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def loss_of(model: Guide, batch: batches.Batch, head_weight: float) -> tuple[Tensor, Tensor]:
    """Score of the next-token guesses plus, weighted, of naming the intent."""
    hidden = model(batch.ids, batch.positions).flatten(0, 1)
    scored = batch.weights.flatten().nonzero().squeeze(1)
    weights = batch.weights.flatten()[scored]
    # filled up to a multiple of 256, see batches.width
    spare = -len(scored) % 256
    scored = torch.cat((scored, scored[:1].expand(spare)))
    weights = torch.cat((weights, torch.zeros(spare)))
    logits = model.logits(hidden.index_select(0, scored)).float()
    each = F.cross_entropy(logits, batch.targets.flatten()[scored], reduction="none")
    words = (each * weights).sum() / weights.sum()
    places = batch.answer_row * batch.ids.shape[1] + batch.answer_place
    named = model.intent_head(hidden.index_select(0, places))
    intent = F.cross_entropy(named.float(), batch.answer_intent, reduction="sum")
    return words + head_weight * intent / max(1, len(places)), words.detach()


def save(path: Path, model: Guide, average: Guide, state: State, names: list[str]) -> None:
    """Write the checkpoint in one move, so a crash leaves the old one."""
    temporary = path.with_suffix(".new")
    torch.save(
        {
            "shape": model.shape.as_dict(),
            "model": model.state_dict(),
            "average": average.state_dict(),
            "step": state.step,
            "chat": state.chat,
            "intents": names,
        },
        temporary,
    )
    temporary.replace(path)


def load_weights(model: Guide, path: Path, names: list[str], which: str = "model") -> State:
    """Read a checkpoint; rows of the intent head are matched by intent id."""
    saved = torch.load(path, weights_only=True)
    weights = saved[which]
    old = {name: n for n, name in enumerate(saved["intents"])}
    for key in ("intent_head.weight", "intent_head.bias"):
        fresh = model.state_dict()[key].clone()
        for n, name in enumerate(names):
            if name in old:
                fresh[n] = weights[key][old[name]]
        weights[key] = fresh
    model.load_state_dict(weights)
    return State(saved["step"], saved.get("chat", 0))


@torch.no_grad()
def exact(
    model: Guide, encoder: batches.Encoder, turns: list[corpus.Turn]
) -> tuple[float, list[corpus.Turn]]:
    """Share of questions whose whole answer is what greedy decoding would say, and the misses."""
    model.eval()
    missed: list[corpus.Turn] = []
    rows = [(turn, encoder.row(corpus.Chat("", (turn,)), Random(0), 0.0, 1.0)) for turn in turns]
    rows.sort(key=lambda r: len(r[1].ids))
    for n in range(0, len(rows), 64):
        part = rows[n : n + 64]
        length = batches.width(max(len(r.ids) for _, r in part) - 1)
        batch = batches.collate([r for _, r in part], encoder.tokenizer.end_of_text, length)
        with torch.autocast("cpu", torch.bfloat16):
            guess = model.logits(model(batch.ids, batch.positions)).argmax(-1)
        right = ((guess == batch.targets) | (batch.weights == 0)).all(1).tolist()
        missed += [turn for (turn, _), ok in zip(part, right, strict=True) if not ok]
    return 1 - len(missed) / max(1, len(rows)), missed


def probes(loaded: corpus.Corpus) -> dict[str, list[corpus.Turn]]:
    """Fixed questions for the evaluation now and then."""
    rng = Random("probe")
    unseen = []
    for name, templates in loaded.held_back.items():
        for template in templates:
            text = corpus.expand(template, loaded.classes, rng)
            unseen.append(corpus.Turn(text, name, loaded.intents[name].answer))
    rng.shuffle(unseen)
    drawn = list(islice(corpus.chats(loaded, seed=99), 500))
    seen = [c.turns[-1] for c in drawn]
    known = [t for t in seen if t.intent in loaded.intents and t.intent != corpus.FALLBACK]
    return {
        "unseen": unseen[:600],
        "known": known,
        "offtopic": [t for t in seen if t.intent == corpus.FALLBACK],
        "sums": [t for t in seen if t.intent.startswith("sum")],
    }


def run(arguments: argparse.Namespace) -> None:
    """Train until the budget is spent."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    tokenizer = GuideTokenizer(work / "tokenizer.json")
    loaded = corpus.load(hold_back=arguments.hold_back)
    encoder = batches.Encoder(loaded, tokenizer)
    names = sorted(encoder.numbers, key=encoder.numbers.__getitem__)
    shape = Shape(tokenizer.size, arguments.width, arguments.layers, hidden=arguments.hidden)
    model = Guide(shape, len(names), arguments.dropout)
    state = State()
    if arguments.resume:
        state = load_weights(model, arguments.resume, names)
    average = copy.deepcopy(model)
    if arguments.resume:
        load_weights(average, arguments.resume, names, "average")
    total = sum(p.numel() for p in model.parameters())
    print(f"{total / 1e6:.2f} M parameters, {len(names)} answers, starts at step {state.step}")
    optimizer = optimizers(model, arguments.rate)
    bases = [group["lr"] for o in optimizer for group in o.param_groups]
    stream = batches.batches(
        encoder,
        arguments.seed,
        state.chat,
        arguments.tokens,
        arguments.user_weight,
        arguments.whole,
    )
    probe = probes(loaded)
    began = saved_at = time.monotonic()
    first_step, words_seen, running = state.step, 0, 0.0
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    while not stop:
        clock = time.monotonic()
        done = (
            (state.step - first_step) / arguments.steps
            if arguments.steps
            else (clock - began) / 60 / arguments.minutes
        )
        if done >= 1:
            break
        state.chat, batch = next(stream)
        warm = min(1.0, (state.step - first_step + 1) / 100)
        rate = warm * min(1.0, (1 - done) / arguments.decay)
        for group, base in zip((g for o in optimizer for g in o.param_groups), bases, strict=True):
            group["lr"] = base * rate
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss, shown = loss_of(model, batch, arguments.head_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizer:
            o.step()
            o.zero_grad(set_to_none=True)
        state.step += 1
        words_seen += batch.ids.numel()
        running = shown.item() if not running else 0.98 * running + 0.02 * shown.item()
        if state.step % AVERAGE_EVERY == 0:
            keep = min(0.99, (state.step - first_step) / (state.step - first_step + 50))
            keep = max(keep, 0.9) if arguments.resume else keep
            with torch.no_grad():
                for mean, now in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(now, 1 - keep)
        if state.step % 50 == 0:
            speed = words_seen / (time.monotonic() - began)
            print(f"{state.step} {done:.3f} loss {running:.4f} {speed:.0f} tokens/s", flush=True)
        if state.step % arguments.probe_every == 0:
            shares = {k: exact(average, encoder, turns)[0] for k, turns in probe.items()}
            print("  probe", " ".join(f"{k} {v:.3f}" for k, v in shares.items()), flush=True)
        if clock - saved_at > 180:
            saved_at = clock
            save(work / f"{arguments.name}.pt", model, average, state, names)
    save(work / f"{arguments.name}.pt", model, average, state, names)
    for kind, turns in probe.items() if not stop else ():
        share, missed = exact(average, encoder, turns)
        print(f"end: {kind} {share:.3f} of {len(turns)}")
        for turn in missed[: arguments.misses]:
            print(f"  {turn.intent}: {turn.user!r}")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="holds tokenizer.json")
    parser.add_argument("--name", default="guide", help="name of the checkpoint")
    parser.add_argument("--resume", type=Path, help="checkpoint to go on from")
    parser.add_argument("--steps", type=int, default=0, help="budget in steps")
    parser.add_argument("--minutes", type=float, default=60.0, help="budget without --steps")
    parser.add_argument("--decay", type=float, default=0.8, help="share of the budget")
    parser.add_argument("--rate", type=float, default=0.016)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=3072, help="per batch")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=704)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--user-weight", type=float, default=0.1)
    parser.add_argument("--head-weight", type=float, default=0.2)
    parser.add_argument("--whole", type=float, default=0.2, help="share of whole answers")
    parser.add_argument("--hold-back", type=int, default=0, help="keep every n-th template out")
    parser.add_argument("--probe-every", type=int, default=500)
    parser.add_argument("--misses", type=int, default=60)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
