"""Division with remainder, as NumPy defines it.

                    quotient         remainder
    fmod            towards zero     has the sign of x
    remainder       floored          has the sign of y

By zero an integer gives 0, and the most negative integer by -1 wraps around: neither traps. Of
floats the remainder is exact (C's fmod), and the floored quotient is made from it.
"""

from __future__ import annotations

from fallline.compiler.library.value import Value, copysign, library, where


def fmod(x: Value, y: Value) -> Value:
    """x - y trunc(x / y). libm"""
    return library("fmod", x, y) if x.dtype.kind == "f" else _truncated(x, y)[1]


def remainder(x: Value, y: Value) -> Value:
    """x - y floor(x / y). libm"""
    if x.dtype.kind == "f":
        return _floored_floats(x, y)[1]
    rest = _truncated(x, y)[1]
    return rest if x.dtype.kind == "u" else where(_apart(rest, y), rest + y, rest)


def floor_divide(x: Value, y: Value) -> Value:
    """floor(x / y). libm"""
    if x.dtype.kind == "f":
        return _floored_floats(x, y)[0]
    quotient, rest = _truncated(x, y)
    return quotient if x.dtype.kind == "u" else where(_apart(rest, y), quotient - 1, quotient)


def _apart(rest: Value, y: Value) -> Value:
    """The rest and the divisor differ in sign: truncation was not flooring."""
    return (rest != 0) & ((rest < 0) ^ (y < 0))


def _truncated(x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient of integers towards zero, and its rest."""
    zero = y == 0
    if x.dtype.kind == "u":
        y = where(zero, 1, y)
        return where(zero, 0, x / y), x % y
    minus = y == -1
    y = where(zero | minus, 1, y)
    return where(zero, 0, where(minus, -x, x / y)), x % y


def _floored_floats(x: Value, y: Value) -> tuple[Value, Value]:
    """Floored quotient of floats, and its rest."""
    rest = library("fmod", x, y)
    apart = _apart(rest, y)
    quotient = (x - rest) / y
    quotient = where(apart, quotient - 1, quotient)
    whole = quotient.call("floor")
    whole = where(quotient - whole > 0.5, whole + 1, whole)  # the division may have rounded down
    whole = where(quotient == 0, copysign(x.constant(0), x / y), whole)
    rest = where(rest == 0, copysign(rest, y), where(apart, rest + y, rest))
    return where(y == 0, x / y, whole), rest
