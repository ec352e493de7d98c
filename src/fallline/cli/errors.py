"""What went wrong, in one sentence, with the nearest right name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from fallline.core.errors import did_you_mean

# What the library raises on purpose; its messages are sentences.
_EXPECTED = (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError)

Refusals = type[Exception] | tuple[type[Exception], ...]


class Failure(click.ClickException):
    """An error of the library: exit code 1."""

    def __init__(self, error: Exception) -> None:
        super().__init__(sentence(error))


@contextmanager
def asked_for(refusals: Refusals = (ValueError, TypeError)) -> Iterator[None]:
    """What the library refuses in here is what the command line asked for: exit code 2."""
    try:
        yield
    except refusals as wrong:
        raise click.UsageError(str(wrong)) from wrong


def sentence(error: Exception) -> str:
    """An exception as a sentence; one that nobody expected says so."""
    if isinstance(error, OSError) and error.strerror:
        at = f"{error.filename}: " if error.filename else ""
        return f"{at}{_lower(error.strerror)}."
    text = str(error).strip()
    if isinstance(error, _EXPECTED) and text:
        return text
    text = f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}."
    return f"{text}\nThis should not happen; --debug shows where it did."


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """That there is no such name, and the nearest that there is.

    >>> unknown("command", "compar", ["compare", "train"])
    "no command is called 'compar'. Did you mean compare?"
    """
    return f"no {what} is called {given!r}. {did_you_mean(given, known)}"


def explained(error: click.ClickException) -> str:
    """Click's complaints in our words; our own sentences as they are."""
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.MissingParameter) and error.param and ctx:
        known = ", ".join(getattr(error.param.type, "names", ()))
        needed = f"{ctx.info_name} needs {error.param.human_readable_name}"
        return f"{needed}: {known}." if known else f"{needed}."
    if isinstance(error, click.NoSuchOption) and ctx:
        return unknown("option", error.option_name, _options(ctx))
    ours = error.__cause__ or isinstance(error, click.BadParameter)
    return error.message if ours else _lower(error.message)


def _options(ctx: click.Context) -> list[str]:
    options = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
    return [name for option in options for name in option.opts if name.startswith("--")]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
