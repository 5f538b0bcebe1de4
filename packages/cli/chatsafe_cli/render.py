"""How things look on a terminal: plain text made safe, tables, sizes, durations."""

import sys
from collections.abc import Sequence

import click
import msgspec

from chatsafe_cli.failure import Failure

_GIB = 1024**3
# C0 and C1 controls would let foreign text move the cursor, retitle the window or fill the
# clipboard; the bidirectional overrides let it show something else than what is there.
_UNPRINTABLE = dict.fromkeys(
    [
        *(code for code in range(0x20) if chr(code) not in "\n\t"),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)


def printable(text: str) -> str:
    """`text` without what a terminal would obey instead of show."""
    return text.translate(_UNPRINTABLE)


def note(text: str) -> None:
    """A line for the person, on stderr: stdout holds answers only."""
    click.echo(click.style(printable(text), dim=True), err=True)


def show_failure(failure: Failure) -> None:
    """The parts of a failure on stderr."""
    for index, line in enumerate(failure.lines()):
        click.secho(printable(line), err=True, fg="red" if index == 0 else None)


def print_json(value: object) -> None:
    """`value` as indented JSON, for programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell, so that `awk` and `cut` can read them too."""
    cells = [headers, *([printable(cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for index, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.secho(line.rstrip(), bold=index == 0)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line; those without a value are left out."""
    width = max((len(name) for name, value in facts if value), default=0)
    for name, value in facts:
        if value:
            click.echo(click.style(f"{name.ljust(width)}  ", bold=True) + printable(value))


def size(num_bytes: int | None) -> str:
    """A number of bytes as people say it; "" when it is not known."""
    if num_bytes is None:
        return ""
    if num_bytes >= _GIB:
        return f"{num_bytes / _GIB:.1f} GiB"
    if num_bytes >= 1024**2:
        return f"{num_bytes / 1024**2:.1f} MiB"
    if num_bytes >= 1024:
        return f"{num_bytes / 1024:.0f} KiB"
    return f"{num_bytes} bytes"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def is_interactive() -> bool:
    """Is a person typing and reading?"""
    return sys.stdin.isatty() and sys.stdout.isatty()
