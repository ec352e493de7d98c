"""What all commands have in common: `--debug`, and how their help looks."""

from __future__ import annotations

from typing import Any

import click

DEBUG = "fallline.debug"  # the key in a context's meta
INTERRUPTED = 130  # the exit code after a Ctrl-C, as shells have it


class Formatter(click.HelpFormatter):
    """Click's help with its headings set off."""

    def write_heading(self, heading: str) -> None:
        self.write(" " * self.current_indent + click.style(f"{heading}:", bold=True) + "\n")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(click.style(prog, bold=True), args, prefix)


class Context(click.Context):
    """Makes help with our formatter."""

    formatter_class = Formatter


class Command(click.Command):
    """A command that also takes `--debug`, wherever on the line it is written.

    Its epilog holds examples, one to a line.
    """

    context_class = Context

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, callback=_debug, hidden=True
        )
        self.params.append(debug)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.epilog, formatter)


def write_examples(epilog: str | None, formatter: click.HelpFormatter) -> None:
    """The examples at the end of a help text, as they are."""
    with formatter.section("Examples"):
        for line in (epilog or "").strip().splitlines():
            formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


def _debug(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.meta[DEBUG] = True
