"""Where words go: results to standard output, all else to standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 1000  # columns of a pipe or a file: lines are as long as they are


def colour() -> bool | None:
    """False where NO_COLOR is set to anything; None leaves it to each stream."""
    return False if os.environ.get("NO_COLOR") else None


def write_anything() -> None:
    """Let a terminal without a minus sign or a dash have their codes, rather than an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(sentence: str) -> None:
    """An error, in red on a terminal."""
    text = click.style(f"fallline: {sentence}", fg="red")
    click.echo(text, err=True, color=colour())


def console() -> Console:
    """Standard output as rich sees it."""
    from rich.console import Console

    return Console(highlight=False, width=None if sized() else WIDE)


def sized() -> bool:
    """Whether standard output has a width of its own."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def print_json(data: Any) -> None:
    """Data for other programs."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def natural_width(table: Table) -> int:
    """Columns that it takes if no cell is wrapped."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    return Measurement.get(console, console.options.update(width=WIDE), table).maximum


def fit(table: Table, width: int, leave_out: Sequence[str]) -> tuple[Table, list[str]]:
    """The table without so many columns, in this order, that the rest fits; and their names."""
    gone = []
    for name in leave_out:
        if natural_width(table) <= width:
            break
        table = _without(table, name)
        gone.append(name)
    return table, gone


def _without(table: Table, name: str) -> Table:
    from rich.table import Table

    kept = [column for column in table.columns if column.header != name]
    slim = Table(
        *(column.copy() for column in kept),
        box=table.box,
        pad_edge=table.pad_edge,
        header_style=table.header_style,
    )
    for cells in zip(*(column.cells for column in kept), strict=True):
        slim.add_row(*cells)
    return slim
