"""Uniform and normal numbers from random words, in bits that do not depend on who computes them.

    z0, z1 = sqrt(-2 log u) (cos 2 pi v, sin 2 pi v),    u in (0, 1], v in [0, 1)

Every step is a correctly rounded operation (+ - * / sqrt), a comparison or integer arithmetic, in
one fixed order: no library function, no fused multiply-add. So NumPy's arrays and the values of a
kernel give the same bits; `ops` supplies what they spell differently, `where` and `sqrt`.
Polynomials are fits of least relative error whose coefficients were rounded one after the other.
Box and Muller 1958, Annals of Mathematical Statistics 29(2), 610-611.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class _Real:
    """A floating-point type and its polynomials, the highest power first."""

    dtype: type
    integer: type
    mantissa: int  # bits below the leading one
    root_half: int  # bit pattern of sqrt(1/2)
    log2: tuple[float, float]  # log 2 in two words; the first has zeros at its end
    log: tuple[float, ...]  # L:  log((1 + s) / (1 - s)) = 2 s + s z L(z),  z = s^2, |s| <= 0.172
    sin: tuple[float, ...]  # S:  sin a = a + a z S(z),  z = a^2, |a| <= pi / 4
    cos: tuple[float, ...]  # C:  cos a = 1 - z / 2 + z^2 C(z)


_FLOAT32 = _Real(
    dtype=np.float32,
    integer=np.int32,
    mantissa=23,
    root_half=0x3F3504F3,
    log2=(0.693359375, -2.12194440e-4),
    log=(0.29870927333831787, 0.39977580308914185, 0.6666677594184875),
    sin=(-0.00019518288900144398, 0.008332189172506332, -0.16666655242443085),
    cos=(2.4430670237052254e-05, -0.00138873013202101, 0.04166664555668831),
)

_FLOAT64 = _Real(
    dtype=np.float64,
    integer=np.int64,
    mantissa=52,
    root_half=0x3FE6A09E667F3BCD,
    log2=(0.6931471803691238, 1.9082149292705877e-10),
    log=(
        *(0.13235054052961528, 0.13252118798901147, 0.15386990072880632, 0.18181778330054257),
        *(0.2222222260723779, 0.2857142856940978, 0.40000000000004926, 0.6666666666666666),
    ),
    sin=(
        *(1.5895433274774175e-10, -2.505073438908449e-08, 2.7557313538513743e-06),
        *(-0.00019841269829358528, 0.00833333333332184, -0.1666666666666663),
    ),
    cos=(
        *(-1.1359926134604772e-11, 2.087572914271947e-09, -2.755731440017141e-07),
        *(2.4801587289669257e-05, -0.0013888888888874472, 0.0416666666666666),
    ),
)


def uniform_float32(word: Any) -> Any:
    """The upper 24 bits of a word, as a multiple of 2^-24 in [0, 1)."""
    return (word >> 8).astype(np.float32) * 2.0**-24


def uniform_float64(high: Any, low: Any) -> Any:
    """53 bits, 27 of the first word above 26 of the second, as a multiple of 2^-53 in [0, 1)."""
    return _bits53(high, low).astype(np.float64) * 2.0**-53


def normal_float32(radius: Any, angle: Any, ops: Any) -> tuple[Any, Any]:
    """Two normal numbers from two words: relative error 4e-7, none above 6.8."""
    u = (radius.astype(np.float32) + 0.5) * 2.0**-32  # never 0, and 1 where it rounds up
    quadrant = (angle + (1 << 29)) >> 30
    rest = (angle - (quadrant << 30)).view(np.int32)  # [-2^29, 2^29)
    a = rest.astype(np.float32) * (math.pi / 2 * 2.0**-30)
    return _pair(u, a, quadrant, _FLOAT32, ops)


def normal_float64(radius: tuple[Any, Any], angle: tuple[Any, Any], ops: Any) -> tuple[Any, Any]:
    """Two normal numbers from two pairs of words (high, low): relative error 7e-16, none above 8.6.

    Beside the axes the error is relative to the radius, for the angle is rounded.
    """
    u = (_bits53(*radius) + 1).astype(np.float64) * 2.0**-53  # in (0, 1]
    bits = _bits53(*angle)
    quadrant = (bits + (1 << 50)) >> 51
    rest = (bits - (quadrant << 51)).view(np.int64)  # [-2^50, 2^50)
    a = rest.astype(np.float64) * (math.pi / 2 * 2.0**-51)
    return _pair(u, a, quadrant, _FLOAT64, ops)


def _bits53(high: Any, low: Any) -> Any:
    return ((high >> 5).astype(np.uint64) << 26) | (low >> 6).astype(np.uint64)


def _pair(u: Any, a: Any, quadrant: Any, kind: _Real, ops: Any) -> tuple[Any, Any]:
    """sqrt(-2 log u) times the point of the unit circle at a + quadrant pi / 2, |a| <= pi / 4."""
    radius = ops.sqrt(_log(u, kind) * -2.0)
    z = a * a
    sine = a + a * z * _horner(kind.sin, z)
    cosine = 1.0 - z * 0.5 + z * z * _horner(kind.cos, z)
    odd = (quadrant & 1) != 0
    x, y = ops.where(odd, sine, cosine), ops.where(odd, cosine, sine)
    x = ops.where(((quadrant + 1) & 2) != 0, -x, x)
    y = ops.where((quadrant & 2) != 0, -y, y)
    return radius * x, radius * y


def _log(u: Any, kind: _Real) -> Any:
    """log u = e log 2 + log m,  m in [sqrt(1/2), sqrt(2)),  s = (m - 1) / (m + 1)."""
    bits = u.view(kind.integer) - kind.root_half
    exponent = bits >> kind.mantissa
    m = (bits - (exponent << kind.mantissa) + kind.root_half).view(kind.dtype)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    e = exponent.astype(kind.dtype)
    return e * kind.log2[0] + (e * kind.log2[1] + (s * z * _horner(kind.log, z) + 2.0 * s))


def _horner(coefficients: tuple[float, ...], z: Any) -> Any:
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = total * z + c
    return total
