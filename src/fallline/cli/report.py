"""`fallline report`: a comparison's summary and report, made again from its records."""

from __future__ import annotations

from pathlib import Path

import click

from fallline.cli import options, results, terminal
from fallline.cli.command import Command


@click.command(
    cls=Command,
    short_help="Make a comparison's report again.",
    epilog="fallline report out/digits",
)
@click.argument("folder", metavar="DIR", type=options.Folder(exists=True))
@options.as_json
def command(folder: Path, as_json: bool) -> None:
    """Make summary.json and report.html in DIR again from the records that are kept there."""
    from fallline import lab

    comparison = lab.report(folder)
    if as_json:
        terminal.print_json(comparison.summary)
    else:
        results.show(comparison, folder)
