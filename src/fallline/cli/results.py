"""A comparison on the terminal: the table, what it allows one to say, where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fallline.cli import terminal

if TYPE_CHECKING:
    from fallline.lab import Comparison

# The first to go where a terminal is narrow.
LEAVE_OUT = ("quartiles", "s/run", "diverged", "tuned", "untuned", "95% interval")


def show(comparison: Comparison, folder: Path | None) -> None:
    """Everything a reader needs who never opens the report."""
    from rich.text import Text

    from fallline.lab.verdict import scope

    console = terminal.console()
    summary = comparison.summary
    table, gone = terminal.fit(comparison.table(), console.width, LEAVE_OUT)
    console.print(table)
    if gone:
        console.print(Text(f"Too narrow for {', '.join(gone)}.", style="dim"))
    console.print(Text("\n" + summary["verdict"]["headline"], style="bold"))
    console.print(Text(summary["verdict"]["text"]))
    console.print(Text(scope(summary), style="dim"))
    for note in summary["notes"]:
        console.print(Text(note, style="dim"))
    if folder is not None and not comparison.complete:
        console.print(Text(f"The same comparison with --out {folder} goes on from here."))
    console.print(Text("\n" + _where(folder)), soft_wrap=True)


def report_in(folder: Path) -> Path:
    """Where the report of a comparison is."""
    from fallline.lab.comparison import REPORT

    return folder / REPORT


def _where(folder: Path | None) -> str:
    if folder is None:
        return "Nothing was kept. --out DIR keeps every run and writes a report with curves."
    return f"Report: {report_in(folder)}"
