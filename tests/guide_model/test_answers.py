"""What the guide model is taught: every command, flag, key and path in its answers is real."""

from pathlib import Path

import click
import facts
import pytest

from chatsafe_cli import slash
from chatsafe_cli.main import COMMANDS, cli
from chatsafe_config.settings import options

TRAIN = Path(str(facts.__file__)).parent
ANSWERS = [
    (path.stem, line.removeprefix("A: "))
    for path in sorted(TRAIN.glob("intents/*.txt"))
    for line in path.read_text(encoding="utf-8").splitlines()
    if line.startswith("A: ")
]


def test_the_list_of_commands_is_that_of_the_command_line() -> None:
    real = {*COMMANDS, "ls"}
    assert {word for word in facts.SUBCOMMANDS if word.islower() and word[0] != "-"} == real


def test_the_list_of_client_flags_is_that_of_the_command_line() -> None:
    real = {"--help", "--config", "--stream", "--log-level"}  # of the daemon and of chat.sh
    context = click.Context(cli)
    for name in [None, *COMMANDS]:
        command = cli if name is None else cli.get_command(context, name)
        assert command is not None
        commands = [command, *getattr(command, "commands", {}).values()]
        real |= {opt for each in commands for param in each.params for opt in param.opts}
    assert real >= facts.CLI_FLAGS


def test_the_list_of_chat_commands_is_that_of_the_chat() -> None:
    assert {*slash.COMMANDS, "/reset"} == facts.REPL  # /reset is that of scripts/chat.sh


def test_the_list_of_settings_is_that_of_the_settings() -> None:
    real = {f"{option.section}.{option.key}" for option in options()}
    assert real | {"models.directory"} >= facts.KEYS
    assert real - facts.KEYS <= {"limits.max_choices"}
    assert {option.flag for option in options()} >= facts.FLAGS - {"--level", "--directory"}


@pytest.mark.parametrize(("topic", "answer"), ANSWERS)
def test_answers_name_only_what_exists(topic: str, answer: str) -> None:
    assert not facts.complaints(answer), topic


def test_an_invented_name_is_found() -> None:
    for invented in (
        "Type `chatsafe pull qwen`.",
        "Set `runtime.magic` to 3.",
        "Use `chatsafe run --fast`.",
        "Type `/fly` in the chat.",
        "Set `CHATSAFE_RUNTIME_MAGIC=1`.",
        "Run `scripts/deploy` now.",
    ):
        assert facts.complaints(invented), invented
