"""Numbers that change from step to step, computed by Python before the kernels run.

A weak node is computed from Python numbers alone: `lr / (1 - b1**t)` in a rule, say. All of them
together become one small Python function on float64 numbers, the prologue; kernels get its results
as scalars, cast once to the type of the array that they meet. So a rate may change at every step
and nothing is traced or compiled again, and eager and compiled code see the same numbers.

It works number by number, never on arrays of steps: the power of a NumPy array may differ from the
power of a number in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.core.graph import Graph, Node, order

# Python's own arithmetic where it is the same and ten times faster than NumPy's on single numbers.
_INFIX = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "square": "{0} * {0}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "where": "({1} if {0} else {2})",
}


def _divide(x: Any, y: Any) -> Any:
    if y:
        return x / y
    return math.nan if x == 0 or x != x else math.copysign(math.inf, x) * math.copysign(1, y)


def _power(x: Any, y: Any) -> Any:
    try:
        z = x**y
    except (OverflowError, ZeroDivisionError):
        z = complex(0)
    if not isinstance(z, complex):
        return z
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(x), np.float64(y)))


def _sqrt(x: Any) -> Any:
    return math.sqrt(x) if x >= 0 else math.nan


_FAST: dict[str, Callable[..., Any]] = {
    "divide": _divide,
    "true_divide": _divide,
    "power": _power,
    "sqrt": _sqrt,
}


def _on_numbers(f: Callable[..., Any], params: dict[str, Any]) -> Callable[..., Any]:
    """A function of NumPy arrays as one of Python numbers."""

    def found(*xs: Any) -> Any:
        given = [np.float64(x) if isinstance(x, float) else x for x in xs]
        with np.errstate(all="ignore"):
            return np.asarray(f(*given, **params)).item()

    return found


def weak_frontier(graph: Graph) -> list[Node]:
    """The weak values that operations on arrays, or the outputs, use."""
    found: dict[int, Node] = {}
    for node in graph.nodes:
        if not node.spec.weak:
            found.update({id(a): a for a in node.args if a.spec.weak and not a.is_constant})
    found.update({id(o): o for o in graph.outputs if o.spec.weak and not o.is_constant})
    return list(found.values())


class Prologue:
    """The function from the weak inputs of a graph to the weak values that its arrays meet.

    `prologue(*numbers)` takes one number per weak input, in order, and returns the values of
    `outputs` as a tuple of Python numbers. `source` is its text.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.source, names = _write(self.inputs, self.outputs)
        exec(self.source, names)
        self._call: Callable[..., tuple[Any, ...]] = names["prologue"]

    def __call__(self, *numbers: Any) -> tuple[Any, ...]:
        return self._call(*numbers)


def _write(inputs: list[Node], outputs: list[Node]) -> tuple[str, dict[str, Any]]:
    """The text of the function, and the names that it uses."""
    names = {id(n): f"{_identifier(n.name) or 'x'}_{i}" for i, n in enumerate(inputs)}
    space: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
    heading = f"def prologue({', '.join(names[id(n)] for n in inputs)}):"
    lines: list[str] = []
    for node in order(outputs):
        if id(node) in names:
            continue
        if node.op is None:
            names[id(node)] = f"({np.asarray(node.value).item()!r})"
            continue
        args = [names[id(a)] for a in node.args]
        if node.title in _INFIX:
            expression = _INFIX[node.title].format(*args)
        else:
            function = f"f{len(lines)}"
            space[function] = _FAST.get(node.title) or _on_numbers(node.op.eval, node.params)
            expression = f"{function}({', '.join(args)})"
        names[id(node)] = f"v{len(lines)}"
        lines.append(f"    {names[id(node)]} = {expression}  # {node.title}")
    results = "".join(f"{names[id(n)]}, " for n in outputs)
    return "\n".join([heading, *lines, f"    return ({results})"]), space


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_")
