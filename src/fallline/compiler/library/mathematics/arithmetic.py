"""Casts, arithmetic, order, signs, tests and rounding, as functions for kernels."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.compiler.library import value
from fallline.compiler.library.define import function
from fallline.compiler.library.mathematics import division
from fallline.compiler.library.value import Value

__all__ = [
    *["bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"],
    *["float32", "float64"],
    *["add", "subtract", "multiply", "divide", "negative", "square", "reciprocal", "fma", "sqrt"],
    *["floor_divide", "remainder", "fmod", "floor", "ceil", "trunc", "rint"],
    *["maximum", "minimum", "fmax", "fmin", "where", "reduce_add", "reduce_max", "reduce_min"],
    *["absolute", "fabs", "sign", "copysign", "signbit", "heaviside"],
    *["isnan", "isinf", "isfinite"],
    *["logical_and", "logical_or", "logical_xor", "logical_not"],
]


# Casts: float32(x), int64(x), bool_(x), ...


def _cast(name: str) -> Any:
    dtype = np.dtype(name)

    def cast(x: Value) -> Value:
        return x.astype(dtype)

    cast.__name__ = cast.__qualname__ = name
    return function(lambda given: (np.dtype(given), dtype))(cast)


bool_, float32, float64 = map(_cast, ("bool_", "float32", "float64"))
int8, int16, int32, int64 = map(_cast, ("int8", "int16", "int32", "int64"))
uint8, uint16, uint32, uint64 = map(_cast, ("uint8", "uint16", "uint32", "uint64"))


# Arithmetic in NumPy's types. On floats the operators + - * do the same; small integers they widen.


@function(np.add)
def add(x: Value, y: Value) -> Value:
    """x + y; of bools x or y."""
    return x | y if x.dtype.kind == "b" else x + y


@function(np.subtract)
def subtract(x: Value, y: Value) -> Value:
    """x - y."""
    return x - y


@function(np.multiply)
def multiply(x: Value, y: Value) -> Value:
    """x y."""
    return x * y


@function(np.divide)
def divide(x: Value, y: Value) -> Value:
    """x / y, a float."""
    return x / y


@function(np.negative)
def negative(x: Value) -> Value:
    """-x."""
    return -x


@function(np.square)
def square(x: Value) -> Value:
    """x^2."""
    return x * x


@function(np.reciprocal)
def reciprocal(x: Value) -> Value:
    """1 / x; of an integer truncated, where 0 gives some number, in NumPy too."""
    return 1 / (x if x.dtype.kind == "f" else value.where(x == 0, 1, x))


def _like_quotient(x: Any, y: Any, z: Any) -> tuple[np.dtype, ...]:
    *_, result = np.true_divide.resolve_dtypes((x, y, None))
    *_, result = np.true_divide.resolve_dtypes((result, z, None))
    return (result,) * 4


fma = function(_like_quotient)(value.fma)
sqrt = function(np.sqrt)(value.sqrt)
floor_divide = function(np.floor_divide)(division.floor_divide)
remainder = function(np.remainder)(division.remainder)
fmod = function(np.fmod)(division.fmod)


def _rounding(ufunc: np.ufunc) -> Any:
    def rounded(x: Value) -> Value:
        return x.call(ufunc.__name__) if x.dtype.kind == "f" else x

    rounded.__name__ = rounded.__qualname__ = ufunc.__name__
    return function(ufunc)(rounded)


floor, ceil, trunc, rint = map(_rounding, (np.floor, np.ceil, np.trunc, np.rint))


# Order


def _select(x: Value, y: Value, better: Callable[[Value, Value], Value]) -> Value:
    """x if it is better, else y: the second of -0 and 0, as NumPy has it on x86. NaN wins."""
    best = value.where(better(x, y), x, y)
    return value.where(x != x, x, best) if x.dtype.kind == "f" else best


def _select_number(x: Value, y: Value, better: Callable[[Value, Value], Value]) -> Value:
    """x if it is better, else y. A number wins against NaN."""
    best = value.where(better(x, y), x, y)
    return value.where(y != y, x, best) if x.dtype.kind == "f" else best


@function(np.maximum)
def maximum(x: Value, y: Value) -> Value:
    """The larger; NaN if either is."""
    return _select(x, y, operator.gt)


@function(np.minimum)
def minimum(x: Value, y: Value) -> Value:
    """The smaller; NaN if either is."""
    return _select(x, y, operator.lt)


@function(np.fmax)
def fmax(x: Value, y: Value) -> Value:
    """The larger; if one is NaN, the other."""
    return _select_number(x, y, operator.gt)


@function(np.fmin)
def fmin(x: Value, y: Value) -> Value:
    """The smaller; if one is NaN, the other."""
    return _select_number(x, y, operator.lt)


@function(lambda condition, x, y: (np.dtype(bool), *np.maximum.resolve_dtypes((x, y, None))))
def where(condition: Value, x: Value, y: Value) -> Value:
    """x if condition else y; both are computed."""
    return value.where(condition, x, y)


# Accumulators of loops


@function(np.add)
def reduce_add(total: Value, x: Value) -> Value:
    """total + x, where LLVM may reassociate: a loop over it sums in vector lanes.

    Once compiled, the order of summation is fixed. `reassoc` is the only flag: NaN and inf survive.
    """
    if x.dtype.kind != "f":
        return total + x
    return Value(x.builder, x.builder.fadd(total.ir, x.ir, flags=("reassoc",)), x.dtype)


@function(np.maximum)
def reduce_max(largest: Value, x: Value) -> Value:
    """maximum in a form that LLVM vectorises in a loop; of -0 and 0 it may return either."""
    if x.dtype.kind != "f":
        return value.where(x > largest, x, largest)
    return x.call("maximum", largest, flags=("nsz",))


@function(np.minimum)
def reduce_min(smallest: Value, x: Value) -> Value:
    """minimum in a form that LLVM vectorises in a loop; of -0 and 0 it may return either."""
    if x.dtype.kind != "f":
        return value.where(x < smallest, x, smallest)
    return x.call("minimum", smallest, flags=("nsz",))


# Signs


@function(np.absolute)
def absolute(x: Value) -> Value:
    """|x|; the most negative integer stays."""
    if x.dtype.kind == "f":
        return value.absolute(x)
    return value.where(x < 0, -x, x) if x.dtype.kind == "i" else x


@function(np.sign)
def sign(x: Value) -> Value:
    """-1, 0 (of -0 too) or 1; NaN of NaN."""
    result = value.where(x > 0, x.constant(1), 0)
    if x.dtype.kind != "u":
        result = value.where(x < 0, -1, result)
    return value.where(x != x, x, result) if x.dtype.kind == "f" else result


@function(np.signbit)
def signbit(x: Value) -> Value:
    """The sign bit, also of -0 and NaN."""
    return x.view(np.int32 if x.dtype == np.float32 else np.int64) < 0


@function(np.heaviside)
def heaviside(x: Value, y: Value) -> Value:
    """0 where x < 0, y where x == 0, 1 where x > 0; NaN of NaN."""
    return value.where(x == 0, y, value.where(x < 0, 0, value.where(x > 0, 1, x)))


fabs = function(np.fabs)(value.absolute)
copysign = function(np.copysign)(value.copysign)


# Tests and logic


@function(np.isnan)
def isnan(x: Value) -> Value:
    """x is NaN."""
    return x != x


@function(np.isinf)
def isinf(x: Value) -> Value:
    """x is infinite; no integer is."""
    return value.absolute(x) == math.inf if x.dtype.kind == "f" else x != x


@function(np.isfinite)
def isfinite(x: Value) -> Value:
    """x is neither infinite nor NaN."""
    return value.absolute(x) < math.inf if x.dtype.kind == "f" else x == x


@function(np.logical_and)
def logical_and(x: Value, y: Value) -> Value:
    """x != 0 and y != 0."""
    return x.astype(bool) & y.astype(bool)


@function(np.logical_or)
def logical_or(x: Value, y: Value) -> Value:
    """x != 0 or y != 0."""
    return x.astype(bool) | y.astype(bool)


@function(np.logical_xor)
def logical_xor(x: Value, y: Value) -> Value:
    """Exactly one of x != 0 and y != 0."""
    return x.astype(bool) ^ y.astype(bool)


@function(np.logical_not)
def logical_not(x: Value) -> Value:
    """x == 0."""
    return ~x.astype(bool)
