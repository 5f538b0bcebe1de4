"""One model out of those there are, by its id or the beginning of it."""

from collections.abc import Sequence

from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_common.nearest import nearest


def choose(given: str, ids: Sequence[str], *, only_usable: bool = False) -> str:
    """The id that `given` means: itself, or the only one that begins with it.

    `only_usable` says that `ids` holds the models that can answer, and not every model there is.
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
    near = nearest(given, ids)
    if only_usable:
        raise Failure(
            f"there is no model {given!r} that can answer",
            why=f"no id of a model with a usable file begins like that.{near}",
            fix="`chatsafe list` shows all models, `chatsafe show MODEL` where one comes from, "
            "`chatsafe doctor` what is wrong with a file",
            exit_code=ExitCode.NOT_FOUND,
        )
    raise Failure(
        f"there is no model {given!r}",
        why=f"no id begins like that.{near}",
        fix="`chatsafe list` shows the models there are",
        exit_code=ExitCode.NOT_FOUND,
    )
