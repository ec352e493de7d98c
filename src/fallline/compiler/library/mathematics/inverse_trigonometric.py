"""The inverse trigonometric functions, branch-free.

    arctan t = t + t z A(z),  z = t^2,  0 <= t <= sqrt(2) - 1
    arcsin s = s + s z B(z),  z = s^2,  0 <= s <= 1/2

Outside, the angle is counted from a multiple of 45 degrees: arctan t = pi / 4 + arctan((t - 1) /
(t + 1)) or pi / 2 - arctan(1 / t), and arcsin s = pi / 2 - 2 arcsin(sqrt((1 - s) / 2)). What these
quotients and roots round away is carried along. Errors in ulp, measured over the whole range:

               float32   float64
    arcsin       0.7       0.6
    arccos       0.6       0.6
    arctan       0.8       0.8
    arctan2      1.0       0.8
"""

from __future__ import annotations

import math

import numpy as np

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.real import polynomial
from fallline.compiler.library.value import Value, absolute, copysign, fma, sqrt, where

_ARCTAN = {
    np.float32: (-0.060580864548683167, 0.10585052520036697, -0.1424219310283661,
                 0.1999838799238205, -0.3333331346511841),
    np.float64: (0.01512236417602945, -0.03339784948645756, 0.04500011832970659,
                 -0.05217462679392563, 0.058768621463498434, -0.06666208785559587,
                 0.07692281400148648, -0.09090908076361313, 0.11111111085986529,
                 -0.1428571428534593, 0.19999999999997248, -0.33333333333333326),
}  # fmt: skip
_ARCSIN = {
    np.float32: (0.03754977136850357, 0.01440940611064434, 0.03181745857000351,
                 0.04451543092727661, 0.07500515133142471, 0.16666659712791443),
    np.float64: (0.03256583927490458, -0.020898809490814328, 0.021636856974466507,
                 0.0037352343200085705, 0.01077270078341017, 0.011400238094136402,
                 0.013980662389073067, 0.017351624732641444, 0.022372214318213676,
                 0.03038194272950777, 0.044642857174224136, 0.07499999999971095,
                 0.1666666666666676),
}  # fmt: skip
# Multiples of pi / 4 in two words
_EIGHTHS = {
    np.float32: (
        (0.0, 0.0),
        (0.7853981852531433, -2.1855694143368964e-08),
        (1.5707963705062866, -4.371138828673793e-08),
        (2.356194496154785, -5.962440319251527e-09),
        (3.1415927410125732, -8.742277657347586e-08),
    ),
    np.float64: (
        (0.0, 0.0),
        (0.7853981633974483, 3.061616997868383e-17),
        (1.5707963267948966, 6.123233995736766e-17),
        (2.356194490192345, 9.184850993605148e-17),
        (3.141592653589793, 1.2246467991473532e-16),
    ),
}
_TAN_EIGHTH = math.sqrt(2) - 1

Pair = tuple[Value, Value]


def arctan(x: Value) -> Value:
    a = absolute(x)
    a = where(a > 2.0**100, 2.0**100, a)
    one = x.constant(1)
    steep = a > 1
    under, over = where(steep, a, one), where(steep, one, a)
    middle, t, low = _tangent(over, under)
    base = _choose(middle, _eighths(x, 1), _choose(steep, _eighths(x, 2), _eighths(x, 0)))
    sign = where(steep, -one, one)
    return copysign(_arctan_from(base, sign, t, low), x)


def arctan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), in [-pi, pi]; the signs of zeros count."""
    a, b, one = absolute(y), absolute(x), x.constant(1)
    steep = a > b
    under, over = where(steep, a, b), where(steep, b, a)
    # The quotient is 1 of two infinities, 0 of one, and of two zeros.
    over = where(under < math.inf, over, where(over < math.inf, x.constant(0), one))
    under = where((under < math.inf) & (under > 0), under, 1)
    bits = np.finfo(x.dtype).maxexp  # 1 / under is to be normal, and so what `over` is measured in
    scale = where(under > 2.0 ** (bits - 24), x.constant(2.0**-30), 1)
    scale = where(under < 2.0 ** (-bits * 3 // 4), 2.0 ** (bits // 4), scale)
    middle, t, low = _tangent(over * scale, under * scale)
    left = x.view(np.int32 if x.dtype == np.float32 else np.int64) < 0
    axis = _choose(left, _eighths(x, 4), _eighths(x, 0))
    base = _choose(middle, _choose(left, _eighths(x, 3), _eighths(x, 1)),
                   _choose(steep, _eighths(x, 2), axis))  # fmt: skip
    angle = _arctan_from(base, where(steep ^ left, -one, one), t, low)
    return where((x != x) | (y != y), x + y, copysign(angle, y))


def arcsin(x: Value) -> Value:
    outside, s, rest = _arcsin_reduced(x)
    base = _choose(outside, _eighths(x, 2), _eighths(x, 0))
    return copysign(_from(base, where(outside, x.constant(-2), 1), s, rest), x)


def arccos(x: Value) -> Value:
    outside, s, rest = _arcsin_reduced(x)
    left = _choose(x < 0, _eighths(x, 4), _eighths(x, 0))
    base = _choose(outside, left, _eighths(x, 2))
    factor = where(outside, x.constant(2), -1)
    return _from(base, where(x < 0, -factor, factor), s, rest)


def _tangent(over: Value, under: Value) -> tuple[Value, Value, Value]:
    """Of an angle up to 45 degrees: whether it is counted from there, and its tangent then."""
    middle = over > under * _TAN_EIGHTH
    less, less_low = pairs.add_smaller(-under, over)
    more, more_low = pairs.add_smaller(under, over)
    over, over_low = where(middle, less, over), where(middle, less_low, 0)
    under, under_low = where(middle, more, under), where(middle, more_low, 0)
    inverse = 1 / under
    t = over * inverse
    rest = fma(-t, under_low, fma(-t, under, over)) + over_low
    return middle, t, rest * inverse


def _arctan_from(base: Pair, sign: Value, t: Value, low: Value) -> Value:
    z = t * t
    return _from(base, sign, t, fma(polynomial(_ARCTAN[t.dtype.type], z), t * z, low))


def _arcsin_reduced(x: Value) -> tuple[Value, Value, Value]:
    """|x| > 1/2, and arcsin of |x| or, there, of sqrt((1 - |x|) / 2): s and what is beside it."""
    a = absolute(x)
    outside = a > 0.5
    z = where(outside, fma(a, -0.5, 0.5), a * a)
    s = where(outside, sqrt(z), a)
    low = where(outside & (z > 0), fma(-s, s, z) * 0.5 / s, 0)
    return outside, s, fma(polynomial(_ARCSIN[x.dtype.type], z), s * z, low)


def _from(base: Pair, factor: Value, y: Value, rest: Value) -> Value:
    """base + factor (y + rest), rounded almost once."""
    high, low = pairs.add_smaller(base[0], factor * y)
    return high + fma(factor, rest, low + base[1])


def _eighths(x: Value, k: int) -> Pair:
    high, low = _EIGHTHS[x.dtype.type][k]
    return x.constant(high), x.constant(low)


def _choose(condition: Value, x: Pair, y: Pair) -> Pair:
    return where(condition, x[0], y[0]), where(condition, x[1], y[1])
