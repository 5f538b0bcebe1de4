"""The commands of the chat, each a line that begins with a slash."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from shlex import quote

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.private_files import (
    edit_text,
    load_conversation,
    read_attachment,
    save_conversation,
)
from chatsafe_cli.render import note, size
from chatsafe_cli.sampling_options import UNSET, chosen_options, set_option
from chatsafe_cli.session import ChatSession
from chatsafe_common.nearest import nearest

# Roughly what a token of English text holds; for a warning, not for a decision.
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """How a command is typed, what it does, and the function that does it.

    The function may return a text to send as a question.
    """

    usage: str
    help: str
    run: Callable[[ChatSession, str], Awaitable[str | None]]


class Leave(Exception):
    """The person said good-bye."""


async def run_command(session: ChatSession, line: str) -> str | None:
    """Obeys `line`; returns a question to ask, if that is what it leads to.

    Raises Failure, ChatSafeError, and Leave.
    """
    name, _, argument = line.partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise Failure(
            f"there is no command {name!r}.{nearest(name, COMMANDS)}",
            fix="/help lists them; to send a text that begins with /, put a blank before it",
            exit_code=ExitCode.USAGE,
        )
    return await command.run(session, argument.strip())


async def _help(session: ChatSession, argument: str) -> None:
    del session, argument
    rows = [(command.usage, command.help) for command in COMMANDS.values()]
    rows += [
        ('"""', "begins and ends a message of several lines"),
        ("Ctrl-C", "stops the answer; twice leaves"),
    ]
    width = max(len(usage) for usage, _ in rows)
    for usage, text in rows:
        note(f"{usage.ljust(width)}  {text}")


async def _bye(session: ChatSession, argument: str) -> None:
    del session, argument
    raise Leave


async def _clear(session: ChatSession, argument: str) -> None:
    del argument
    session.conversation.clear()
    session.attachment = ""
    note("(the conversation is forgotten)")


async def _model(session: ChatSession, argument: str) -> None:
    if argument:
        note(f"(the model is now {await session.choose_model(argument)})")
        return
    for card in await session.backend.models():
        is_chosen = card.id == session.model or (not session.model and card.is_default)
        note(f"{'*' if is_chosen else ' '} {card.id}{'' if card.available else '  (no file)'}")


async def _system(session: ChatSession, argument: str) -> None:
    if argument:
        session.conversation.system = "" if argument == UNSET else argument
    note(
        f"system prompt: {session.conversation.system}"
        if session.conversation.system
        else "(no system prompt; the model's own is used)"
    )


async def _set(session: ChatSession, argument: str) -> None:
    name, _, value = argument.partition(" ")
    if not name:
        chosen = chosen_options(session)
        note(", ".join(f"{key} {text}" for key, text in chosen) or "(nothing is set)")
        return
    set_option(session, name, value.strip())
    note(f"({name} is now {value.strip()})")


async def _show(session: ChatSession, argument: str) -> None:
    del argument
    card = await session.card()
    if card is not None:
        note(f"model: {card.id}, context {card.context_window or 'unknown'} tokens")
    note(f"system prompt: {session.conversation.system or '(none)'}")
    for name, value in chosen_options(session):
        note(f"{name}: {value}")
    note(f"{len(session.conversation)} messages so far, kept in memory only")
    if session.attachment:
        note(f"attached to the next message: {len(session.attachment)} characters")


async def _retry(session: ChatSession, argument: str) -> str:
    del argument
    return _take_back(session)


async def _edit(session: ChatSession, argument: str) -> str | None:
    del argument
    question = session.conversation.last_question or _nothing_asked()
    note("(your message is opened in an editor, in a private temporary file that is removed after)")
    edited = edit_text(question, os.environ)
    if not edited.strip() or edited == question:
        note("(unchanged: nothing was sent)")
        return None
    _take_back(session)
    return edited


def _take_back(session: ChatSession) -> str:
    return session.conversation.take_back() or _nothing_asked()


def _nothing_asked() -> str:
    raise Failure("there is no message yet", fix="ask something first", exit_code=ExitCode.USAGE)


async def _stats(session: ChatSession, argument: str) -> None:
    del argument
    facts = session.last
    if facts is None:
        note("(no answer yet)")
        return
    usage = facts.usage
    cached = f", {usage.cached_tokens} of them known already" if usage.cached_tokens else ""
    note(f"model: {facts.model}")
    note(f"question: {usage.prompt_tokens} tokens{cached}")
    note(f"answer: {usage.completion_tokens} tokens, {facts.tokens_per_second:.1f} tokens/s")
    note(f"first token after {facts.first_text_s:.2f} s, all after {facts.total_s:.2f} s")


async def _file(session: ChatSession, argument: str) -> None:
    text = read_attachment(argument)
    attached = f"{session.attachment}\n\n{text}" if session.attachment else text
    card = await session.card()
    if card is not None and card.context_window:
        num_tokens = len(attached) // _CHARS_PER_TOKEN
        if num_tokens > card.context_window:
            raise Failure(
                "the file is too long for this model",
                why=f"it makes about {num_tokens} tokens, and {card.id} reads at most "
                f"{card.context_window}",
                fix="send a part of it, or /model with a larger context",
            )
    session.attachment = attached
    note(f"({size(len(text.encode()))} go with your next message)")


async def _save(session: ChatSession, argument: str) -> None:
    path = save_conversation(session.conversation, argument)
    note(f"(saved to {path}, readable by you alone; remove it with: rm {quote(str(path))})")


async def _load(session: ChatSession, argument: str) -> None:
    session.conversation = load_conversation(argument)
    note(f"({len(session.conversation)} messages loaded; this conversation goes on from there)")


COMMANDS = {
    command.usage.partition(" ")[0]: command
    for command in (
        SlashCommand("/help", "this list", _help),
        SlashCommand("/bye", "leave", _bye),
        SlashCommand("/clear", "forget the conversation", _clear),
        SlashCommand("/model [ID]", "show the models, or switch", _model),
        SlashCommand(
            "/system [TEXT]", f"show or change the system prompt ({UNSET} takes it away)", _system
        ),
        SlashCommand("/set NAME VALUE", "sampling, for example temperature 0.2", _set),
        SlashCommand("/show", "model, settings and length of this chat", _show),
        SlashCommand("/retry", "ask the last question again", _retry),
        SlashCommand("/edit", "change the last message in your $EDITOR and ask again", _edit),
        SlashCommand("/stats", "tokens and times of the last answer", _stats),
        SlashCommand("/file PATH", "send a text file with the next message", _file),
        SlashCommand("/save PATH", "write this conversation to a file", _save),
        SlashCommand("/load PATH", "continue a saved conversation", _load),
    )
}
