"""Powers and roots, branch-free.

A literal exponent of 0, 1, 2 or -1 costs an operation or less and has NumPy's bits; 3, 4 and -1/2
take a few operations. Integer powers wrap around as products do. Where NumPy raises, for a negative
exponent of an integer, a kernel has x^y truncated. Errors in ulp, measured over the whole range:

                  float32   float64
    power           0.9       0.9
    power(x, 3)     1.0       1.0
    power(x, 4)     1.0       1.0
    power(x, -.5)   1.5       1.5
    cbrt            0.501     0.501
    hypot           0.501     1.0
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.exponential import exp_pair
from fallline.compiler.library.mathematics.logarithm import split_subnormal
from fallline.compiler.library.mathematics.real import (
    Real,
    polynomial,
    power_of_two,
    real,
    to_float,
)
from fallline.compiler.library.value import Value, absolute, copysign, fma, sqrt, where

# log m = 2 s + s z (2/3 + z R(z)),  s = (m - 1) / (m + 1),  z = s^2,  sqrt(1/2) <= m <= sqrt(2)
_LOG = {
    np.float32: (0.23424726724624634, 0.2854683995246887, 0.40000155568122864),
    np.float64: (0.11998571964593452, 0.11673558209672513, 0.1333638627497979, 0.15384554861591845,
                 0.18181818903899385, 0.2222222221721801, 0.2857142857144668, 0.39999999999999974),
}  # fmt: skip
_TWO_THIRDS = {
    np.float32: (0.6666666865348816, -1.9868215517249155e-08),
    np.float64: (0.6666666666666666, 3.700743415417188e-17),
}
# In two words, of which the first ends in so many zeros that its product with e is exact
_LOG2 = {
    np.float32: (0.693145751953125, 1.428606765330187e-06),
    np.float64: (0.6931471805598903, 5.497923018708371e-14),
}
# m^(-1/3),  1/2 <= m <= 1, to 14 bits
_CBRT = (0.5632748790265069, -2.1904939942628365, 3.4612372200946657, -2.934300520069098,
         2.100314)  # fmt: skip
_SUBNORMAL_THIRD = 18  # 2^54 makes every subnormal number normal


def power(x: Value, y: Value) -> Value:
    """x^y."""
    exponent = y.ir.constant if isinstance(y.ir, ir.Constant) else None
    if exponent in (0, 1, 2):
        return (x.constant(1), x, x * x)[int(exponent)]
    if x.dtype.kind != "f":
        return _integer_power(x, y)
    if exponent in _CHEAP:
        return _CHEAP[exponent](x)
    return _float_power(x, y)


def cbrt(x: Value) -> Value:
    """cbrt |x| = 2^q m r^2,  |x| = 2^(3 q) m,  r nearly m^(-1/3)."""
    kind = real(x)
    a = absolute(x)
    tiny = a < kind.smallest
    q, m = _thirds(where(tiny, a * 2.0 ** (3 * _SUBNORMAL_THIRD), a), kind)
    q = where(tiny, q - _SUBNORMAL_THIRD, q)
    # m by the power of two that takes it into [1/2, 1], and that power's cube root
    scale, root = x.constant(0.5), x.constant(0.7937005259840998)
    for limit, smaller, its_root in ((2, 0.25, 0.6299605249474366), (4, 0.125, 0.5)):
        scale, root = where(m < limit, scale, smaller), where(m < limit, root, its_root)
    r = polynomial(_CBRT, m * scale) * root
    h = fma(-m * r, r * r, 1)
    r = fma(r * h, fma(fma(h, 14 / 81, 2 / 9), h, 1 / 3), r)
    y = m * r * r
    square, square_low = pairs.multiply(y, y)
    rest = fma(-square, y, m) - square_low * y
    y = fma(rest * (1 / 3) * r, r, y) * power_of_two(q, kind)
    return copysign(where((a < math.inf) & (a > 0), y, a), x)


def hypot(x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow; infinite if x or y is, even beside NaN."""
    a, b = absolute(x), absolute(y)
    infinite = (a == math.inf) | (b == math.inf)
    if x.dtype == np.float32:
        a, b = a.astype(np.float64), b.astype(np.float64)
        return where(infinite, math.inf, sqrt(fma(a, a, b * b)).astype(np.float32))
    large, small = (a > 2.0**500) | (b > 2.0**500), (a < 2.0**-500) & (b < 2.0**-500)
    down = where(large, 2.0**-600, where(small, x.constant(2.0**600), 1))
    up = where(large, 2.0**600, where(small, x.constant(2.0**-600), 1))
    a, b = a * down, b * down
    a, b = where(a > b, a, b), where(a > b, b, a)
    return where(infinite, math.inf, sqrt(fma(a, a, b * b)) * up)


def _cube(x: Value) -> Value:
    square, low = pairs.multiply(x, x)
    return copysign(fma(square, x, _finite(low * x)), x)


def _fourth(x: Value) -> Value:
    square, low = pairs.multiply(x, x)
    return fma(square, square, _finite(square * 2 * low))


def _finite(x: Value) -> Value:
    """x, a small correction; 0 if it has overflowed: then what it corrects has."""
    return where(absolute(x) < math.inf, x, 0)


def _inverse_root(x: Value) -> Value:
    return where(x == -math.inf, 0, 1 / sqrt(x + 0))  # of -0 as of 0


_CHEAP = {-1: lambda x: 1 / x, 3: _cube, 4: _fourth, -0.5: _inverse_root}


def _float_power(x: Value, y: Value) -> Value:
    """|x|^y = e^(y log |x|), then the sign and the exceptions of C's pow."""
    logarithm, low = _log_pair(absolute(x))
    product, rest = pairs.multiply(logarithm, y)
    result = exp_pair(product, fma(low, y, rest))
    result = where((y == 0) | (logarithm == 0), 1, result)  # even where the other is not a number
    half = y * 0.5
    whole = y.call("rint") == y
    odd = whole & (half.call("rint") != half)
    result = where(odd, copysign(result, x), result)
    return where((x < 0) & (x > -math.inf) & ~whole, math.nan, result)


def _log_pair(x: Value) -> tuple[Value, Value]:
    """log x of x >= 0, to 12 bits beyond its type: 2 artanh s,  s = (m - 1) / (m + 1)."""
    kind, dtype = real(x), x.dtype.type
    e, f = split_subnormal(x, kind)
    below, below_low = pairs.add_smaller(x.constant(2), f)
    s, s_low = pairs.ratio(f, below, below_low)
    z, z_low = pairs.multiply(s, s)
    z_low = fma(s * 2, s_low, z_low)
    cube, cube_low = pairs.multiply(s, z)
    cube_low = fma(s, z_low, fma(s_low, z, cube_low))
    first, second = _TWO_THIRDS[dtype]
    third, third_low = pairs.add_smaller(
        x.constant(first), fma(polynomial(_LOG[dtype], z), z, second)
    )
    tail, tail_low = pairs.multiply(cube, third)
    tail_low = fma(cube, third_low, fma(cube_low, third, tail_low))
    log_m, log_m_low = pairs.add_smaller(s * 2, tail)
    log_m_low = log_m_low + fma(s_low, 2, tail_low)
    first, second = _LOG2[dtype]
    high, low = pairs.add_smaller(e * first, log_m)
    low = low + fma(e, second, log_m_low)
    return where(x == 0, -math.inf, where(x < math.inf, high, x)), low


def _thirds(x: Value, kind: Real) -> tuple[Value, Value]:
    """q and m of x = 2^(3 q) m,  1 <= m < 8, of a positive normal number."""
    exponent = (x.view(kind.integer) >> kind.mantissa) - kind.bias
    # The quotient in floating point: no vector unit divides integers.
    magic = x.constant(kind.magic)
    q = fma(to_float(exponent, kind), 1 / 3, -1 / 3) + magic
    q = q.view(kind.integer) - kind.magic_bits
    return q, x * power_of_two(-q, kind) * power_of_two(-(q + q), kind)


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
