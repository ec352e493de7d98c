"""What the lab asks of an optimizer, and how it finds one by name.

Everything the lab knows about optimizers is here: a name, default hyperparameters, a search space
in order of tuning priority, and `bind`, which the worker calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from fallline.core.errors import did_you_mean
from fallline.optim.space import Choice, Range

TEN = (
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
    "amsgrad",
    "nadam",
    "adamw",
)


@runtime_checkable
class Contender(Protocol):
    """An optimizer that can take part in a comparison."""

    @property
    def name(self) -> str: ...

    @property
    def defaults(self) -> Mapping[str, float]: ...

    @property
    def space(self) -> Mapping[str, Range | Choice]: ...

    def bind(self, **hyper: Any) -> Any:
        """The optimizer with these hyperparameters and its defaults for the others."""
        ...


def known() -> dict[str, Contender]:
    """Every optimizer of `fallline.optim` that declares a search space, by name."""
    from fallline.optim import rules

    return {name: entry for name, entry in rules().items() if _can_compete(entry)}


def contender(which: str | Contender) -> Contender:
    """An optimizer by name, or the given one if it has what a comparison needs."""
    if isinstance(which, str):
        return _named(which)
    if not _can_compete(which):
        raise TypeError(
            f"compare: {which!r} cannot be compared: an optimizer needs a name, defaults, bind and "
            "a non-empty space. Did you forget space= in its declaration?"
        )
    missing = [name for name in which.space if name not in which.defaults]
    if missing:
        raise ValueError(
            f"compare: {which.name}: {missing[0]} has no default, and the untuned default is "
            "always shown beside the tuned one. Give it one where the optimizer is declared."
        )
    return which


def contenders(which: str | Contender | Iterable[str | Contender] | None) -> list[Contender]:
    """The optimizers of a comparison, ten if none are named; each may take part once."""
    if isinstance(which, (str, Contender)):
        which = [which]
    given = list(TEN if which is None else which)
    chosen = [contender(entry) for entry in given]
    if not chosen:
        raise ValueError("compare: no optimizers given. Leave optimizers out for the usual ten.")
    names = [entry.name for entry in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        what = f"compare: {twice[0]} is listed {names.count(twice[0])} times."
        raise ValueError(what if given.count(twice[0]) > 1 else f"{what} {_rename(twice[0])}")
    return chosen


def _rename(name: str) -> str:
    return f'Give one a name of its own: chain({name}(...), name="{name}, changed").'


def _named(name: str) -> Contender:
    entries = known()
    if name not in entries:
        raise ValueError(f"compare: no optimizer is called {name!r}. {did_you_mean(name, entries)}")
    return entries[name]


def _can_compete(entry: object) -> bool:
    # A class also has these attributes as descriptors; only instances can be bound.
    return (
        not isinstance(entry, type) and isinstance(entry, Contender) and bool(entry.space or False)
    )
