"""`chatsafe status`, and what bare `chatsafe` says."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from chatsafe_cli.group import given_url, json_option, url_option
from chatsafe_cli.render import duration, print_facts, print_json, size
from chatsafe_cli.target import Target, connect, find_target
from chatsafe_client.daemon import Daemon, DaemonStatus
from chatsafe_common.errors import NotReachable


@click.command()
@json_option
@url_option
def status(as_json: bool) -> None:
    """Show whether the daemon is up, where, which models it holds, and who can read along."""
    target = _target()
    found = asyncio.run(_status(target))
    if as_json:
        print_json({"url": target.url} | msgspec.to_builtins(found))
        return
    print_facts(
        [
            ("daemon", f"{found.status}, version {found.version}"),
            ("address", target.url),
            ("up for", duration(found.uptime_seconds)),
            ("default model", found.default_model or "none"),
            ("in memory", _in_memory(found)),
            (
                "queue",
                f"{found.queue.running} running, {found.queue.waiting} waiting "
                f"(at most {found.queue.size})",
            ),
            ("privacy", found.privacy.statement),
        ]
    )


@click.command()
def welcome() -> None:
    """A short status and the next command."""
    for line in asyncio.run(_greeting(_target())):
        click.echo(line)
    click.echo("All commands:  chatsafe --help")


def _target() -> Target:
    return find_target(given_url(), os.environ, Path.cwd())


async def _greeting(target: Target) -> tuple[str, str]:
    """What is there, and the next command."""
    async with connect(target) as connection:
        try:
            found = await Daemon(connection).status()
        except NotReachable:
            return (
                f"ChatSafe: no daemon answers at {target.url}.",
                "Start it:  chatsafe serve"
                if connection.is_local
                else "That is another computer: look at --url and CHATSAFE_URL.",
            )
    model = found.default_model or "no model"
    return (
        f"ChatSafe {found.version} answers at {target.url} with {model}.",
        "Talk to it:  chatsafe chat",
    )


async def _status(target: Target) -> DaemonStatus:
    async with connect(target) as connection:
        return await Daemon(connection).status()


def _in_memory(found: DaemonStatus) -> str:
    models = [
        f"{model.id} ({', '.join(filter(None, [model.state, size(model.memory_bytes)]))})"
        for model in found.models
    ]
    return ", ".join(models) or "no model"
