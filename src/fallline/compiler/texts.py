"""Kernels that no region makes: written out for a number of axes."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fallline.compiler.expression import DType, type_name
from fallline.core.spec import Spec

HEADING = "from fallline.compiler.library.mathematics import *\n\n\n"
INDENT = "    "
# What kernels write into the status word.
OUT_OF_BOUNDS, NOT_FINITE = 2, 3


def gather(*form: Any) -> str:
    """y[i, j] = x[index[i], j]"""
    return _indexed("gather", "{y} = {x}", *form)


def scatter_add(*form: Any) -> str:
    """x[index[i], j] += y[i, j], in the order of i."""
    return _indexed("scatter_add", "{x} = {t}({x} + {y})", *form)


def argreduce(name: str, dtype: DType, unit: bool) -> str:
    """The place of the first largest (smallest) element; the first nan counts as either.

    Where elements lie side by side (`unit`), what is largest is found first and then where it is:
    LLVM vectorises both loops.
    """
    is_float = dtype.kind == "f"
    if unit:
        kind = name.removeprefix("arg")
        reduce = f"reduce_{kind}" if is_float else f"{kind}imum"
        search = f"""\
        for i1 in range(1, n1):
            best = {reduce}(best, x[i0 * x_0 + i1])
        place = n1
        for i1 in range(n1):
            v = x[i0 * x_0 + i1]
            place = min(place, i1 if v == best{" or v != v" if is_float else ""} else n1)
"""
    else:
        better = ">" if name == "argmax" else "<"
        search = f"""\
        place = 0
        for i1 in range(1, n1):
            v = x[i0 * x_0 + i1 * x_1]
            if v {better} best{" or (v != v and best == best)" if is_float else ""}:
                best = v
                place = i1
"""
    body = f"""\
    for i0 in range(n0):
        best = x[i0 * x_0]
{search}        y[i0 * y_0] = place
"""
    return _module(name, _along_an_axis(dtype, np.dtype(np.int64)), body)


def cumsum(dtype: DType, out: DType) -> str:
    """Running sums along an axis."""
    body = f"""\
    for i0 in range(n0):
        total = {out.name}(0)
        for i1 in range(n1):
            total = {out.name}(total + {out.name}(x[i0 * x_0 + i1 * x_1]))
            y[i0 * y_0 + i1 * y_1] = total
"""
    return _module("cumsum", _along_an_axis(dtype, out), body)


def guard(dtype: DType) -> str:
    """Stops the walk if a number is not finite."""
    body = f"""\
    if not isfinite(x):
        status[0] = {NOT_FINITE}
"""
    return _module("guard", ['status: "int64*"', f'x: "{type_name(dtype)}"'], body)


def of_function(function: Callable[..., Any], dtype: DType) -> str:
    """The kernel of a user's operation: the function's source, with T the type of the result."""
    name = function.__name__
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        raise TypeError(
            f"{name}: the source of a kernel must be known. Write it in a file or a notebook cell."
        ) from None
    if not source.startswith("def "):
        raise TypeError(f"{name}: a kernel must be a function made with def, without decorators.")
    source = re.sub(rf"^def {name}\b", "def kernel", source)
    source = re.sub(r"""(["'])T(\*?)\1""", rf'"{type_name(dtype)}\2"', source)
    return f"# name: {re.sub('[^A-Za-z0-9_]', '', name) or 'kernel'}\n{HEADING}{source}"


def _module(name: str, parameters: Iterable[str], body: str) -> str:
    return f"# name: {name}\n{HEADING}def kernel({', '.join(parameters)}):\n{body}"


def _along_an_axis(dtype: DType, out: DType) -> list[str]:
    """Parameters of a kernel that goes along one axis (1), for each place of another (0)."""
    return [
        *_integers("n", 2),
        *_array("x", dtype, _integers("x_", 2)),
        *_array("y", out, _integers("y_", 2)),
    ]


def _indexed(
    name: str,
    statement: str,
    dtype: DType,
    index: Sequence[DType],
    lead: int,
    inner: int,
    unit: Sequence[bool],
) -> str:
    """For each place of the index arrays the row of x; for each of its elements `statement`.

    index  the types of the index arrays. lead, inner  how many axes they and a row have.
    unit   whether elements of a row lie side by side, in x and in y.
    """
    parameters = ['status: "int64*"', *_integers("n", lead), *_integers("m", inner)]
    for k, d in enumerate(index):
        parameters += _array(f"index{k}", d, _integers(f"index{k}_", lead))
    for k in range(len(index)):
        parameters += [f'size{k}: "int"', f'step{k}: "int"']
    parameters += _array("x", dtype, _integers("x_", inner))
    parameters += _array("y", dtype, [*_integers("y_", lead), *_integers("yy_", inner)])
    element = statement.format(
        x=f"x[row{_inner('x', inner, unit[0])}]",
        y=f"y[place{_inner('yy', inner, unit[1])}]",
        t=dtype.name if dtype.kind != "b" else "bool_",
    )
    body = [*_row(len(index), lead), *_nest("j", "m", inner, [element])]
    lines = _nest("i", "n", lead, body)
    return _module(name, parameters, "".join(f"{INDENT}{line}\n" for line in lines))


def _integers(prefix: str, count: int) -> list[str]:
    return [f'{prefix}{i}: "int"' for i in range(count)]


def _array(name: str, dtype: DType, strides: list[str]) -> list[str]:
    return [f'{name}: "{type_name(dtype)}*"', *strides]


def _row(count: int, lead: int) -> list[str]:
    """Read `count` indices, check them, and find the row of x and the place in y."""
    lines = []
    for k in range(count):
        at = " + ".join(f"i{i} * index{k}_{i}" for i in range(lead)) or "0"
        lines += [
            f"t{k} = int64(index{k}[{at}])",
            f"t{k} = t{k} + size{k} if t{k} < 0 else t{k}",
            f"if t{k} < 0 or t{k} >= size{k}:",
            f"{INDENT}status[0] = {OUT_OF_BOUNDS}",
            f"{INDENT}t{k} = 0",
        ]
    lines.append("row = " + " + ".join(f"t{k} * step{k}" for k in range(count)))
    lines.append("place = " + (" + ".join(f"i{i} * y_{i}" for i in range(lead)) or "0"))
    return lines


def _inner(array: str, inner: int, unit: bool) -> str:
    """The way from the beginning of a row to its element."""
    last = inner - 1
    terms = [f"j{i}" if unit and i == last else f"j{i} * {array}_{i}" for i in range(inner)]
    return "".join(f" + {term}" for term in terms)


def _nest(index: str, size: str, count: int, body: list[str]) -> list[str]:
    for i in reversed(range(count)):
        body = [f"for {index}{i} in range({size}{i}):", *[INDENT + line for line in body]]
    return body


def check_parameters(function: Callable[..., Any], arrays: Sequence[Spec], result: DType) -> None:
    """Whether the annotations of a user's kernel are those that these arrays need."""
    wanted = [w for a in arrays for w in (*("int",) * a.ndim, f"{type_name(a.dtype)}*")]
    annotations = {n: a for n, a in inspect.get_annotations(function).items() if n != "return"}
    given = [str(a).strip("'\"") for a in annotations.values()]
    given = [re.sub(r"^T\b", type_name(result), a) for a in given]
    if given != wanted:
        raise TypeError(
            f"{function.__name__}: the arguments of the kernel must be annotated "
            f"{', '.join(wanted)} for {', '.join(map(repr, arrays[:-1]))} and the result "
            f"{arrays[-1]!r}; got {', '.join(given) or 'none'}."
        )
