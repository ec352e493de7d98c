"""sin, cos and tan of float32, branch-free for every argument; of float64 the C library's.

    x / 2 pi = x (P1 + P2 + ... + P7),  29 bits in each P:  24 + 29 bits, so products are exact

Only the fraction of a product matters, and taking it is exact as well. So nothing is lost however
large x is; Payne and Hanek 1983, Radian reduction for trigonometric functions, SIGNUM Newsletter
18(1), reduce by integers to the same effect. Errors in ulp, measured over the whole range: sin and
cos 1.6, tan 3.7.
"""

from __future__ import annotations

import math

import numpy as np

from fallline.compiler.library.real import horner
from fallline.compiler.library.value import Value, fma, library, where

# 1 / (2 pi), 29 bits at a time
_TURN = (
    *(float.fromhex("0x1.45f306dp-3"), float.fromhex("0x1.9391054p-32")),
    *(float.fromhex("0x1.4fe13abp-61"), float.fromhex("0x1.d1f534dp-90")),
    *(float.fromhex("0x1.b81b6c5p-119"), float.fromhex("0x1.5993c4p-150")),
    float.fromhex("0x1.c820ff2p-177"),
)
# sin a = a + a z S(z), cos a = 1 - z / 2 + z^2 C(z), z = a^2, |a| <= pi / 4
_SIN = (-0.00019518288900144398, 0.008332189172506332, -0.16666655242443085)
_COS = (2.4430670237052254e-05, -0.00138873013202101, 0.04166664555668831)


def sin(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("sin", x)
    sine, cosine, quadrant = _reduced(x)
    result = where((quadrant & 1) != 0, cosine, sine)
    return where(x == 0, x, where((quadrant & 2) != 0, -result, result))


def cos(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("cos", x)
    sine, cosine, quadrant = _reduced(x)
    result = where((quadrant & 1) != 0, sine, cosine)
    return where(((quadrant + 1) & 2) != 0, -result, result)


def tan(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("tan", x)
    sine, cosine, quadrant = _reduced(x)
    odd = (quadrant & 1) != 0
    return where(x == 0, x, where(odd, -cosine, sine) / where(odd, sine, cosine))


def _reduced(x: Value) -> tuple[Value, Value, Value]:
    """sine and cosine of a, and k, of x = a + k pi / 2 (mod 2 pi), |a| <= pi / 4."""
    wide = x.astype(np.float64)
    fractions = [y - y.call("rint") for y in (wide * part for part in _TURN)]
    total = fractions[0]
    for part in fractions[1:]:
        total = total + part
    magic = 1.5 * 2.0**50  # a number added to it is rounded to quarters
    shifted = total + magic
    quarters = shifted - magic
    # Summed anew, as the leading parts cancel now: each sum is exact or rounds by its own size.
    turn = fractions[0] - quarters
    for part in fractions[1:]:
        turn = turn + part
    a = (turn * (2 * math.pi)).astype(np.float32)
    z = a * a
    sine = fma(a * z, horner(_SIN, z), a)
    cosine = fma(z * z, horner(_COS, z), fma(z, -0.5, 1))
    return sine, cosine, shifted.view(np.int64).astype(np.int32)
