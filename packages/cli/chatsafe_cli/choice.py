"""One model out of those there are, by its id or the beginning of it."""

from collections.abc import Sequence

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_config.nearest import nearest


def choose(given: str, ids: Sequence[str], *, why: str = "", fix: str = "") -> str:
    """The id that `given` means: itself, or the only one that begins with it.

    `why` and `fix` replace what is said when none does, for lists that do not hold every model.
    Raises Failure: usage when several begin with it, not found when none does.
    """
    if given in ids:
        return given
    found = [model for model in ids if model.lower().startswith(given.lower())] if given else []
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(
            f"{given!r} is the beginning of several models",
            why=", ".join(found),
            fix="type more of the id",
            exit_code=ExitCode.USAGE,
        )
    raise Failure(
        f"there is no model {given!r}",
        why=(why or "no id begins like that") + "." + nearest(given, ids),
        fix=fix or "`chatsafe list` shows the models there are",
        exit_code=ExitCode.NOT_FOUND,
    )
