"""Powers and roots. Of float32 in float64 and rounded once (0.501 ulp), branch-free; else libm.

A literal exponent of 0, 1, 2 or -1 costs a multiplication or less. Integer powers wrap around as
products do. Where NumPy raises, for a negative exponent of an integer, a kernel has x^y truncated.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir

from fallline.compiler.library import exponential, logarithm
from fallline.compiler.library.value import Value, absolute, copysign, library, sqrt, where


def power(x: Value, y: Value) -> Value:
    """x^y."""
    exponent = y.ir.constant if isinstance(y.ir, ir.Constant) else None
    if exponent in (0, 1, 2):
        return (x.constant(1), x, x * x)[int(exponent)]
    if x.dtype.kind != "f":
        return _integer_power(x, y)
    if exponent == -1:
        return 1 / x
    return _power_float32(x, y) if x.dtype == np.float32 else library("pow", x, y)


def cbrt(x: Value) -> Value:
    """cbrt |x| = e^(log |x| / 3)."""
    if x.dtype == np.float64:
        return library("cbrt", x)
    logarithms = logarithm.log(absolute(x).astype(np.float64))
    return copysign(exponential.exp(logarithms * (1 / 3)).astype(np.float32), x)


def hypot(x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow; infinite if x or y is, even beside NaN."""
    if x.dtype == np.float64:
        return library("hypot", x, y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    infinite = (absolute(x) == math.inf) | (absolute(y) == math.inf)
    return where(infinite, math.inf, sqrt(a * a + b * b).astype(np.float32))


def _power_float32(x: Value, y: Value) -> Value:
    """|x|^y = e^(y log |x|), then the sign and the exceptions of C's pow."""
    exponents = logarithm.log(absolute(x).astype(np.float64)) * y.astype(np.float64)
    result = exponential.exp(exponents).astype(np.float32)
    half = y * 0.5
    whole = y.call("rint") == y
    odd = whole & (half.call("rint") != half)
    result = where(odd, copysign(result, x), result)
    result = where((x < 0) & (x > -math.inf) & ~whole, math.nan, result)
    unit = (y == 0) | (x == 1) | ((x == -1) & (absolute(y) == math.inf))
    return where(unit, 1, result)


def _integer_power(x: Value, y: Value) -> Value:
    if x.dtype.kind == "u":
        return _square_and_multiply(x, y)
    unit = where((x == 1) | (x == -1), where((y & 1) != 0, x, 1), 0)
    return where(y < 0, unit, _square_and_multiply(x, y))


def _square_and_multiply(x: Value, y: Value) -> Value:
    """A loop over the bits of y, the lowest first."""
    builder, unsigned = x.builder, f"u{x.dtype.itemsize}"
    start = (x.constant(1), x, y)
    before, loop = builder.block, builder.append_basic_block("power")
    after = builder.append_basic_block("powered")
    builder.branch(loop)
    builder.position_at_end(loop)
    phis = [builder.phi(v.ir.type) for v in start]
    result, base, bits = (Value(builder, phi, unsigned) for phi in phis)
    step = (where((bits & 1) != 0, result * base, result), base * base, bits >> 1)
    for phi, first, next_value in zip(phis, start, step, strict=True):
        phi.add_incoming(first.ir, before)
        phi.add_incoming(next_value.ir, loop)
    builder.cbranch((step[2] != 0).ir, loop, after)
    builder.position_at_end(after)
    return step[0].astype(x.dtype)
