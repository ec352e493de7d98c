"""Numbers that change from step to step, computed by Python before the kernels run.

A weak node is computed from Python numbers alone: `lr / (1 - b1**t)` in a rule, say. All of them
together become one small Python function on float64 numbers, the prologue; kernels get its results
as scalars, cast once to the type of the array that they meet. So a rate may change at every step
and nothing is traced or compiled again, and eager and compiled code see the same numbers.

The numbers of many steps can be had at once, with the bits of one step after the other: arrays are
used where IEEE 754 settles the last bit, which for the power of an array, say, it does not.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    if z.__class__ is not complex:
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

    `prologue.columns(*values)` takes for some of them a list, a number for each step, and returns
    such values: a list or an array where they depend on one.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.source, names = _write(self.inputs, self.outputs)
        exec(self.source, names)
        self._call: Callable[..., tuple[Any, ...]] = names["prologue"]

        nodes = [n for n in order(self.outputs) if not n.is_input]
        self._nodes = [n for n in nodes if n.op is not None]
        self._constants = {id(n): np.asarray(n.value).item() for n in nodes if n.op is None}

    def __call__(self, *numbers: Any) -> tuple[Any, ...]:
        return self._call(*numbers)

    def columns(self, *values: Any) -> list[Any]:
        known = self._constants | {
            id(n): _column(v) for n, v in zip(self.inputs, values, strict=True)
        }
        with np.errstate(all="ignore"):
            for node in self._nodes:
                known[id(node)] = _on_columns(node, [known[id(a)] for a in node.args])
        return [known[id(node)] for node in self.outputs]


# The same on arrays of float64 as on Python's floats: IEEE 754 leaves no choice.
_EXACT: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "negative": np.negative,
    "divide": np.divide,
    "true_divide": np.divide,
}
_COLUMN, _FLOATS = (list, np.ndarray), (float, np.ndarray)


def _on_columns(node: Node, args: list[Any]) -> Any:
    """The values of a node: one if its arguments are numbers, a column if one of them is."""
    function = _function(node)
    lengths = [len(a) for a in args if isinstance(a, _COLUMN)]
    if not lengths:
        return function(*args)
    floats = [isinstance(a, _FLOATS) for a in args]
    if node.title in _EXACT and all(floats) and (function is not _divide or np.all(args[1])):
        return _EXACT[node.title](*args)
    rows = [_listed(a) if isinstance(a, _COLUMN) else itertools.repeat(a) for a in args]
    if node.title not in _FAST or not any(floats):
        return list(map(function, *rows))
    with suppress(OverflowError, ZeroDivisionError, TypeError):  # where Python gives no float
        plain = operator.pow if function is _power else function
        return np.fromiter(map(plain, *rows), np.float64, lengths[0])
    return np.fromiter(map(function, *rows), np.float64, lengths[0])


def _column(value: Any) -> Any:
    """A list of floats as an array."""
    if isinstance(value, list) and set(map(type, value)) == {float}:
        return np.array(value)
    return value


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _function(node: Node) -> Callable[..., Any]:
    """The operation of a node on Python numbers."""
    infix = _INFIX.get(node.title)
    if infix is not None:
        return _lambda(infix)
    assert node.op is not None
    return _FAST.get(node.title) or _on_numbers(node.op.eval, node.params)


@functools.cache
def _lambda(infix: str) -> Callable[..., Any]:
    found: Callable[..., Any] = eval(f"lambda x, y=0, z=0: {infix.format(*'xyz')}")
    return found


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
            space[function] = _function(node)
            expression = f"{function}({', '.join(args)})"
        names[id(node)] = f"v{len(lines)}"
        lines.append(f"    {names[id(node)]} = {expression}  # {node.title}")
    results = "".join(f"{names[id(n)]}, " for n in outputs)
    return "\n".join([heading, *lines, f"    return ({results})"]), space


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_")
