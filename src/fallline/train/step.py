"""One training step as one graph: gather the batch, run the network, differentiate, update.

The parameters are one flat vector, and so are the optimizer's slots; the network's arrays are views of it and the gradients are
computed where the optimizer reads them. Results are written over the inputs, after the loss was found finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.compile.plan import Plan
from fallline.core import tree
from fallline.core.autodiff import value_and_grad
from fallline.core.graph import Graph, Node, Record
from fallline.core.spec import Spec, spec_of
from fallline.nn.context import Context
from fallline.train.penalty import MaxNorm, Penalty

LOSS = 0  # the first output


@dataclass(frozen=True)
class Layout:
    """Where each array of a network lies in the flat vector."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return sum(int(np.prod(s, dtype=np.int64)) for s in self.shapes)

    def views(self, flat: Any) -> list[Any]:
        """The arrays of the network, as views of the flat vector."""
        found, start = [], 0
        for shape in self.shapes:
            n = int(np.prod(shape, dtype=np.int64))
            found.append(np.reshape(flat[start : start + n], shape))
            start += n
        return found


def flat_vector(arrays: Sequence[Any]) -> Any:
    """The arrays one after the other."""
    return np.concatenate([np.reshape(a, (-1,)) for a in arrays])


@dataclass(frozen=True)
class Objective:
    """What is minimised: the loss of each example, how they are weighted, the penalty."""

    loss: Callable[..., Any]
    penalty: Penalty | MaxNorm | None = None
    n_data: int = 1
    weighted: bool = False

    def __call__(
        self, net: Any, leaves: Sequence[Any], X: Any, y: Any, weights: Any, key: Any
    ) -> Any:
        ctx = Context(mode="train", key=key)
        values = self.loss(net(X, ctx=ctx), y)
        if self.weighted:
            values = values * weights
        n = values.shape[0]
        total = np.sum(values) / n
        if isinstance(self.penalty, Penalty):
            total = total + self.penalty(leaves, self.n_data, n)
        return total


@dataclass
class StepPlan:
    """A compiled step for one batch size, and which of its inputs is which."""

    plan: Plan
    params: Node
    slots: list[Node]
    X: Node
    y: Node
    weights: Node
    index: Node
    key: Node
    numbers: list[str]  # what the weak inputs are, in order: "t", hyperparameters, scalar states
    scalar_states: list[int]  # which outputs are the new scalar states


def record_step(
    layout: Layout, objective: Objective, optimizer: Any, X: Spec, y: Spec, batch: int
) -> StepPlan:
    """Trace, lower and lay out a step of `batch` examples."""
    level = Record()
    theta = level.input(Spec((layout.size,), layout.dtype), "params")
    hollow = np.broadcast_to(np.zeros((), layout.dtype), (layout.size,))
    start = optimizer.init(_as_params(layout, optimizer, hollow))
    leaves, structure = tree.flatten(start)
    names = [name for name, _ in tree.named_leaves(start)]
    flat = optimizer.flat
    arrays, state, numbers, slots = _state_inputs(
        level, layout, start, leaves, structure, names, flat
    )
    t = level.input(spec_of(1), "t")
    hyper = dict(optimizer.hyper(1))
    for name in optimizer.changing:
        hyper[name] = level.input(Spec((), np.dtype(np.float64), True), name)
    data = level.input(X, "X")
    targets = level.input(y, "y")
    weights = level.input(Spec((X.shape[0],), layout.dtype), "weights")
    index = level.input(Spec((batch,), np.dtype(np.int64)), "index")
    key = level.input(Spec((4,), np.dtype(np.uint32)), "key")

    def of_leaves(given: list[Any]) -> Any:
        net = tree.unflatten(layout.structure, given)
        x = np.take(data, index, axis=0)
        if x.dtype.kind in "iub":
            x = x.astype(layout.dtype)
        w = np.take(weights, index, axis=0) if objective.weighted else None
        return objective(net, given, x, np.take(targets, index, axis=0), w, key)

    def evaluate(params: Any) -> tuple[Any, Any]:
        value, grads = value_and_grad(of_leaves)(layout.views(params) if flat else params)
        return value, flat_vector(grads) if flat else grads

    params = theta if flat else layout.views(theta)
    new, new_state, loss = optimizer.step(evaluate, params, state, t=t, hyper=hyper)
    new = _projected(objective, layout, new, flat)
    results = tree.leaves(new_state)
    outputs = [loss, new]
    outputs += [_whole(r, flat) for r in _grouped(results, leaves, flat, len(layout.shapes))]
    scalars = [r for r, old in zip(results, leaves, strict=True) if isinstance(old, float)]
    nodes = [level.node(o) for o in (*outputs, *scalars)]
    weak = [
        t.extra,
        *[hyper[n].extra for n in optimizer.changing],
        *[arrays[i].extra for i, v in enumerate(leaves) if isinstance(v, float)],
    ]
    inputs = [
        theta.extra,
        *[s.extra for s in slots],
        data.extra,
        targets.extra,
        weights.extra,
        index.extra,
        key.extra,
        *weak,
    ]
    graph = Graph(inputs, nodes, f"{optimizer.name} step")
    plan = Plan(graph, donate={1 + i: i for i in range(1 + len(slots))}, guard=LOSS)
    return StepPlan(
        plan,
        theta.extra,
        [s.extra for s in slots],
        data.extra,
        targets.extra,
        weights.extra,
        index.extra,
        key.extra,
        ["t", *optimizer.changing, *numbers],
        list(range(2 + len(slots), len(nodes))),
    )


def _as_params(layout: Layout, optimizer: Any, flat: Any) -> Any:
    return flat if optimizer.flat else layout.views(flat)


def _state_inputs(
    level: Record,
    layout: Layout,
    start: Any,
    leaves: list[Any],
    structure: Any,
    names: list[str],
    flat: bool,
) -> tuple[list[Any], Any, list[str], list[Any]]:
    """Tracers for the optimizer's state: one flat vector per slot, a weak number per scalar."""
    slots: list[Any] = []
    arrays: list[Any] = []
    numbers = []
    views: list[Any] = []
    for leaf, name in zip(leaves, names, strict=True):
        if isinstance(leaf, float):
            arrays.append(level.input(Spec((), np.dtype(np.float64), True), name))
            numbers.append(name)
        elif flat:
            slots.append(level.input(Spec(leaf.shape, leaf.dtype), name))
            arrays.append(slots[-1])
        else:
            if not views:  # a slot is a run of leaves, one per array of the network
                slots.append(
                    level.input(Spec((layout.size,), layout.dtype), name.partition(".")[0])
                )
                views = list(layout.views(slots[-1]))
            arrays.append(views.pop(0))
    return arrays, tree.unflatten(structure, arrays), numbers, slots


def _grouped(results: list[Any], leaves: list[Any], flat: bool, count: int) -> list[Any]:
    """The new slots: a flat vector each, or a list of arrays each."""
    arrays = [r for r, old in zip(results, leaves, strict=True) if not isinstance(old, float)]
    return arrays if flat else [arrays[i : i + count] for i in range(0, len(arrays), count)]


def _whole(result: Any, flat: bool) -> Any:
    return result if flat else flat_vector(result)


def _projected(objective: Objective, layout: Layout, new: Any, flat: bool) -> Any:
    if isinstance(objective.penalty, MaxNorm):
        views = layout.views(new) if flat else new
        return flat_vector([objective.penalty.project(w) for w in views])
    return new if flat else flat_vector(new)


def record_evaluation(
    layout: Layout, loss: Callable[..., Any], link: str, X: Spec, y: Spec
) -> Plan:
    """A plan from (flat parameters, X, y) to the sum of the losses and the number of right answers."""
    level = Record()
    theta = level.input(Spec((layout.size,), layout.dtype), "params")
    data, targets = level.input(X, "X"), level.input(y, "y")
    net = tree.unflatten(layout.structure, layout.views(theta))
    z = net(data.astype(layout.dtype) if X.dtype.kind in "iub" else data)
    total = np.sum(loss(z, targets))
    outputs = [total, right_answers(z, targets, link)]
    graph = Graph(
        [theta.extra, data.extra, targets.extra], [level.node(o) for o in outputs], "evaluate"
    )
    return Plan(graph)


def right_answers(z: Any, y: Any, link: str) -> Any:
    """How many rows of outputs name the right class; 0 where there are no classes."""
    if link == "softmax":
        labels = y if len(y.shape) == 1 else np.argmax(y, axis=1)
        return np.sum(np.argmax(z, axis=1) == labels)
    if link == "margin" and len(z.shape) == 2 and z.shape[1] > 1:
        return np.sum(np.argmax(z, axis=1) == y)
    if link in ("sigmoid", "margin"):
        z = np.reshape(z, (z.shape[0], -1))
        return np.sum(
            np.all((z > 0) == (np.reshape(y, z.shape) > (0.5 if link == "sigmoid" else 0)), axis=1)
        )
    return np.zeros((), np.int64)
