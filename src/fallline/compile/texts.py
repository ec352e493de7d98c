"""Kernels that no region makes: written out for a number of axes."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

HEADING = "from fallline.compile.library.mathematics import *\n\n\n"
# What kernels write into the status word.
OUT_OF_BOUNDS, NOT_FINITE = 2, 3


def _name(dtype: np.dtype[Any]) -> str:
    return "bool" if dtype.kind == "b" else dtype.name


def _indexed(
    name: str,
    statement: str,
    dtype: np.dtype[Any],
    index: Sequence[np.dtype[Any]],
    lead: int,
    inner: int,
    unit: Sequence[bool],
) -> str:
    """for each place of the index arrays: find the row, check it; for each element of the row: `statement`."""
    parameters = [
        'status: "int64*"',
        *[f'n{i}: "int"' for i in range(lead)],
        *[f'm{i}: "int"' for i in range(inner)],
    ]
    for k, d in enumerate(index):
        parameters += [f'index{k}: "{_name(d)}*"', *[f'index{k}_{i}: "int"' for i in range(lead)]]
    for k in range(len(index)):
        parameters += [f'size{k}: "int"', f'step{k}: "int"']
    parameters += [f'x: "{_name(dtype)}*"', *[f'x_{i}: "int"' for i in range(inner)]]
    parameters += [
        f'y: "{_name(dtype)}*"',
        *[f'y_{i}: "int"' for i in range(lead)],
        *[f'yy_{i}: "int"' for i in range(inner)],
    ]
    lines = []
    for k in range(len(index)):
        at = " + ".join(f"i{i} * index{k}_{i}" for i in range(lead)) or "0"
        lines += [f"t{k} = int64(index{k}[{at}])", f"t{k} = t{k} + size{k} if t{k} < 0 else t{k}"]
        lines += [
            f"if t{k} < 0 or t{k} >= size{k}:",
            f"    status[0] = {OUT_OF_BOUNDS}",
            f"    t{k} = 0",
        ]
    lines.append("row = " + " + ".join(f"t{k} * step{k}" for k in range(len(index))))
    lines.append("place = " + (" + ".join(f"i{i} * y_{i}" for i in range(lead)) or "0"))
    body = [
        statement.format(
            x=f"x[row{_inner('x', inner, unit[0])}]",
            y=f"y[place{_inner('yy', inner, unit[1])}]",
            t=dtype.name if dtype.kind != "b" else "bool_",
        )
    ]
    for i in reversed(range(inner)):
        body = [f"for j{i} in range(m{i}):", *["    " + line for line in body]]
    lines += body
    for i in reversed(range(lead)):
        lines = [f"for i{i} in range(n{i}):", *["    " + line for line in lines]]
    return f"# name: {name}\n{HEADING}def kernel({', '.join(parameters)}):\n" + "".join(
        f"    {line}\n" for line in lines
    )


def _inner(array: str, inner: int, unit: bool) -> str:
    terms = [
        f" + j{i}" if unit and i == inner - 1 else f" + j{i} * {array}_{i}" for i in range(inner)
    ]
    return "".join(terms)


def gather(*form: Any) -> str:
    """y[i, j] = x[index[i], j]"""
    return _indexed("gather", "{y} = {x}", *form)


def scatter_add(*form: Any) -> str:
    """x[index[i], j] += y[i, j], in the order of i."""
    return _indexed("scatter_add", "{x} = {t}({x} + {y})", *form)


def argreduce(name: str, dtype: np.dtype[Any]) -> str:
    """The place of the first largest (smallest) element; the first nan counts as the largest and the smallest."""
    better = ">" if name == "argmax" else "<"
    nan = " or (v != v and best == best)" if dtype.kind == "f" else ""
    return f"""# name: {name}
{HEADING}def kernel(n0: "int", n1: "int", x: "{_name(dtype)}*", x_0: "int", x_1: "int", y: "int64*", y_0: "int", y_1: "int"):
    for i0 in range(n0):
        best = x[i0 * x_0]
        place = 0
        for i1 in range(1, n1):
            v = x[i0 * x_0 + i1 * x_1]
            if v {better} best{nan}:
                best = v
                place = i1
        y[i0 * y_0] = place
"""


def cumsum(dtype: np.dtype[Any], out: np.dtype[Any]) -> str:
    """Running sums along an axis."""
    return f"""# name: cumsum
{HEADING}def kernel(n0: "int", n1: "int", x: "{_name(dtype)}*", x_0: "int", x_1: "int", y: "{_name(out)}*", y_0: "int", y_1: "int"):
    for i0 in range(n0):
        total = {out.name}(0)
        for i1 in range(n1):
            total = {out.name}(total + {out.name}(x[i0 * x_0 + i1 * x_1]))
            y[i0 * y_0 + i1 * y_1] = total
"""


def guard(dtype: np.dtype[Any]) -> str:
    """Stops the walk if a number is not finite."""
    return f"""# name: guard
{HEADING}def kernel(status: "int64*", x: "{_name(dtype)}"):
    if not isfinite(x):
        status[0] = {NOT_FINITE}
"""


def of_function(function: Callable[..., Any], dtype: np.dtype[Any]) -> str:
    """The kernel of a user's operation: the source of the function, with T the type of the result."""
    name = function.__name__
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        raise TypeError(f"{name}: the source of a kernel must be known. Write it in a file or a notebook cell.") from None
    if not source.startswith("def "):
        raise TypeError(f"{name}: a kernel must be a function made with def, without decorators.")
    source = re.sub(rf"^def {name}\b", "def kernel", source)
    source = re.sub(r"""(["'])T(\*?)\1""", rf'"{_name(dtype)}\2"', source)
    return f"# name: {re.sub('[^A-Za-z0-9_]', '', name) or 'kernel'}\n{HEADING}{source}"
