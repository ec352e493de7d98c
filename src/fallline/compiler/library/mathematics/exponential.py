"""exp and its relatives, branch-free.

    x = n log 2 + r,  n an integer, |r| <= log(2) / 2;        e^x = 2^n (1 + r + r^2 Q(r))

n log 2 is subtracted in two words, with fused multiply-adds (Cody and Waite 1980, Software manual
for the elementary functions, chapter 6). Errors in ulp, measured over the whole range:

                float32   float64
    exp           0.9       0.9
    exp2          0.9       1.0
    expm1         1.4       1.9
    tanh          2.5       2.6
    sigmoid       2.5       2.4
"""

from __future__ import annotations

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.real import Real, polynomial, power_of_two, real
from fallline.compiler.library.value import Value, absolute, copysign, fma, where


def exp(x: Value) -> Value:
    """e^x."""
    kind = real(x)
    n, r = _split(_clamp(x, *kind.exp_range), kind)
    return _scale(fma(fma(polynomial(kind.exp, r), r, 1), r, 1), n)


def exp2(x: Value) -> Value:
    """2^x = 2^n e^(r log 2), n the integer nearest to x."""
    kind = real(x)
    x = _clamp(x, *(1.5 * bound for bound in kind.exp_range))
    shifted = x + kind.magic
    r = (x - (shifted - kind.magic)) * kind.log2[0]
    return _scale(fma(fma(polynomial(kind.exp, r), r, 1), r, 1), _integer(shifted, kind))


def expm1(x: Value) -> Value:
    """e^x - 1 = 2^n (e^r - 1) + (2^n - 1)."""
    kind = real(x)
    n, r = _split(_clamp(x, kind.expm1_low, kind.exp_range[1]), kind)
    small = _expm1_reduced(r, kind)
    half = power_of_two(n - 1, kind)  # 2^n itself would overflow where the result does not
    return copysign(where(n == 0, small, fma(small, half, half - 0.5) * 2), x)


def expm1_negative(x: Value) -> Value:
    """expm1 for x <= 0: nothing overflows."""
    kind = real(x)
    n, r = _split(where(x < kind.expm1_low, kind.expm1_low, x), kind)
    power = power_of_two(n, kind)
    return fma(_expm1_reduced(r, kind), power, power - 1)


def tanh(x: Value) -> Value:
    """tanh |x| = -m / (2 + m),  m = e^(-2 |x|) - 1."""
    m = expm1_negative(absolute(x) * -2)
    return copysign(m / (m + 2), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x), of e^-|x|, which cannot overflow."""
    e = exp(-absolute(x))
    return where(x < 0, e, 1) / (e + 1)


def _clamp(x: Value, low: float, high: float) -> Value:
    """x in [low, high]; NaN stays."""
    x = where(x < low, low, x)
    return where(x > high, high, x)


def _split(x: Value, kind: Real) -> tuple[Value, Value]:
    """n and r of x = n log 2 + r. An addition rounds: NaN is never converted to an integer."""
    shifted = fma(x, kind.log2_e[0], kind.magic)
    n = shifted - kind.magic
    r = fma(n, -kind.log2[1], fma(n, -kind.log2[0], x))
    return _integer(shifted, kind), r


def split_down(x: Value, kind: Real) -> tuple[Value, Value]:
    """n and r of x = n log 2 + r,  0 <= r <= log 2, of x >= 0."""
    shifted = fma(x, kind.log2_e[0], -0.5) + kind.magic
    n = shifted - kind.magic
    r = fma(n, -kind.log2[1], fma(n, -kind.log2[0], x))
    return _integer(shifted, kind), r


def exp_pair(x: Value, low: Value) -> Value:
    """e^(x + low) rounded almost once; low is beyond the last bits of x."""
    kind = real(x)
    inside = _clamp(x, *kind.exp_range)
    x, low = inside, where(x == inside, low, 0)
    shifted = fma(x, kind.log2_e[0], kind.magic)
    n = shifted - kind.magic
    r, low = pairs.add_smaller(fma(n, -kind.log2[0], x), fma(n, -kind.log2[1], low))
    one_and_r, lost = pairs.add_smaller(x.constant(1), r)
    p = one_and_r + (lost + fma(polynomial(kind.exp, r), r * r, low))
    return _scale(p, _integer(shifted, kind))


def _integer(shifted: Value, kind: Real) -> Value:
    return shifted.view(kind.integer) - kind.magic_bits


def _expm1_reduced(r: Value, kind: Real) -> Value:
    return fma(polynomial(kind.exp, r), r * r, r)


def _scale(p: Value, n: Value) -> Value:
    """p 2^n in two steps, of which only the second can round: subnormal numbers are right."""
    kind = real(p)
    first = n >> 1
    return p * power_of_two(first, kind) * power_of_two(n - first, kind)
