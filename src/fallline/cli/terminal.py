"""Where words go: results to standard output, all else to standard error."""

from __future__ import annotations

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


def complain(sentence: str) -> None:
    """An error, in red on a terminal."""
    text = click.style(f"fallline: {sentence}", fg="red")
    click.echo(text, err=True, color=colour())


def console() -> Console:
    """Standard output as rich sees it."""
    from rich.console import Console

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if sized else WIDE)


def print_json(data: Any) -> None:
    """Data for other programs."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def fit(table: Table, width: int, leave_out: Sequence[str]) -> list[str]:
    """Take columns out of a table, in this order, until the rest fits; returns which."""
    from rich.console import Console
    from rich.measure import Measurement

    free = Console(width=WIDE)
    gone = []
    for name in leave_out:
        if Measurement.get(free, free.options, table).maximum <= width:
            break
        table.columns[:] = [column for column in table.columns if column.header != name]
        gone.append(name)
    return gone
