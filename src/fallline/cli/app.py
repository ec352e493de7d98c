"""The program `fallline`: finds the command, and says in one sentence what went wrong."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from fallline.cli import terminal
from fallline.cli.command import DEBUG, Formatter
from fallline.cli.errors import Failure, explained, unknown

COMMANDS = ("compare", "train", "optimizers", "report")  # the modules of that name
INTERRUPTED = 130  # as shells count a Ctrl-C


class App(click.Group):
    """The group of commands; a module is imported when its command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fallline.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(unknown("command", args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a closed pipe is noticed while click looks on
            return found
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta.get(DEBUG):
                traceback.print_exc()
            if isinstance(error, click.ClickException):
                raise
            raise Failure(error) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit: 0 done, 1 an error, 2 a wrong command line, 130 interrupted."""
        extra.setdefault("color", terminal.colour())
        with _plain_warnings():
            try:
                status = super().main(
                    args, self.name, complete_var, False, windows_expand_args, **extra
                )
            except click.ClickException as error:
                terminal.complain(explained(error))
                status = error.exit_code
            except click.Abort:
                terminal.complain("interrupted.")
                status = INTERRUPTED
        sys.exit(status)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """The library's warnings as sentences: who types a command has no use for a line of code."""
    usual = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, *more: Any) -> None:
        if issubclass(category, (UserWarning, RuntimeWarning)):
            print(f"fallline: warning: {message}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, *more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("fallline")
        except PackageNotFoundError:
            found = "(not installed)"
        click.echo(f"fallline {found}, Python {platform.python_version()}")
        ctx.exit()


class _Context(click.Context):
    formatter_class = Formatter


App.context_class = _Context

EXAMPLES = """
\b
fallline compare digits
fallline compare mnist --out out/mnist
fallline train digits --optimizer momentum --lr 0.1
fallline optimizers adam
"""


@click.group(
    cls=App,
    name="fallline",
    invoke_without_command=True,
    subcommand_metavar="COMMAND ...",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXAMPLES,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.option(
    "--debug",
    is_flag=True,
    envvar="FALLLINE_DEBUG",
    help="Show the traceback of an error; so does FALLLINE_DEBUG=1.",
)
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Train neural networks by gradients, and compare the optimizers that do it."""
    ctx.meta[DEBUG] = debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
