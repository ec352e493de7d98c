"""NumPy's elementwise functions, a line each: partial derivatives, the expression of an element.

Kinks and ties, by convention: |x| and hypot have derivative 0 at 0; maximum, minimum, fmax and fmin
share the derivative equally between equal arguments; clip passes all of it on its closed interval;
copysign follows the sign bits; x ** 0 has derivative 0 and 0 ** p has derivative 0 in p; floor,
ceil, rint, trunc, sign, heaviside and comparisons have derivative 0 everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.core.errors import UnsupportedError
from fallline.core.op import elementwise, implements, refuse_extras, scaled
from fallline.core.spec import OF_PYTHON, Spec, spec_of
from fallline.core.trace import METHODS, operand

# Arithmetic. Rules divide with np.true_divide: Python's / raises where a Python number is 0.


def _power_dx(y: Any, x: Any, p: Any) -> Any:
    if p.__class__ in (int, float):
        return p * (x if p == 2 else np.power(x, p - 1)) if p not in (0, 1) else p
    return p * np.power(x, np.where(p == 0, 1, p - 1))  # 0 * 0**-1 would be nan


def _power_dp(y: Any, x: Any, p: Any) -> Any:
    positive = x > 0
    return np.where(positive, y * np.log(np.where(positive, x, 1)), 0)


add = elementwise(np.add, 1, 1, kernel="{0} + {1}", analytic=True)
subtract = elementwise(np.subtract, 1, -1, kernel="{0} - {1}", analytic=True)
multiply = elementwise(
    np.multiply, lambda z, x, y: y, lambda z, x, y: x, kernel="{0} * {1}", analytic=True
)
divide = elementwise(
    np.true_divide,
    lambda z, x, y: np.true_divide(1, y),
    lambda z, x, y: np.true_divide(-z, y),
    kernel="{0} / {1}",
    analytic=True,
)
negative = elementwise(np.negative, -1, kernel="-{0}", analytic=True)
positive = elementwise(np.positive, 1, kernel="+{0}", analytic=True)
power = elementwise(np.power, _power_dx, _power_dp, kernel="power({0}, {1})", analytic=True)
float_power = elementwise(np.float_power, _power_dx, _power_dp, kernel="power({0}, {1})")
square = elementwise(np.square, lambda y, x: 2 * x, kernel="{0} * {0}", analytic=True)
reciprocal = elementwise(np.reciprocal, lambda y, x: -y * y, kernel="1 / {0}", analytic=True)
floor_divide = elementwise(np.floor_divide, None, None, kernel="floor_divide({0}, {1})")
remainder = elementwise(
    np.remainder, 1, lambda z, x, y: -np.floor_divide(x, y), kernel="remainder({0}, {1})"
)
fmod = elementwise(
    np.fmod, 1, lambda z, x, y: -np.trunc(np.true_divide(x, y)), kernel="fmod({0}, {1})"
)

# Roots, exponentials, logarithms.

LN2, LN10 = math.log(2.0), math.log(10.0)

sqrt = elementwise(np.sqrt, lambda y, x: np.true_divide(0.5, y), kernel="sqrt({0})", analytic=True)
cbrt = elementwise(np.cbrt, lambda y, x: np.reciprocal(3 * y * y), kernel="cbrt({0})")
exp = elementwise(np.exp, lambda y, x: y, kernel="exp({0})", analytic=True)
exp2 = elementwise(np.exp2, lambda y, x: LN2 * y, kernel="exp2({0})", analytic=True)
expm1 = elementwise(np.expm1, lambda y, x: y + 1, kernel="expm1({0})", analytic=True)
log = elementwise(np.log, lambda y, x: np.reciprocal(x), kernel="log({0})", analytic=True)
log2 = elementwise(np.log2, lambda y, x: np.reciprocal(LN2 * x), kernel="log2({0})", analytic=True)
log10 = elementwise(
    np.log10, lambda y, x: np.reciprocal(LN10 * x), kernel="log10({0})", analytic=True
)
log1p = elementwise(np.log1p, lambda y, x: np.reciprocal(1 + x), kernel="log1p({0})", analytic=True)
logaddexp = elementwise(
    np.logaddexp,
    lambda z, x, y: _share(np.exp, z, x, y),
    lambda z, x, y: _share(np.exp, z, y, x),
    kernel="logaddexp({0}, {1})",
)
logaddexp2 = elementwise(
    np.logaddexp2,
    lambda z, x, y: _share(np.exp2, z, x, y),
    lambda z, x, y: _share(np.exp2, z, y, x),
    kernel="logaddexp2({0}, {1})",
)


def _share(exponential: Any, z: Any, x: Any, y: Any) -> Any:
    """e^x / (e^x + e^y), also where one or both are infinite."""
    all_of_it = x == z  # as when x is infinite: x - z would be nan
    share = exponential(np.where(all_of_it, 0, x) - np.where(all_of_it, 0, z))
    return np.where(all_of_it & (x == y), 0.5, share)


# Trigonometric and hyperbolic.

sin = elementwise(np.sin, lambda y, x: np.cos(x), kernel="sin({0})", analytic=True)
cos = elementwise(np.cos, lambda y, x: -np.sin(x), kernel="cos({0})", analytic=True)
tan = elementwise(np.tan, lambda y, x: 1 + y * y, kernel="tan({0})", analytic=True)
arcsin = elementwise(
    np.arcsin, lambda y, x: 1 / np.sqrt(1 - x * x), kernel="arcsin({0})", analytic=True
)
arccos = elementwise(
    np.arccos, lambda y, x: -1 / np.sqrt(1 - x * x), kernel="arccos({0})", analytic=True
)
arctan = elementwise(np.arctan, lambda y, x: 1 / (1 + x * x), kernel="arctan({0})", analytic=True)
arctan2 = elementwise(
    np.arctan2,
    lambda a, y, x: np.true_divide(x, x * x + y * y),
    lambda a, y, x: np.true_divide(-y, x * x + y * y),
    kernel="arctan2({0}, {1})",
)
hypot = elementwise(
    np.hypot,
    lambda z, x, y: x / np.where(z == 0, 1, z),
    lambda z, x, y: y / np.where(z == 0, 1, z),
    kernel="hypot({0}, {1})",
)
sinh = elementwise(np.sinh, lambda y, x: np.cosh(x), kernel="sinh({0})", analytic=True)
cosh = elementwise(np.cosh, lambda y, x: np.sinh(x), kernel="cosh({0})", analytic=True)
tanh = elementwise(np.tanh, lambda y, x: 1 - y * y, kernel="tanh({0})", analytic=True)
arcsinh = elementwise(
    np.arcsinh, lambda y, x: 1 / np.sqrt(x * x + 1), kernel="arcsinh({0})", analytic=True
)
arccosh = elementwise(
    np.arccosh, lambda y, x: 1 / np.sqrt(x * x - 1), kernel="arccosh({0})", analytic=True
)
arctanh = elementwise(
    np.arctanh, lambda y, x: np.reciprocal(1 - x * x), kernel="arctanh({0})", analytic=True
)
deg2rad = elementwise(np.deg2rad, lambda y, x: math.pi / 180, kernel="radians({0})")
rad2deg = elementwise(np.rad2deg, lambda y, x: 180 / math.pi, kernel="degrees({0})")

# Kinks, selections, steps.


def _first_of(better: Any) -> tuple[scaled, scaled]:
    """The derivatives of a choice between two: to the better one; half each on a tie."""
    return (
        scaled(lambda g, z, x, y: np.where(better(x, y), g, np.where(x == y, 0.5 * g, 0))),
        scaled(lambda g, z, x, y: np.where(better(y, x), g, np.where(x == y, 0.5 * g, 0))),
    )


absolute = elementwise(np.absolute, lambda y, x: np.sign(x), kernel="absolute({0})")
fabs = elementwise(np.fabs, lambda y, x: np.sign(x), kernel="fabs({0})")
maximum = elementwise(np.maximum, *_first_of(np.greater), kernel="maximum({0}, {1})")
minimum = elementwise(np.minimum, *_first_of(np.less), kernel="minimum({0}, {1})")
fmax = elementwise(np.fmax, *_first_of(lambda x, y: (x > y) | np.isnan(y)), kernel="fmax({0}, {1})")
fmin = elementwise(np.fmin, *_first_of(lambda x, y: (x < y) | np.isnan(y)), kernel="fmin({0}, {1})")
clip = elementwise(
    lambda x, low, high: np.clip(x, low, high),
    scaled(lambda g, y, x, low, high: np.where((x >= low) & (x <= high), g, 0)),
    scaled(lambda g, y, x, low, high: np.where(x < low, g, 0)),
    scaled(lambda g, y, x, low, high: np.where(x > high, g, 0)),
    name="clip",
    kernel="minimum(maximum({0}, {1}), {2})",
)
where = elementwise(
    lambda condition, x, y: np.where(condition, x, y),
    None,
    scaled(lambda g, z, c, x, y: np.where(c, g, 0)),
    scaled(lambda g, z, c, x, y: np.where(c, 0, g)),
    name="where",
    kernel="where({0}, {1}, {2})",
)
copysign = elementwise(
    np.copysign,
    scaled(lambda g, z, x, y: np.where(np.signbit(x) == np.signbit(y), g, -g)),
    None,
    kernel="copysign({0}, {1})",
)

sign = elementwise(np.sign, None, kernel="sign({0})")
floor = elementwise(np.floor, None, kernel="floor({0})")
ceil = elementwise(np.ceil, None, kernel="ceil({0})")
trunc = elementwise(np.trunc, None, kernel="trunc({0})")
rint = elementwise(np.rint, None, kernel="rint({0})")
heaviside = elementwise(np.heaviside, None, None, kernel="heaviside({0}, {1})")

equal = elementwise(np.equal, None, None, kernel="{0} == {1}")
not_equal = elementwise(np.not_equal, None, None, kernel="{0} != {1}")
less = elementwise(np.less, None, None, kernel="{0} < {1}")
less_equal = elementwise(np.less_equal, None, None, kernel="{0} <= {1}")
greater = elementwise(np.greater, None, None, kernel="{0} > {1}")
greater_equal = elementwise(np.greater_equal, None, None, kernel="{0} >= {1}")
logical_and = elementwise(np.logical_and, None, None, kernel="logical_and({0}, {1})")
logical_or = elementwise(np.logical_or, None, None, kernel="logical_or({0}, {1})")
logical_xor = elementwise(np.logical_xor, None, None, kernel="logical_xor({0}, {1})")
logical_not = elementwise(np.logical_not, None, kernel="logical_not({0})")
bitwise_and = elementwise(np.bitwise_and, None, None, kernel="{0} & {1}")
bitwise_or = elementwise(np.bitwise_or, None, None, kernel="{0} | {1}")
bitwise_xor = elementwise(np.bitwise_xor, None, None, kernel="{0} ^ {1}")
invert = elementwise(np.invert, None, kernel="~{0}")
_SHIFTS = (
    "a shift by more bits than there are has no meaning in machine code. Did you mean x * 2**n?"
)
left_shift = elementwise(np.left_shift, None, None, eager_only=_SHIFTS)
right_shift = elementwise(np.right_shift, None, None, eager_only=_SHIFTS)
isnan = elementwise(np.isnan, None, kernel="isnan({0})")
isinf = elementwise(np.isinf, None, kernel="isinf({0})")
isfinite = elementwise(np.isfinite, None, kernel="isfinite({0})")
signbit = elementwise(np.signbit, None, kernel="signbit({0})")

# What is said in other words.

stop_gradient = elementwise(lambda x: x, None, name="stop_gradient", kernel="{0}")


def _cast(partial: int | None) -> Any:
    return elementwise(
        lambda x, *, dtype: np.asarray(x).astype(dtype),
        partial,
        name="astype",
        kernel="{0}",
        spec=lambda x, *, dtype: Spec(x.shape, dtype, x.weak and dtype in OF_PYTHON),
    )


to_float, to_other = _cast(1), _cast(None)


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """The array in another type; derivatives pass between float types and stop at others."""
    dtype, known = np.dtype(dtype), spec_of(x)
    if known.dtype == dtype and not known.weak:
        return x
    return (to_float if dtype.kind == "f" else to_other)(x, dtype=dtype)


@implements(np.clip)
def _clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    refuse_extras("clip", out=out)
    a, low, high = operand(a), (a_min if min is None else min), (a_max if max is None else max)
    least, most = _limits(spec_of(a).dtype)
    low, high = least if low is None else low, most if high is None else high
    return clip(a, operand(low), operand(high))


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return -math.inf, math.inf


@implements(np.where)
def _where(condition: Any, *choices: Any) -> Any:
    if len(choices) != 2:
        raise UnsupportedError(
            "np.where: with a traced condition, give both alternatives, np.where(c, a, b): "
            "the number of hits is not known."
        )
    return where(operand(condition), *map(operand, choices))


@implements(np.round)
def _round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    refuse_extras("round", out=out)
    scale = 10.0 ** abs(decimals)
    if decimals == 0:
        return a if spec_of(a).dtype.kind in "iu" else np.rint(a)
    return np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale


@implements(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    chosen = operand(default)
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        chosen = where(operand(condition), operand(choice), chosen)
    return chosen


@implements(np.nan_to_num)
def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    limits = np.finfo(spec_of(x).dtype)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(x == math.inf, float(limits.max) if posinf is None else posinf, x)
    return np.where(x == -math.inf, float(limits.min) if neginf is None else neginf, x)


@implements(np.real, np.copy)
def _same(x: Any, *ignored: Any, **also: Any) -> Any:
    return x


@implements(np.fix)
def _fix(x: Any, out: Any = None) -> Any:
    refuse_extras("fix", out=out)
    return np.trunc(x)


@implements(np.degrees)
def _degrees(x: Any) -> Any:
    return np.rad2deg(x)


@implements(np.radians)
def _radians(x: Any) -> Any:
    return np.deg2rad(x)


METHODS["astype"] = astype
METHODS["clip"] = _clip
METHODS["round"] = _round
METHODS["copy"] = _same
