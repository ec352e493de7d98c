"""How one operation is written in the text of a kernel."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np

from fallline.core.graph import Node

DType = np.dtype[Any]

SMALL_INTEGERS = range(-16, 17)  # these, and their halves, stand in the text as they are

# What operations with a name of arithmetic mean on bools.
_BOOLEAN = {
    "add": "{0} | {1}",
    "multiply": "{0} & {1}",
    "maximum": "{0} | {1}",
    "minimum": "{0} & {1}",
    "logical_not": "not {0}",
    "invert": "not {0}",
}


def type_name(dtype: DType) -> str:
    """A type in the signature of a kernel."""
    return "bool" if dtype.kind == "b" else dtype.name


def cast(text: str, dtype: DType) -> str:
    """An expression in another type."""
    return f"{'bool_' if dtype.kind == 'b' else dtype.name}({text})"


def loop_types(node: Node) -> list[DType]:
    """The types to which an operation casts its arguments: those of NumPy's own inner loop."""
    assert node.op is not None
    if isinstance(node.op.eval, np.ufunc):
        kinds = [_promoted(a) for a in node.args]
        return list(node.op.eval.resolve_dtypes((*kinds, None))[: len(node.args)])
    if node.title == "astype":
        return [a.spec.dtype for a in node.args]
    out = node.spec.dtype
    types = [a.spec.dtype for a in node.args]
    return [t if (t.kind == "b") != (out.kind == "b") else out for t in types]


def _promoted(arg: Node) -> Any:
    """What an argument is to NumPy's promotion: a Python type for a weak number."""
    dtype = arg.spec.dtype
    return {"i": int, "f": float}.get(dtype.kind, dtype) if arg.spec.weak else dtype


def expression(node: Node, args: list[str], types: list[DType]) -> str:
    """An elementwise operation of these arguments, in the type of its result."""
    assert node.op is not None
    out = node.spec.dtype
    if types and all(t.kind == "b" for t in types) and node.title in _BOOLEAN:
        return _BOOLEAN[node.title].format(*args)
    named = {k: _parameter(v, out) for k, v in node.params.items()}
    text = _with_types(str(node.op.kernel), _working_type(types, out)).format(*args, **named)
    if node.title == "astype":
        return cast(text, out)
    if out.kind in "iu" or (out.kind == "f" and _may_widen(text, types, out)):
        return cast(text, out)
    return text


def _working_type(types: list[DType], out: DType) -> str:
    """The float type in which an expression is computed, if it is one."""
    floats = [t for t in (out, *types) if t.kind == "f"]
    return floats[0].name if floats else ""


@functools.cache
def _with_types(kernel: str, dtype: str) -> str:
    """The numbers in an expression have its type: a bare 1 would make float64 of float32."""
    number = r"(?<![\w.{])(\d+\.?\d*(?:[eE][-+]?\d+)?)(?![\w.}])"
    return re.sub(number, rf"{dtype}(\1)", kernel) if dtype else kernel


def _parameter(value: Any, dtype: DType) -> str:
    """A parameter of an operation, as it stands in the text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and dtype.kind == "f":
        return f'{dtype.name}(float("{float(value)!r}"))'
    return str(value)


def _may_widen(text: str, types: list[DType], out: DType) -> bool:
    """Whether arithmetic on the arguments gives another type than the result's."""
    is_formula = "(" not in text and not text.strip("-+").isidentifier()
    return is_formula and any(t != out for t in types)


def literal(node: Node, dtype: DType) -> str | None:
    """A constant that deserves to stand in the text: a small integer or a half.

    Others are arguments, so that a kernel is not bound to them.
    """
    if not node.is_constant or np.ndim(node.value) != 0:
        return None
    value = np.asarray(node.value).item()
    if dtype.kind == "b":
        return str(bool(value))
    if dtype.kind in "iu":
        return f"{dtype.name}({int(value)})" if value in SMALL_INTEGERS else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value * 2 in SMALL_INTEGERS and not (value == 0 and math.copysign(1, value) < 0):
        return f"{dtype.name}({float(value)!r})"
    return None


def start(node: Node) -> str:
    """The value of a reduction over nothing."""
    assert node.op is not None
    dtype, kind = node.spec.dtype, node.op.kernel
    if kind in ("all", "any"):
        return str(kind == "all")
    if kind == "add":
        return f"{dtype.name}(0)"
    if dtype.kind == "b":
        return str(kind == "min")
    if dtype.kind == "f":
        return f'{dtype.name}(float("{"-" if kind == "max" else ""}inf"))'
    limits = np.iinfo(dtype)
    return f"{dtype.name}({limits.min if kind == 'max' else limits.max})"


def accumulate(node: Node, total: str, value: str, in_memory: bool = False) -> str:
    """A reduction's total with one more value.

    A total of floats in a register may be reduced in lanes; one in memory is one of many already.
    """
    assert node.op is not None
    dtype, kind = node.spec.dtype, node.op.kernel
    if kind in ("all", "any"):
        return f"{total} {'&' if kind == 'all' else '|'} {value}"
    if kind == "add" and dtype.kind != "f":
        return f"{dtype.name}({total} + {value})"
    if kind == "add" and in_memory:
        return f"{total} + {value}"
    if dtype.kind == "f":
        return f"reduce_{kind}({total}, {value})"
    return f"{'maximum' if kind == 'max' else 'minimum'}({total}, {value})"
