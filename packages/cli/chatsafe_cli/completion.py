"""`chatsafe completion`: the script that makes a shell complete our commands."""

import click
from click.shell_completion import get_completion_class

_WHERE = {
    "bash": 'eval "$(chatsafe completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(chatsafe completion zsh)"   # in ~/.zshrc',
    "fish": "chatsafe completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(list(_WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    click.echo(kind(ctx.find_root().command, {}, "chatsafe", "_CHATSAFE_COMPLETE").source())
