"""The constants of the two floating-point types that the formulas of this folder are written in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fallline.compiler.library.value import Value, multiply_add


@dataclass(frozen=True)
class Real:
    """A binary floating-point type, the constants of its exponentials and its minimax polynomials.

    Pairs are constants in two words: rounded to the type, and the rest. Polynomials are fits of
    least relative error whose coefficients were rounded one after the other, highest power first.
    """

    dtype: type
    integer: type
    mantissa: int  # bits below the leading one
    bias: int
    smallest: float  # normal number
    exp_range: tuple[float, float]  # below, exp rounds to 0; above, to inf
    expm1_low: float  # below, expm1 rounds to -1
    log2: tuple[float, float]
    log2_e: tuple[float, float]
    log10_e: tuple[float, float]
    log10_2: tuple[float, float]
    root_half: int  # bit pattern of sqrt(1/2)
    exp: tuple[float, ...]  # Q:  e^r = 1 + r + r^2 Q(r),  |r| <= log(2) / 2
    log: tuple[float, ...]

    @property
    def magic(self) -> float:
        """1.5 2^mantissa: a number added to it leaves its nearest integer in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        return int(np.array(self.magic, self.dtype).view(self.integer))


FLOAT32 = Real(
    dtype=np.float32,
    integer=np.int32,
    mantissa=23,
    bias=127,
    smallest=2.0**-126,
    exp_range=(-104.0, 89.0),
    expm1_low=-18.0,
    log2=(0.6931471824645996, -1.9046542121259336e-09),
    log2_e=(1.4426950216293335, 1.925963033500011e-08),
    log10_e=(0.4342944920063019, -1.0103049952192578e-08),
    log10_2=(0.3010300099849701, -1.432098883924482e-08),
    root_half=0x3F3504F3,
    exp=(
        *(0.00019756557594519109, 0.0013932667206972837, 0.008333551697432995),
        *(0.04166648909449577, 0.1666666567325592, 0.5),
    ),
    # P:  log(1 + f) = f - f^2 / 2 + f^3 P(f),  sqrt(1/2) <= 1 + f <= sqrt(2)
    log=(
        *(-0.07638120651245117, 0.12763063609600067, -0.13159403204917908, 0.14201456308364868),
        *(-0.16623415052890778, 0.2000124603509903, -0.2500081956386566, 0.3333333134651184),
    ),
)

FLOAT64 = Real(
    dtype=np.float64,
    integer=np.int64,
    mantissa=52,
    bias=1023,
    smallest=2.0**-1022,
    exp_range=(-746.0, 710.0),
    expm1_low=-38.0,
    log2=(0.6931471805599453, 2.3190468138462996e-17),
    log2_e=(1.4426950408889634, 2.0355273740931033e-17),
    log10_e=(0.4342944819032518, 1.098319650216765e-17),
    log10_2=(0.3010299956639812, -2.8037281277851704e-18),
    root_half=0x3FE6A09E667F3BCD,
    exp=(
        *(2.089746512302254e-09, 2.5108888958459517e-08, 2.755732235388528e-07),
        *(2.755724457579621e-06, 2.480158728022918e-05, 0.00019841269885874748),
        *(0.0013888888888898144, 0.008333333333321638, 0.041666666666666664),
        *(0.16666666666666677, 0.5),
    ),
    # L:  log(1 + f) = 2 s + s z L(z),  s = f / (2 + f),  z = s^2
    log=(
        *(0.14795749233902178, 0.1531407440842633, 0.18183563208863116, 0.22222198599288223),
        *(0.28571428742071253, 0.39999999999416525, 0.6666666666666734),
    ),
)


def real(x: Value) -> Real:
    """The constants for the type of a value."""
    return FLOAT32 if x.dtype == np.float32 else FLOAT64


def polynomial(coefficients: tuple[float, ...], x: Value) -> Value:
    """The polynomial, highest power first; its even and odd powers do not cancel much.

    They are summed apart: half as long a chain for a processor to wait for.
    """
    if len(coefficients) < 5:
        return horner(coefficients, x)
    even, odd = coefficients[-1::-2][::-1], coefficients[-2::-2][::-1]
    square = x * x
    return multiply_add(horner(odd, square), x, horner(even, square))


def horner(coefficients: tuple[float, ...], x: Value) -> Value:
    """The polynomial, highest power first, rounded once per term."""
    total = x.constant(coefficients[0])
    for c in coefficients[1:]:
        total = multiply_add(total, x, c)
    return total


def power_of_two(k: Value, kind: Real) -> Value:
    """2^k of an integer in the range of normal exponents."""
    return ((k + kind.bias) << kind.mantissa).view(kind.dtype)


def to_float(k: Value, kind: Real) -> Value:
    """A small integer as a number.

    For 64 bits only AVX-512 has an instruction; so the bits of a sum with `magic` are written.
    """
    if kind.dtype is np.float32:
        return k.astype(np.float32)
    return (k + kind.magic_bits).view(np.float64) - kind.magic


def nan(x: Value) -> Value:
    return x.constant(math.nan)
