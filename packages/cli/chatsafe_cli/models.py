"""`chatsafe list`, `ps`, `show` and `stop`: the models and where they are."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from chatsafe_cli.choice import choose
from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.group import given_url, json_option, url_option
from chatsafe_cli.render import duration, note, print_facts, print_json, print_table, size
from chatsafe_cli.target import Target, connect, find_target
from chatsafe_client.daemon import Daemon
from chatsafe_common.backend import ModelStatus
from chatsafe_common.chat import ModelCard


@click.command("list")
@json_option
@url_option
def list_models(as_json: bool) -> None:
    """List the models in the model directory and those that the registry knows.

    The first one answers when no model is named.
    """
    cards = asyncio.run(_cards(_target()))
    if as_json:
        print_json([_plain(card) for card in cards])
        return
    print_table(
        ("MODEL", "SIZE", "CONTEXT", "QUANTIZATION", "STATE"),
        [
            (
                card.id,
                size(card.size_bytes),
                str(card.context_window or ""),
                card.quantization or "",
                _state(card),
            )
            for card in cards
        ],
    )
    if any(_is_refused(card) for card in cards):
        note("`chatsafe doctor` says why a file is refused")


@click.command()
@json_option
@url_option
def ps(as_json: bool) -> None:
    """List the models in memory now, and what they are doing."""
    models = asyncio.run(_in_memory(_target()))
    if as_json:
        print_json(models)
        return
    if not models:
        note("no model is in memory; one is loaded with the first question")
        return
    print_table(
        ("MODEL", "STATE", "MEMORY", "CONTEXT", "RUNNING", "WAITING", "LEAVES MEMORY"),
        [
            (
                model.id,
                model.state,
                size(model.memory_bytes),
                str(model.context_window or ""),
                f"{model.num_running} of {model.max_parallel}",
                str(model.num_waiting),
                _leaving(model),
            )
            for model in models
        ],
    )
    for model in models:
        if model.state == "failed":
            note(f"{model.id} failed: {model.error or 'no reason is known'}")


@click.command()
@click.argument("model")
@json_option
@url_option
def show(model: str, as_json: bool) -> None:
    """Show facts about one model, named by its id or the beginning of it."""
    cards = asyncio.run(_cards(_target()))
    chosen = choose(model, [card.id for card in cards])
    card = next(card for card in cards if card.id == chosen)
    if as_json:
        print_json(_plain(card))
        return
    print_facts(
        [
            ("id", card.id),
            ("name", card.name if card.name != card.id else ""),
            ("state", _state(card)),
            ("context", f"{card.context_window} tokens" if card.context_window else ""),
            ("size", size(card.size_bytes)),
            ("parameters", card.parameters or ""),
            ("architecture", card.architecture or ""),
            ("quantization", card.quantization or ""),
            ("template", card.template or ""),
            ("license", card.license or ""),
            ("source", card.source or ""),
            ("sha256", card.sha256 or ""),
        ]
    )


@click.command()
@click.argument("model")
@url_option
def stop(model: str) -> None:
    """Take a model out of memory. It loads again with the next question."""
    asyncio.run(_stop(_target(), model))


def _target() -> Target:
    return find_target(given_url(), os.environ, Path.cwd())


async def _cards(target: Target) -> Sequence[ModelCard]:
    async with connect(target) as connection:
        return await Daemon(connection).models()


async def _in_memory(target: Target) -> Sequence[ModelStatus]:
    async with connect(target) as connection:
        return (await Daemon(connection).status()).models


async def _stop(target: Target, given: str) -> None:
    async with connect(target) as connection:
        daemon = Daemon(connection, admin_key=target.admin_key)
        in_memory = [model.id for model in (await daemon.status()).models]
        try:
            model = choose(given, in_memory)
        except Failure as failure:
            if failure.exit_code is not ExitCode.NOT_FOUND:
                raise
            model = choose(given, [card.id for card in await daemon.models()])
            note(f"{model} is not in memory")
            return
        await daemon.unload(model)
        note(f"{model} has left memory")


def _state(card: ModelCard) -> str:
    if card.loaded:
        word = "in memory"
    elif card.available:
        word = "ready"
    else:
        word = "refused" if _is_refused(card) else "no file"
    return f"{word}, default" if card.is_default else word


def _is_refused(card: ModelCard) -> bool:
    """Is there a file that the daemon does not serve?"""
    return not card.available and card.size_bytes is not None


def _leaving(model: ModelStatus) -> str:
    if model.state == "failed":
        return ""
    if model.num_running or model.num_waiting:
        return "not while it answers"
    return "never" if model.expires_in_s is None else f"in {duration(model.expires_in_s)}"


def _plain(card: ModelCard) -> dict[str, object]:
    """A card as JSON. What a daemon does not tell about every model is left out."""
    facts = msgspec.structs.asdict(card)
    del facts["sampling"], facts["max_tokens"]
    return facts
