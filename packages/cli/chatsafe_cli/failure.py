"""What went wrong, for the person at the terminal: what, why, what to do, and an exit code."""

from enum import IntEnum

from chatsafe_common.errors import (
    ChatSafeError,
    ContextLengthExceeded,
    Forbidden,
    InvalidApiKey,
    ModelBusy,
    ModelLoadFailed,
    ModelNotFound,
    NotReachable,
    PeerFailed,
    Unavailable,
    WorkerDied,
)
from chatsafe_config.errors import ConfigError

# Their messages go on with what to do, which the daemon knows better than this side.
_SAY_WHAT_TO_DO = (ModelBusy, ModelLoadFailed, ModelNotFound, WorkerDied)


class ExitCode(IntEnum):
    """Stable: scripts depend on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    NOT_FOUND = 4
    INTERRUPTED = 130


class Failure(Exception):
    """A command cannot go on. `what` is one line; `why` and `fix` may be empty."""

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", exit_code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.exit_code = exit_code

    def lines(self) -> list[str]:
        """What to print, one part a line."""
        parts = [f"Error: {self.what}"]
        if self.why:
            parts.append(f"  why: {self.why}")
        if self.fix:
            parts.append(f"  do:  {self.fix}")
        return parts


def from_error(error: ChatSafeError | ConfigError) -> Failure:
    """The failure that a daemon's or our own error means here."""
    if isinstance(error, ConfigError):
        return Failure(
            "the configuration cannot be used",
            why=str(error),
            fix="correct it; `chatsafe doctor` checks it again",
        )
    if isinstance(error, ContextLengthExceeded):
        prompt, window = error.details["n_prompt_tokens"], error.details["n_ctx"]
        return Failure(
            f"the messages are too long ({error.code})",
            # Servers of other makers do not tell the numbers.
            why=f"they make {prompt} tokens, and the model's context holds {window}, "
            "the answer included"
            if prompt and window
            else error.message,
            fix="ask with less text, or use a model with a larger context",
        )
    fix, exit_code = _advice(error)
    what, _, rest = error.message.partition(". ")
    what = f"{what if rest else what.removesuffix('.')} ({error.code})"
    if isinstance(error, InvalidApiKey):
        rest = ""  # how to send it is for those who write requests
    if rest and isinstance(error, _SAY_WHAT_TO_DO):
        return Failure(what, fix=rest, exit_code=exit_code)
    return Failure(what, why=rest, fix=fix, exit_code=exit_code)


def _advice(error: ChatSafeError) -> tuple[str, ExitCode]:
    match error:
        case NotReachable():
            return (
                "start the daemon with `chatsafe serve`, or name another with --url or "
                "CHATSAFE_URL; `chatsafe doctor` finds what is wrong",
                ExitCode.NOT_REACHABLE,
            )
        case ModelNotFound():
            return "`chatsafe list` shows the models there are", ExitCode.NOT_FOUND
        case InvalidApiKey():
            return "put the daemon's key into the variable CHATSAFE_API_KEY", ExitCode.FAILED
        case Forbidden():
            return "`chatsafe doctor` shows address and keys", ExitCode.FAILED
        case ModelBusy():
            return "wait until its answers have ended; `chatsafe ps` shows them", ExitCode.FAILED
        case ModelLoadFailed():
            return "`chatsafe doctor` checks the model files and the memory", ExitCode.FAILED
        case WorkerDied():
            return "ask again: the model starts anew", ExitCode.FAILED
        case Unavailable():
            when = f"in {error.retry_after_s:.0f} s" if error.retry_after_s else "in a moment"
            return f"try again {when}; `chatsafe ps` shows what is running", ExitCode.FAILED
        case PeerFailed():
            return "`chatsafe doctor` looks at the address and what answers there", ExitCode.FAILED
        case _:
            return "", ExitCode.FAILED
