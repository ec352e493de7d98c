"""Numbers of twice the precision, as unevaluated sums of two: high + low.

Each function here is exact: what an operation rounds away is its second value. Where only a few
terms of a formula need the second word, they are carried along by hand. Dekker 1971, A
floating-point technique for extending the available precision, Numerische Mathematik 18, 224-242.
"""

from __future__ import annotations

from fallline.compiler.library.value import Value, fma


def add_smaller(x: Value, y: Value) -> tuple[Value, Value]:
    """x + y where |x| >= |y|, or x == 0."""
    high = x + y
    return high, y - (high - x)


def add(x: Value, y: Value) -> tuple[Value, Value]:
    """x + y of any two."""
    high = x + y
    of_y = high - x
    return high, (x - (high - of_y)) + (y - of_y)


def multiply(x: Value, y: Value | float) -> tuple[Value, Value]:
    """x y."""
    high = x * y
    return high, fma(x, y, -high)


def ratio(x: Value, y: Value, y_low: Value) -> tuple[Value, Value]:
    """x / (y + y_low) with one division, to almost twice the precision; y and 1 / y are normal."""
    inverse = 1 / y
    high = x * inverse
    rest = fma(-high, y_low, fma(-high, y, x))
    return high, rest * inverse
