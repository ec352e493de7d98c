"""The hyperbolic functions and their inverses, branch-free.

    |x| = n log 2 + r,  0 <= r <= log 2;      sinh |x| = A cosh r + B sinh r
    A = sinh (n log 2),  B = cosh (n log 2)   cosh  x  = B cosh r + A sinh r

All terms are positive, so nothing cancels, and n is 0 near 0, where sinh r keeps its digits.
The inverses are logarithms of 1 + w, where w is known to more than its rounding. Errors in ulp,
measured over the whole range:

                float32   float64
    sinh          1.9       1.6
    cosh          2.0       1.6
    arcsinh       1.3       1.3
    arccosh       1.1       1.1
    arctanh       0.9       0.9
"""

from __future__ import annotations

import math

import numpy as np

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.exponential import split_down
from fallline.compiler.library.mathematics.logarithm import log1p_pair
from fallline.compiler.library.mathematics.real import polynomial, power_of_two, real
from fallline.compiler.library.value import Value, absolute, copysign, fma, sqrt, where

# sinh r = r + r z S(z), cosh r = 1 + z / 2 + z^2 C(z), z = r^2, 0 <= r <= log 2
_SINH = {
    np.float32: (2.6122988856513985e-06, 0.00019857310689985752, 0.008333281613886356,
                 0.1666666716337204),
    np.float64: (7.25439180189452e-13, 1.6066463420585066e-10, 2.5052055610319643e-08,
                 2.755731940976475e-06, 0.00019841269840931757, 0.008333333333333628,
                 0.16666666666666666),
}  # fmt: skip
_COSH = {
    np.float32: (2.5082516003749333e-05, 0.001388799399137497, 0.041666675359010696),
    np.float64: (1.1558495932569123e-11, 2.087611501037122e-09, 2.755732160279977e-07,
                 2.4801587296933116e-05, 0.0013888888888893372, 0.04166666666666665),
}  # fmt: skip


def sinh(x: Value) -> Value:
    """A cosh r + B sinh r, with the sign of x."""
    a, b, scale, s, c = _parts(absolute(x))
    return copysign((fma(b, s, a * c) + a) * scale, x)


def cosh(x: Value) -> Value:
    """B cosh r + A sinh r."""
    a, b, scale, s, c = _parts(absolute(x))
    return (fma(a, s, b * c) + b) * scale


def arcsinh(x: Value) -> Value:
    """log(1 + w),  w = |x| + x^2 / (1 + sqrt(1 + x^2)); of a large |x| log(2 |x|)."""
    a = absolute(x)
    large = a > 2.0**60
    finite = where(large, 1, a)
    square = finite * finite
    w, low = pairs.add_smaller(finite, square / (sqrt(square + 1) + 1))
    return copysign(_log1p_or_log_of_double(large, a, w, low), x)


def arccosh(x: Value) -> Value:
    """log(1 + w),  w = t + sqrt(t (t + 2)),  t = x - 1; of a large x log(2 x); NaN below 1."""
    large = x > 2.0**60
    t = where(large, 1, x) - 1
    product, product_low = pairs.multiply(t, t)
    square, square_low = pairs.add(t * 2, product)
    root = sqrt(square)
    rest = fma(-root, root, square) + (square_low + product_low)
    root_low = where(root == 0, 0, rest * 0.5 / root)
    w, low = pairs.add_smaller(root, t)
    y = _log1p_or_log_of_double(large, x, w, low + root_low)
    return where(x < 1, math.nan, y)


def arctanh(x: Value) -> Value:
    """log(1 + w) / 2,  w = 2 |x| / (1 - |x|); NaN beyond 1."""
    a = absolute(x)
    inside = where(a < 1, a, 0.5)
    below, below_low = pairs.add_smaller(x.constant(1), -inside)
    w, low = pairs.ratio(inside * 2, below, below_low)
    y = log1p_pair(w, low) * 0.5
    y = where(a < 1, y, where(a == 1, math.inf, a - a))
    return copysign(where(a > 1, math.nan, y), x)


def _parts(magnitude: Value) -> tuple[Value, Value, Value, Value, Value]:
    """A, B, a factor of both taken out so that they cannot overflow; sinh r and cosh r - 1."""
    kind = real(magnitude)
    limit = kind.exp_range[1] + 1
    n, r = split_down(where(magnitude > limit, limit, magnitude), kind)
    large = n > 100
    up = power_of_two(n - where(large, n.constant(2), 1), kind)
    down = power_of_two(-1 - where(large, 100, n), kind)
    z = r * r
    s = fma(r * z, polynomial(_SINH[r.dtype.type], z), r)
    c = fma(z * z, polynomial(_COSH[r.dtype.type], z), z * 0.5)
    return up - down, up + down, where(large, magnitude.constant(2), 1), s, c


def _log1p_or_log_of_double(large: Value, x: Value, w: Value, low: Value) -> Value:
    """log(2 x) = log(1 + x / 2) + 2 log 2 where x is large, log(1 + w + low) elsewhere."""
    y = log1p_pair(where(large, x * 0.5, w), where(large, 0, low))
    y = where(large, y + 2 * math.log(2), y)
    return where(x < math.inf, y, x)
