"""log and its relatives, branch-free.

    x = 2^e (1 + f),  sqrt(1/2) <= 1 + f < sqrt(2);        log x = e log 2 + log(1 + f)

Errors in ulp, measured over the whole range:

                float32   float64
    log           1.0       1.2
    log2          1.5       1.6
    log10         1.6       1.7
    log1p         0.9       0.9
    softplus      1.9       2.2
    log_sigmoid   1.9       2.2
    logaddexp     1.7       1.8
    logaddexp2    2.5       2.7

The last two have this error of their larger argument: near a result of 0 two terms cancel.
"""

from __future__ import annotations

import math

import numpy as np

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.exponential import exp, exp2
from fallline.compiler.library.mathematics.real import (
    Real,
    nan,
    polynomial,
    power_of_two,
    real,
    to_float,
)
from fallline.compiler.library.value import Value, absolute, copysign, fma, where


def log(x: Value) -> Value:
    """log x; -inf of 0, NaN below."""
    kind = real(x)
    e, f = split_subnormal(x, kind)
    return _special(x, _log_of(e, f, kind), 0)


def log2(x: Value) -> Value:
    """e + log(1 + f) / log 2, exact for powers of two."""
    kind = real(x)
    e, f = split_subnormal(x, kind)
    y = _log1p_reduced(f, kind)
    return _special(x, fma(y, kind.log2_e[0], fma(y, kind.log2_e[1], e)), 0)


def log10(x: Value) -> Value:
    """e log10 2 + log(1 + f) / log 10."""
    kind = real(x)
    e, f = split_subnormal(x, kind)
    y = _log1p_reduced(f, kind)
    low = fma(e, kind.log10_2[1], y * kind.log10_e[1])
    return _special(x, fma(e, kind.log10_2[0], fma(y, kind.log10_e[0], low)), 0)


def log1p(x: Value) -> Value:
    """log(1 + x) from the rounded sum and what its rounding lost; -inf of -1, NaN below."""
    return copysign(_special(x, log1p_inside(x), -1), x)


def log1p_inside(x: Value) -> Value:
    """log1p for -1 < x < inf."""
    kind = real(x)
    total = x + 1
    shift = total - 1
    return _log1p_of_sum(total, (1 - (total - shift)) + (x - shift), kind)


def log1p_pair(x: Value, low: Value) -> Value:
    """log(1 + x + low) for 0 <= x < inf and a much smaller low."""
    kind = real(x)
    total = x + 1
    # Whichever of 1 and x is larger, the sum less the larger is exact.
    lost = where(x > 1, 1 - (total - x), x - (total - 1))
    return _log1p_of_sum(total, lost + low, kind)


def softplus(x: Value) -> Value:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return where(x < 0, 0, x) + _log1p_of_fraction(exp(-absolute(x)))


def log_sigmoid(x: Value) -> Value:
    """log(sigmoid(x)) = min(x, 0) - log1p(e^-|x|)."""
    return where(x > 0, 0, x) - _log1p_of_fraction(exp(-absolute(x)))


def logaddexp(x: Value, y: Value) -> Value:
    """log(e^x + e^y) = max(x, y) + log1p(e^-|x - y|)."""
    return _larger(x, y) + _log1p_of_fraction(exp(-_distance(x, y)))


def logaddexp2(x: Value, y: Value) -> Value:
    """log2(2^x + 2^y) = max(x, y) + log1p(2^-|x - y|) / log 2."""
    return _larger(x, y) + _log1p_of_fraction(exp2(-_distance(x, y))) * real(x).log2_e[0]


def _larger(x: Value, y: Value) -> Value:
    return where((x > y) | (x != x), x, y)


def _distance(x: Value, y: Value) -> Value:
    return where(x == y, 0, absolute(x - y))  # inf - inf


def _log_of(e: Value, f: Value, kind: Real) -> Value:
    return fma(e, kind.log2[0], fma(e, kind.log2[1], _log1p_reduced(f, kind)))


def _log1p_of_sum(total: Value, lost: Value, kind: Real) -> Value:
    """log(total + lost) of a positive normal total."""
    e, f, n = _split(total, kind)
    # Where 2^-n would leave the normal numbers the lost part is far below the last bit.
    n = where(n > kind.bias - 1, kind.bias - 1, n)
    f, low = pairs.add_smaller(f, lost * power_of_two(-n, kind))
    rest = fma(e, kind.log2[1], fma(-f, low, low))
    return fma(e, kind.log2[0], _log1p_reduced(f, kind, rest))


def _log1p_of_fraction(x: Value) -> Value:
    """log(1 + x) for 0 <= x <= 1: of (1 + x) / 2 and 2 where 1 + x is above sqrt(2)."""
    kind = real(x)
    above = x > 0.414
    y = _log1p_reduced(where(above, fma(x, 0.5, -0.5), x), kind)
    return where(above, (y + kind.log2[1]) + kind.log2[0], y)


def _log1p_reduced(f: Value, kind: Real, rest: Value | float = 0) -> Value:
    """log(1 + f) + rest for sqrt(1/2) <= 1 + f <= sqrt(2); the rest is far smaller."""
    square = f * f
    if kind.dtype is np.float32:
        return f + fma(fma(polynomial(kind.log, f), f, -0.5), square, rest)
    # In float64 the polynomial in s = f / (2 + f) is half as long; 2 s = f - s f keeps f exact.
    s = f / (f + 2)
    z = s * s
    return f - (fma(-s, fma(polynomial(kind.log, z), z, square * 0.5), square * 0.5) - rest)


def split_subnormal(x: Value, kind: Real) -> tuple[Value, Value]:
    """e as a number, and f, of a positive x."""
    tiny = x < kind.smallest
    e, f = split_normal(where(tiny, x * 2.0**kind.mantissa, x), kind)
    return where(tiny, e - kind.mantissa, e), f


def split_normal(x: Value, kind: Real) -> tuple[Value, Value]:
    """e as a number, and f, of a positive normal x."""
    e, f, _ = _split(x, kind)
    return e, f


def _split(x: Value, kind: Real) -> tuple[Value, Value, Value]:
    """e as a number, f, and e as an integer, by the bit pattern of a positive normal number."""
    bits = x.view(kind.integer) - kind.root_half
    n = bits >> kind.mantissa
    m = ((bits & ((1 << kind.mantissa) - 1)) + kind.root_half).view(kind.dtype)
    return to_float(n, kind), m - 1, n


def _special(x: Value, result: Value, zero: float) -> Value:
    """The logarithm of infinity and NaN, at its pole and below it."""
    result = where(x < math.inf, result, x)
    return where(x < zero, nan(x), where(x == zero, -math.inf, result))
