"""Why a loss became nan: the step is run again, operation by operation, and the first one that made it so is named."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.core.graph import Node

if TYPE_CHECKING:
    from fallline.train.trainer import Trainer


def diagnose(trainer: Trainer, loss: float) -> str:
    """The sentence of the error."""
    kind = "nan" if loss != loss else "infinite"
    where = f"fit: the loss became {kind} at step {trainer.t + 1} (epoch {trainer.epoch + 1})"
    cause = _first_bad(trainer)
    lr = trainer.optimizer.hyper(trainer.t + 1).get("lr")
    now = f" (now {lr:g})" if lr is not None else ""
    return f"{where}: {cause}. A smaller lr{now} or clip_norm is the usual cure."


def _first_bad(trainer: Trainer) -> str:
    if not np.isfinite(trainer.params).all():
        return "a parameter was no longer finite after the step before"
    if trainer.X.dtype.kind == "f" and not np.isfinite(trainer.X).all():
        return "X holds nan or infinite numbers"
    if trainer.y.dtype.kind == "f" and not np.isfinite(trainer.y).all():
        return "y holds nan or infinite numbers"
    batch = min(trainer.batch_size, trainer.n - trainer.position)
    step = trainer._plan(batch)
    graph = step.plan.graph
    order = trainer._order
    given: dict[int, Any] = {
        id(step.params): trainer.params,
        id(step.X): trainer.X,
        id(step.y): trainer.y,
    }
    given |= {id(s): a for s, a in zip(step.slots, trainer.slots, strict=True)}
    given[id(step.index)] = (
        order[trainer.position : trainer.position + batch] if order is not None else None
    )
    given[id(step.weights)] = trainer.weights
    given[id(step.key)] = trainer._run(batch).key[0]
    for node in graph.nodes:
        if node.spec.weak or any(id(a) not in given and not a.is_constant for a in node.args):
            continue
        args = [given[id(a)] if id(a) in given else a.value for a in node.args]
        if any(a is None for a in args):
            continue
        with np.errstate(all="ignore"):
            value = given[id(node)] = node.op(*args, **node.params)  # type: ignore[misc]
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return _describe(node, args, value)
    return "a sum of finite numbers exceeded the largest number"


def _describe(node: Node, args: list[Any], value: Any) -> str:
    bad = ~np.isfinite(value)
    what = "nan" if np.isnan(value).any() else "infinity"
    name = node.op.name  # type: ignore[union-attr]
    sizes = [
        f"{float(np.abs(a).max()):.3g}"
        for a in args
        if getattr(a, "dtype", None) is not None and a.dtype.kind == "f" and a.size
    ]
    of = f" of numbers up to {' and '.join(sizes)}" if sizes else ""
    at = (
        f" ({node.where[0]}:{node.where[1]})"
        if node.where and not _is_call_of_fit(node.where)
        else ""
    )
    return f"{name}{of} gave {what} in {int(bad.sum())} of {bad.size} places{at}"


def _is_call_of_fit(where: tuple[str, int, str]) -> bool:
    """Our own layers have no line of the user's but the one that called us."""
    return any(
        word in linecache.getline(where[0], where[1]) for word in ("fit(", "Trainer(", "steps(")
    )
