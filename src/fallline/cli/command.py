"""What all commands have in common: `--debug`, and how their help looks."""

from __future__ import annotations

from typing import Any

import click

DEBUG = "fallline.debug"


class Formatter(click.HelpFormatter):
    """Click's help with its headings set off."""

    def write_heading(self, heading: str) -> None:
        self.write(" " * self.current_indent + click.style(f"{heading}:", bold=True) + "\n")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(click.style(prog, bold=True), args, prefix)


class Command(click.Command):
    """A command that also takes `--debug`, wherever it is written."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, callback=_debug, hidden=True)
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The epilog holds examples."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text(self.epilog)


def _debug(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.meta[DEBUG] = True
