"""sin, cos and tan, branch-free for every argument.

    x = (4 i + k) pi / 2 + a,  i and k integers, |a| <= pi / 4

k and a follow from the fraction of x / 2 pi. The bits of 1 / 2 pi whose product with x is whole do
not matter, so that for each magnitude of x few words of them are enough: nothing is lost however
large x is, and the large are as fast as the small. Payne and Hanek 1983, Radian reduction for
trigonometric functions, SIGNUM Newsletter 18(1). Errors in ulp, measured over the whole range:

           float32   float64
    sin      1.5       1.0
    cos      1.5       1.0
    tan      1.8       1.3
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.real import FLOAT64, polynomial, power_of_two
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
_TINY = 2.0**-30  # below, sin x and tan x round to x
_TWO_PI = (6.283185307179586, 2.4492935982947064e-16)
# 2 / pi to 1280 bits
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561"
    "b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)


def sin(x: Value) -> Value:
    sine, cosine, k = _reduced(x)
    result = where((k & 1) != 0, cosine[0], sine[0])
    return where(absolute(x) < _TINY, x, where((k & 2) != 0, -result, result))


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
    return where(absolute(x) < _TINY, x, fma(rest, inverse, y))


def _reduced(x: Value) -> tuple[tuple[Value, Value], tuple[Value, Value], Value]:
    """sine and cosine of a, in two words each, and k as an integer."""
    if x.dtype == np.float32:
        a, k = _reduced_float32(x)
        low = a.constant(0)
    else:
        a, low, k = _reduced_float64(x)
    z = a * a
    sine = pairs.add_smaller(a, fma(a * z, polynomial(_SIN[x.dtype.type], z), low))
    half, half_low = pairs.add_smaller(x.constant(1), z * -0.5)
    tail = fma(z * z, polynomial(_COS[x.dtype.type], z), fma(-a, low, half_low))
    return sine, pairs.add_smaller(half, tail), k


def _turn(shift: int, words: int) -> tuple[float, ...]:
    """1 / 2 pi; after a shift to the left, what is left of an integer. In words of 53 bits."""
    rest = Fraction(_TWO_OVER_PI << shift, 4 << 1280)
    rest -= round(rest) if shift else 0
    found = []
    for _ in range(words):
        found.append(float(rest))
        rest -= Fraction(found[-1])
    return tuple(found)


# Of float32 the magnitudes from which on bits of 2 / pi are left out, and the two words for them.
_STEPS = tuple(
    (np.float32(2.0 ** (shift + 23)), tuple(4 * word * 2.0**-shift for word in _turn(shift, 2)))
    for shift in (24, 45, 66, 87)
)
# Of float64 the four words for x 2^-32j,  which is whole and below 2^85 if j > 0.
_TURNS = tuple(zip(*(_turn(32 * j, 4) for j in range(31)), strict=True))
_QUARTERS = 1.5 * 2.0**50  # a number added to it is rounded to quarters


def _reduced_float32(x: Value) -> tuple[Value, Value]:
    """a and k."""
    wide, magnitude = x.astype(np.float64), absolute(x)
    first, second = (wide.constant(4 * word) for word in _turn(0, 2))
    for least, words in _STEPS:
        below = magnitude < least
        first, second = where(below, first, words[0]), where(below, second, words[1])
    shifted = fma(wide, first, FLOAT64.magic)
    quarters = fma(wide, second, fma(wide, first, FLOAT64.magic - shifted))  # nothing is lost
    return (quarters * (math.pi / 2)).astype(np.float32), shifted.view(np.int64).astype(np.int32)


def _reduced_float64(x: Value) -> tuple[Value, Value, Value]:
    """a in two words, and k."""
    exponent = (x.view(np.int64) >> 52) & 0x7FF
    j = (exponent - (1023 + 52)) >> 5
    j = where(j < 0, 0, j)
    x = x * power_of_two(-(j << 5), FLOAT64)
    first, second, third, fourth = (lookup(words, j) for words in _TURNS)
    p, p_low = pairs.multiply(x, first)
    q, q_low = pairs.multiply(x, second)
    r, r_low = pairs.multiply(x, third)
    turn, low = pairs.add(p - p.call("rint"), p_low - p_low.call("rint"))
    turn, low_ = pairs.add(turn, q - q.call("rint"))
    shifted = turn + _QUARTERS
    turn = turn - (shifted - _QUARTERS)
    low = (low + low_) + fma(x, fourth, r_low)
    for small in (q_low, r):
        turn, lost = pairs.add(turn, small)
        low = low + lost
    turn, low = pairs.add_smaller(turn, low)
    a, a_low = pairs.multiply(turn, _TWO_PI[0])
    return a, fma(turn, _TWO_PI[1], fma(low, _TWO_PI[0], a_low)), shifted.view(np.int64)
