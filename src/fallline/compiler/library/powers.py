"""Powers and roots. Of float32 in float64 and rounded once (0.501 ulp), branch-free; else libm.

A literal exponent of 0, 1, 2 or -1 costs a multiplication or less. Integer powers wrap around as
products do. Where NumPy raises, for a negative exponent of an integer, a kernel has x^y truncated.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir

from fallline.compiler.library import pairs
from fallline.compiler.library.exponential import exp_pair
from fallline.compiler.library.logarithm import split_normal, split_subnormal
from fallline.compiler.library.real import FLOAT64, Real, horner, power_of_two, real, to_float
from fallline.compiler.library.value import Value, absolute, copysign, fma, sqrt, where

# log m = 2 s + s z P(z),  s = (m - 1) / (m + 1),  z = s^2,  sqrt(1/2) <= m <= sqrt(2)
_LOG_SHORT = (0.19586659339697693, 0.2217599355895416, 0.2857211452904311, 0.39999995561109175,
              0.666666666760311)  # fmt: skip
# e^r = 1 + r + r^2 Q(r),  |r| <= log(2) / 2
_EXP_SHORT = (0.0001990978339416749, 0.0013946561947705469, 0.008333280296358462,
              0.04166626151753067, 0.16666666790816947, 0.5000000081293489)  # fmt: skip
# log m = 2 s + s z (2/3 + z R(z))
_LOG_LONG = (0.11998571964593452, 0.11673558209672513, 0.1333638627497979, 0.15384554861591845,
             0.18181818903899385, 0.2222222221721801, 0.2857142857144668,
             0.39999999999999974)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LOG2 = (0.6931471805598903, 5.497923018708371e-14)  # the first with zeros for e at its end
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
    if exponent == -1:
        return 1 / x
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
    r = horner(_CBRT, m * scale) * root
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


def _power_of_magnitude(x: Value, y: Value) -> Value:
    """|x|^y."""
    if x.dtype == np.float32:
        return _in_float64(x.astype(np.float64), y.astype(np.float64))
    high, low = _log_pair(absolute(x))
    product, rest = pairs.multiply(high, y)
    return exp_pair(product, fma(low, y, rest))


def _float_power(x: Value, y: Value) -> Value:
    """The sign of |x|^y, and the exceptions of C's pow."""
    result = _power_of_magnitude(x, y)
    half = y * 0.5
    whole = y.call("rint") == y
    odd = whole & (half.call("rint") != half)
    result = where(odd, copysign(result, x), result)
    result = where((x < 0) & (x > -math.inf) & ~whole, math.nan, result)
    unit = (y == 0) | (x == 1) | ((x == -1) & (absolute(y) == math.inf))
    return where(unit, 1, result)


def _in_float64(x: Value, y: Value) -> Value:
    """|x|^y of numbers that are float32: precise enough for one rounding in a thousand to err."""
    a = absolute(x)
    e, f = split_normal(a, FLOAT64)
    s = f / (f + 2)
    z = s * s
    logarithm = fma(e, math.log(2), fma(s * z, horner(_LOG_SHORT, z), s + s))
    logarithm = where(a < math.inf, where(a == 0, -math.inf, logarithm), a)
    exponent = logarithm * y
    exponent = where(exponent < -110, -110, exponent)
    exponent = where(exponent > 90, 90, exponent)
    shifted = fma(exponent, FLOAT64.log2_e[0], FLOAT64.magic)
    r = fma(shifted - FLOAT64.magic, -math.log(2), exponent)
    p = fma(fma(horner(_EXP_SHORT, r), r, 1), r, 1)
    n = shifted.view(np.int64) - FLOAT64.magic_bits
    return (p * power_of_two(n, FLOAT64)).astype(np.float32)


def _log_pair(x: Value) -> tuple[Value, Value]:
    """log x to 65 bits, x >= 0: 2 artanh s,  s = (m - 1) / (m + 1) in two words."""
    e, f = split_subnormal(x, FLOAT64)
    below, below_low = pairs.add_smaller(x.constant(2), f)
    s, s_low = pairs.ratio(f, below, below_low)
    z, z_low = pairs.multiply(s, s)
    z_low = fma(s * 2, s_low, z_low)
    cube, cube_low = pairs.multiply(s, z)
    cube_low = fma(s, z_low, fma(s_low, z, cube_low))
    third, third_low = pairs.add_smaller(
        x.constant(_TWO_THIRDS[0]), fma(horner(_LOG_LONG, z), z, _TWO_THIRDS[1])
    )
    tail, tail_low = pairs.multiply(cube, third)
    tail_low = fma(cube, third_low, fma(cube_low, third, tail_low))
    log_m, log_m_low = pairs.add_smaller(s * 2, tail)
    log_m_low = log_m_low + fma(s_low, 2, tail_low)
    high, low = pairs.add_smaller(e * _LOG2[0], log_m)
    low = low + fma(e, _LOG2[1], log_m_low)
    regular = (x < math.inf) & (x > 0)
    return where(regular, high, where(x == 0, -math.inf, x)), where(regular, low, 0)


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
