"""The inverse trigonometric functions of float32, branch-free; of float64 the C library's.

    arctan t = t + t z A(z),  z = t^2,  0 <= t <= 1
    arcsin s = s + s z B(z),  z = s^2,  0 <= s <= 1/2

Outside, arctan t = pi / 2 - arctan(1 / t) and arcsin s = pi / 2 - 2 arcsin(sqrt((1 - s) / 2)).
Errors in ulp, measured over the whole range: arctan 1.4, arctan2 1.6, arcsin 2.4, arccos 1.1.
"""

from __future__ import annotations

import numpy as np

from fallline.compiler.library.real import horner
from fallline.compiler.library.value import Value, absolute, copysign, fma, library, sqrt, where

_ARCTAN = (-0.0017904058331623673, 0.010899696499109268, -0.031148936599493027, 0.05792722851037979,
           -0.08401581645011902, 0.10951506346464157, -0.14264102280139923, 0.1999853402376175,
           -0.33333298563957214)  # fmt: skip
_ARCSIN = (0.0375901535153389, 0.014382340013980865, 0.03182394057512283, 0.04451478272676468,
           0.0750051736831665, 0.16666659712791443)  # fmt: skip
_HALF_PI = (1.5707963705062866, -4.371139000186241e-08)  # high and low word
_PI = (3.1415927410125732, -8.742278000372482e-08)


def arctan(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("atan", x)
    a = absolute(x)
    outside = a > 1
    y = _arctan_inside(where(outside, 1 / a, a))
    return copysign(where(outside, _minus(_HALF_PI, y), y), x)


def arctan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), in [-pi, pi]; the signs of zeros count."""
    if x.dtype != np.float32:
        return library("atan2", y, x)
    a, b = absolute(y), absolute(x)
    steep = a > b
    over, under = where(steep, b, a), where(steep, a, b)
    # Equal is 45 degrees for infinities as well; but 0 / 0 is 0.
    t = where(over == under, 1, over / under)
    angle = _arctan_inside(where(under == 0, 0, t))
    angle = where(steep, _minus(_HALF_PI, angle), angle)
    angle = where(x.view(np.int32) < 0, _minus(_PI, angle), angle)
    return where((x != x) | (y != y), x + y, copysign(angle, y))


def arcsin(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("asin", x)
    outside, y = _arcsin_reduced(x)
    return copysign(where(outside, _minus(_HALF_PI, y * 2), y), x)


def arccos(x: Value) -> Value:
    if x.dtype != np.float32:
        return library("acos", x)
    outside, y = _arcsin_reduced(x)
    inside = _minus(_HALF_PI, copysign(y, x))
    return where(outside, where(x < 0, _minus(_PI, y * 2), y * 2), inside)


def _arctan_inside(t: Value) -> Value:
    z = t * t
    return fma(horner(_ARCTAN, z), t * z, t)


def _arcsin_reduced(x: Value) -> tuple[Value, Value]:
    """|x| > 1/2, and arcsin of |x| or, there, of sqrt((1 - |x|) / 2)."""
    a = absolute(x)
    outside = a > 0.5
    z = where(outside, fma(a, -0.5, 0.5), a * a)
    s = where(outside, sqrt(z), a)
    return outside, fma(horner(_ARCSIN, z), s * z, s)


def _minus(angle: tuple[float, float], y: Value) -> Value:
    return angle[0] - (y - angle[1])
