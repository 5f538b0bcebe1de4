"""`chatsafe chat` and `chatsafe run`: talk to a model, or get one answer."""

import asyncio
import os
import sys
from pathlib import Path

import click

from chatsafe_cli.answer import answer_writer
from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.group import given_url, url_option
from chatsafe_cli.line_input import LineInput, PlainInput, TerminalInput
from chatsafe_cli.render import is_interactive, note, size
from chatsafe_cli.repl import Repl
from chatsafe_cli.session import ChatSession
from chatsafe_cli.slash import COMMANDS
from chatsafe_cli.target import connect, find_target
from chatsafe_client.connection import Connection
from chatsafe_client.http import HttpBackend

MAX_INPUT_BYTES = 32 * 1024 * 1024  # what the daemon takes in one request

model_option = click.option(
    "-m", "--model", default="", metavar="MODEL", help="Model id, or the beginning of one."
)


@click.command()
@model_option
@url_option
def chat(model: str) -> None:
    """Chat with a model.

    Nothing that is said is kept on disk. /help lists the commands of the chat; Ctrl-C stops an
    answer, Ctrl-D leaves.
    """
    _converse(model)


@click.command()
@click.argument("words", nargs=-1, metavar="[MODEL] [PROMPT]")
@model_option
@url_option
def run(words: tuple[str, ...], model: str) -> None:
    """Get one answer, or chat when there is no prompt.

    A first word that contains a blank is the prompt for the default model. What comes through
    stdin is added to the prompt: chatsafe run "Summarise this:" < text > summary
    """
    model, prompt = _split(words, model)
    if not sys.stdin.isatty():
        given = _read_stdin()
        prompt = f"{prompt}\n\n{given}" if prompt and given.strip() else prompt or given
        if not prompt.strip():
            raise Failure(
                "there is no question",
                why=f"{model!r} names the model, and stdin was empty"
                if model
                else "no prompt was given, and stdin was empty",
                fix='chatsafe run "Hello, how are you?"; a single word needs -m MODEL before it',
                exit_code=ExitCode.USAGE,
            )
    if prompt.strip():
        asyncio.run(_answer_once(model, prompt))
    else:
        _converse(model)


def _read_stdin() -> str:
    data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise Failure(
            "stdin is too long", why=f"the limit is {size(MAX_INPUT_BYTES)}", fix="send a part"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Failure("stdin is no text", why="it is not UTF-8", fix="send a text") from None


def _split(words: tuple[str, ...], model: str) -> tuple[str, str]:
    """The model and the prompt that were typed."""
    if model or not words or any(blank in words[0] for blank in " \t\n"):
        return model, " ".join(words)
    return words[0], " ".join(words[1:])


async def _answer_once(model: str, prompt: str) -> None:
    async with _connect() as connection:
        session = ChatSession(HttpBackend(connection), answer_writer())
        if model:
            await session.choose_model(model)
        await session.ask(prompt)


def _converse(model: str) -> None:
    lines: LineInput = PlainInput(sys.stdin)
    if is_interactive():
        lines = TerminalInput(list(COMMANDS))
    with asyncio.Runner() as runner:
        connection = _connect()
        try:
            session = ChatSession(HttpBackend(connection), answer_writer())
            runner.run(_welcome(session, connection, model))
            exit_code = Repl(session, lines, runner).run()
        finally:
            runner.run(connection.close())
    click.get_current_context().exit(exit_code)


async def _welcome(session: ChatSession, connection: Connection, model: str) -> None:
    if model:
        await session.choose_model(model)
    card = await session.card()
    note(f"ChatSafe, model {card.id if card else 'unknown'}. /help for commands, Ctrl-D leaves.")
    note(privacy_sentence(connection))


def privacy_sentence(connection: Connection) -> str:
    """Who can read what is typed, in the words of the badge `local`, or plainly."""
    if connection.is_local:
        return "Nothing you type leaves this computer."
    return f"What you type goes to {connection.address}. Whoever runs it can read it."


def _connect() -> Connection:
    return connect(find_target(given_url(), os.environ, Path.cwd()))
