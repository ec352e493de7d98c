"""`chain`: transforms and a rule, one after the other, as one optimizer."""

from __future__ import annotations

from typing import Any

from fallline.optim.part import Part
from fallline.optim.rule import Rule
from fallline.optim.transform import Transform
from fallline.optim.update import Update


def chain(*parts: Any, name: str = "", doc: str = "") -> Update:
    """Transforms in the order in which they are applied, and the rule, which comes last.

        optim.chain(optim.clip_norm(1.0), optim.decay(0.01), optim.lion(lr=1e-4))

    Each transform sees what the one before it left. A part may be a chain itself, and the rule may
    be unbound: then it has its defaults. Hyperparameters and search spaces are merged, the rule's
    first; a name that is taken gets a number (`wd_2`).

    name, doc  of an optimizer of its own, such as adamw; by default the names of the parts.
    Raises TypeError if there is no rule, or more than one, or if something follows it.

    >>> from fallline import optim
    >>> optimizer = chain(optim.clip_norm(1.0), optim.decay(0.01), optim.momentum(lr=0.1))
    >>> optimizer
    chain(clip_norm(bound=1.0), decoupled_decay(wd=0.01), momentum(lr=0.1))
    >>> optimizer.hyper(1)
    {'lr': 0.1, 'b': 0.9, 'dampening': 0.0, 'a': 1.0, 'bound': 1.0, 'wd': 0.01}
    """
    flat = [bound for part in parts for bound in _bound(part)]
    rules = [part for part in flat if isinstance(part.formula, Rule)]
    if not rules:
        raise TypeError(
            "chain: needs a rule as its last part. Did you forget one, such as optim.sgd(lr=0.01)?"
        )
    if len(rules) > 1 or flat[-1] is not rules[0]:
        listed = ", ".join(part.formula.name for part in flat)
        raise TypeError(f"chain: needs one rule, and it must come last; got {listed}.")
    for part in flat[:-1]:
        if "lr" in part.formula.from_step and "lr" not in rules[0].settings:
            raise TypeError(
                f"chain: {part.formula.name} uses the rule's lr, "
                f"and {rules[0].formula.name} has none."
            )
    return Update(flat, name=name, doc=doc)


def _bound(part: Any) -> tuple[Part, ...]:
    if isinstance(part, Part):
        return (part,)
    if isinstance(part, Update):
        return part.parts
    if isinstance(part, Rule):
        return part().parts
    if isinstance(part, Transform):
        raise TypeError(
            f"chain: {part.name} must be bound first: {part.name}{part.signature}, with values."
        )
    raise TypeError(f"chain: a part must be a bound transform or a rule; got {part!r}.")
