"""The hyperbolic functions and their inverses, of float32: in float64 and rounded once.

The formulas lose a few bits of float64 at most, so that results are correctly rounded but for one
in millions (0.501 ulp). They are branch-free. Of float64 these functions are the C library's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fallline.compiler.library import exponential, logarithm
from fallline.compiler.library.value import Value, absolute, copysign, library, sqrt, where


def _through_float64(name: str) -> Callable[[Callable[[Value], Value]], Callable[[Value], Value]]:
    """Of float32 a formula in float64, of float64 the C library's function of this name."""

    def decorate(formula: Callable[[Value], Value]) -> Callable[[Value], Value]:
        def evaluate(x: Value) -> Value:
            if x.dtype == np.float64:
                return library(name, x)
            return formula(x.astype(np.float64)).astype(np.float32)

        evaluate.__name__, evaluate.__doc__ = formula.__name__, formula.__doc__
        return evaluate

    return decorate


@_through_float64("sinh")
def sinh(x: Value) -> Value:
    """sinh |x| = (m + m / (m + 1)) / 2,  m = e^|x| - 1."""
    a = absolute(x)
    m = exponential.expm1(where(a > 100, 100, a))  # inf / inf
    return copysign((m + m / (m + 1)) * 0.5, x)


@_through_float64("cosh")
def cosh(x: Value) -> Value:
    """(e^|x| + e^-|x|) / 2."""
    e = exponential.exp(absolute(x)) * 0.5
    return e + 0.25 / e


@_through_float64("asinh")
def arcsinh(x: Value) -> Value:
    """arcsinh |x| = log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))."""
    a = absolute(x)
    finite = where(a < 1e39, a, 1e39)  # inf / inf
    y = logarithm.log1p_inside(finite + finite * finite / (sqrt(finite * finite + 1) + 1))
    return copysign(where(a < math.inf, y, a), x)


@_through_float64("acosh")
def arccosh(x: Value) -> Value:
    """log1p(t + sqrt(t (t + 2))),  t = x - 1."""
    t = x - 1
    return where(t < 0, math.nan, logarithm.log1p(t + sqrt(t * (t + 2))))


@_through_float64("atanh")
def arctanh(x: Value) -> Value:
    """arctanh |x| = log1p(2 |x| / (1 - |x|)) / 2."""
    a = absolute(x)
    y = logarithm.log1p(2 * a / (1 - a)) * 0.5
    return copysign(where(a > 1, math.nan, y), x)
