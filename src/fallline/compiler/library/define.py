"""From a formula over `Value`s to a function that a kernel may call.

    exp = function(np.exp)(formula)

Numba types a call by asking NumPy's ufunc what it computes in and returns, so that promotion is
NumPy's: a literal integer is weak, as a Python scalar is. (For float16, in which no kernel
computes, read float32.) Then the formula is emitted into the caller. Nothing else is compiled: a
call costs a kernel some milliseconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.np.numpy_support import as_dtype, from_dtype

from fallline.compiler.library.value import Value, llvm_type

Formula = Callable[..., Any]  # Values to a Value or a tuple of them
Resolve = Callable[..., tuple[Any, ...]]


def function(like: np.ufunc | Resolve) -> Callable[[Formula], Any]:
    """Make a formula callable in kernels, typed like a ufunc.

    Or typed by a function of the arguments' dtypes. It returns those to compute in and, last, that
    of the result, which may be a tuple of several.
    """
    resolve = _resolve_ufunc(like) if isinstance(like, np.ufunc) else like

    def decorate(formula: Formula) -> Any:
        def typing(context: Any, *arguments: types.Type) -> Any:
            if not all(isinstance(a, types.Number | types.Boolean) for a in arguments):
                return None
            *operands, result = resolve(*map(_weak_dtype, arguments))
            kinds = [_computable(dtype) for dtype in operands]

            def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
                given = zip(signature.args, values, kinds, strict=True)
                inputs = [_operand(builder, *argument) for argument in given]
                return _pack(context, builder, formula(*inputs), signature.return_type)

            return _result_type(result)(*arguments), emit

        return intrinsic(prefer_literal=True)(_named_like(formula, typing))

    return decorate


def _named_like(formula: Formula, typing: Any) -> Any:
    """Name and parameters, which Numba reads off the typing function."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ["context", *inspect.signature(formula).parameters]
    typing.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])
    typing.__name__ = typing.__qualname__ = formula.__name__
    typing.__doc__, typing.__module__ = formula.__doc__, formula.__module__
    return typing


def _resolve_ufunc(ufunc: np.ufunc) -> Resolve:
    return lambda *dtypes: ufunc.resolve_dtypes((*dtypes, *(None,) * ufunc.nout))


def _weak_dtype(kind: types.Type) -> Any:
    return int if isinstance(kind, types.IntegerLiteral) else as_dtype(types.unliteral(kind))


def _computable(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _operand(builder: ir.IRBuilder, kind: types.Type, value: ir.Value, dtype: np.dtype) -> Value:
    """An argument as the formula wants it. A literal stays a constant that it can look at."""
    if isinstance(kind, types.IntegerLiteral):
        return Value(builder, ir.Constant(llvm_type(dtype), kind.literal_value), dtype)
    return Value(builder, value, as_dtype(types.unliteral(kind))).astype(dtype)


def _result_type(result: Any) -> types.Type:
    if isinstance(result, tuple):
        return types.Tuple([_result_type(r) for r in result])
    return from_dtype(_computable(result))


def _pack(context: Any, builder: ir.IRBuilder, result: Any, kind: Any) -> ir.Value:
    if not isinstance(result, tuple):
        return result.astype(as_dtype(kind)).ir
    items = [r.astype(as_dtype(k)).ir for r, k in zip(result, kind, strict=True)]
    return context.make_tuple(builder, kind, items)
