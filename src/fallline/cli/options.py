"""Kinds of arguments, and the options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from fallline.cli.errors import unknown
from fallline.cli.problems import PROBLEMS


class Name(click.ParamType):
    """One of some names, in any case and with - or _ alike; known when one is looked up."""

    def __init__(self, what: str, known: Callable[[], Iterable[str]]) -> None:
        self.name = what
        self.known = known

    @property
    def names(self) -> list[str]:
        return list(self.known())

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        found = {_key(name): name for name in self.names}.get(_key(value))
        return found or self.fail(unknown(self.name, value, self.names), param, ctx)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in self.names if name.startswith(incomplete)]


class Names(Name):
    """Several of them, with commas between."""

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            _refuse(self, param, "one name at least, commas between several", value)
        return [super(Names, self).convert(name, param, ctx) for name in names]


class Count(click.ParamType):
    """A whole number, at least so large."""

    name = "count"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
            value = int(value)
        if not isinstance(value, int) or value < self.least:
            _refuse(self, param, f"a whole number >= {self.least}", value)
        return value


class Widths(click.ParamType):
    """The widths of a multi-layer perceptron, as "64-100-10"."""

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)+", value):
            _refuse(self, param, "widths such as 64-100-10", value)
        return tuple(int(width) for width in value.split("-"))


class Folder(click.ParamType):
    """A folder, which must exist already or may be made."""

    name = "folder"

    def __init__(self, *, exists: bool) -> None:
        self.exists = exists

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = Path(value).expanduser()
        if not path.is_dir() and (self.exists or path.exists()):
            _refuse(self, param, "a folder", value, "a file" if path.exists() else "not there")
        return path


def _refuse(
    kind: click.ParamType, param: Any, rule: str, value: Any, as_it_is: str = ""
) -> NoReturn:
    why = f"; {value!r} is {as_it_is}." if as_it_is else f"; got {value!r}."
    kind.fail(f"{param.opts[-1]} must be {rule}{why}", param)


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


problem = click.argument("problem", type=Name("problem", lambda: PROBLEMS))
data = click.option(
    "--data",
    metavar="DIR",
    type=Folder(exists=True),
    help="Where the files of mnist or fashion-mnist are; else they are downloaded.",
)
model = click.option(
    "--model",
    metavar="WIDTHS",
    type=Widths(),
    help="Widths of the layers, such as 784-128-10, in place of the problem's own.",
)
epochs = click.option(
    "--epochs", metavar="N", type=Count(), help="In place of the problem's own number."
)
batch_size = click.option(
    "--batch-size", metavar="N", type=Count(), help="In place of the problem's own."
)
seed = click.option(
    "--seed", metavar="N", type=Count(0), default=0, help="All random numbers follow from it."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
