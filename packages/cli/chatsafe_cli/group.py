"""The click machinery of all commands: loaded on demand, failures in three parts, exit codes."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from chatsafe_cli.failure import ExitCode, Failure, from_error
from chatsafe_cli.render import show_failure
from chatsafe_common.errors import ChatSafeError
from chatsafe_common.nearest import nearest
from chatsafe_config.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is found and what the list of commands says about it."""

    module: str
    attribute: str
    help: str

    def load(self) -> click.Command:
        """Imports it."""
        command = getattr(importlib.import_module(self.module), self.attribute)
        assert isinstance(command, click.Command)
        return command


class CommandGroup(click.Group):
    """Imports a command's module when that command is asked for, not before.

    httpx, rich and prompt-toolkit cost more than all the rest of the start; `--help` and
    completion need none of them.
    """

    def __init__(self, *, entries: dict[str, Entry], aliases: dict[str, str], **rest: Any) -> None:
        super().__init__(**rest)
        self._entries = entries
        self._aliases = aliases

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = self._entries.get(self._aliases.get(cmd_name, cmd_name))
        return entry.load() if entry is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command {args[0]!r}.{nearest(args[0], self._entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self._entries if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self._entries[name].help) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            show_failure(failure)
            ctx.exit(failure.exit_code)
        except (ChatSafeError, ConfigError) as error:
            translated = from_error(error)
            show_failure(translated)
            ctx.exit(translated.exit_code)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has seen enough (`chatsafe list | head -1`).
            _give_up_stdout()
            ctx.exit(ExitCode.FAILED)
        except OSError as error:
            if error.filename is None:  # no file of ours: a full disk behind stdout
                _give_up_stdout()
            show_failure(
                Failure(
                    f"cannot use {error.filename or 'the output'}",
                    why=error.strerror or str(error),
                    fix="make room or mend the permissions, or choose another place",
                )
            )
            ctx.exit(ExitCode.FAILED)


def _give_up_stdout() -> None:
    """Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`, which every command takes, before or after its name."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        del param
        if value is not None:
            ctx.find_root().meta["chatsafe.url"] = value

    return click.option(
        "--url",
        metavar="URL",
        expose_value=False,
        callback=keep,
        help="Address of the daemon [env: CHATSAFE_URL].",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def given_url() -> str | None:
    """What `--url` said in this call."""
    value = click.get_current_context().find_root().meta.get("chatsafe.url")
    return value if isinstance(value, str) else None
