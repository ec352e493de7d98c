"""What went wrong, in one sentence, with the nearest right name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

# What the library raises on purpose; its messages are sentences.
EXPECTED = (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError)


class Failure(click.ClickException):
    """An error of the library: exit code 1."""

    def __init__(self, error: Exception) -> None:
        super().__init__(sentence(error))


@contextmanager
def asked_for() -> Iterator[None]:
    """What the library refuses in here is what the command line asked for: exit code 2."""
    try:
        yield
    except (ValueError, TypeError) as wrong:
        raise click.UsageError(sentence(wrong)) from wrong


def sentence(error: Exception) -> str:
    """An exception as a sentence; one that nobody expected says so."""
    if isinstance(error, OSError) and error.strerror:
        at = f"{error.filename}: " if error.filename else ""
        return f"{at}{error.strerror[:1].lower()}{error.strerror[1:]}."
    text = str(error).strip()
    if isinstance(error, EXPECTED) and text:
        return text
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{text}\nThis should not happen. --debug shows where it did."


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """No such name, and the nearest one, or all there are."""
    # Imported for those who mistype: it would slow everybody's start.
    from fallline.optim.checks import nearest

    return f"no {what} is called {given!r}. {nearest(given, known)}"


def explained(error: click.ClickException) -> str:
    """Click's complaints about a command line in our words; our own as they are."""
    if isinstance(error, click.MissingParameter) and error.param and error.ctx:
        name = error.param.make_metavar(error.ctx)
        return f"{error.ctx.info_name} needs {name}; {_see_help(error)}"
    if isinstance(error, click.NoSuchOption) and error.ctx:
        options = [name for p in error.ctx.command.get_params(error.ctx) for name in _names(p)]
        return unknown("option", error.option_name, options)
    if type(error) is click.UsageError and error.__cause__ is None and error.ctx:
        ...
    return error.message


def _names(param: click.Parameter) -> list[str]:
    shown = isinstance(param, click.Option) and not param.hidden
    return [name for name in param.opts if name.startswith("--")] if shown else []


def _see_help(error: Any) -> str:
    return f"see {error.ctx.command_path} --help."
