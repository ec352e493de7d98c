"""The optimizers that have a name: found by whoever lists, compares, documents or tests them."""

from __future__ import annotations

from typing import Any

from fallline.core.errors import did_you_mean
from fallline.optim.optimizer import Optimizer
from fallline.optim.rule import Rule
from fallline.optim.update import Update


def rules() -> dict[str, Rule | Update]:
    """Every rule and every named chain of `fallline.optim`, by name.

    >>> list(rules())[:3]
    ['sgd', 'momentum', 'nesterov']
    """
    from fallline import optim

    exported = (getattr(optim, name) for name in optim.__all__)
    return {x.name: x for x in exported if isinstance(x, (Rule, Update))}


def by_name(name: str) -> Rule | Update:
    """The rule or named chain of this name.

    >>> by_name("adm")
    Traceback (most recent call last):
    ValueError: optim: no optimizer is called 'adm'. Did you mean adam?
    """
    known = rules()
    if name not in known:
        raise ValueError(f"optim: no optimizer is called {name!r}. {did_you_mean(name, known)}")
    return known[name]


def as_optimizer(given: Any) -> Optimizer:
    """The optimizer that is meant by a name, a rule (with its defaults) or an optimizer.

    >>> as_optimizer("sgd")
    sgd(lr=0.01)
    """
    if isinstance(given, str):
        given = by_name(given)
    if isinstance(given, Rule):
        return given()
    if not isinstance(given, Optimizer):
        raise TypeError(
            "optim: an optimizer must be a name, a rule or a bound rule such as "
            f"optim.adam(lr=1e-3); got {given!r}."
        )
    return given
