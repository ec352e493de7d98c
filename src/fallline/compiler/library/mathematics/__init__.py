"""The functions that a kernel may call, named and typed as in NumPy.

    from fallline.compiler.library.mathematics import *

    def kernel(n: "int", x: "float32*", y: "float32*"):
        for i in range(n):
            y[i] = tanh(x[i]) * float32(0.5)

float32 in is float32 out, special values are NumPy's, no fast-math flag is set. Formulas have no
branches, so that loops over them vectorise, with whatever vectors there are; but fmod, remainder
and floor_divide of floats call the C library for each element. Errors, in units in the last place
over the whole range, are stated in the modules of the formulas: exponential, logarithm,
error_function, powers, trigonometric, inverse_trigonometric, hyperbolic. They are greater by half a
unit on processors without fused multiply-add.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.compiler.library.define import function
from fallline.compiler.library.mathematics import (
    arithmetic,
    counters,
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    powers,
    trigonometric,
)
from fallline.compiler.library.mathematics.arithmetic import *  # noqa: F403
from fallline.compiler.library.mathematics.counters import *  # noqa: F403
from fallline.compiler.library.value import Value

__all__ = [
    *arithmetic.__all__,
    *counters.__all__,
    *["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2"],
    *["sigmoid", "log_sigmoid", "softplus", "erf", "normal_cdf"],
    *["power", "float_power", "cbrt", "hypot"],
    *["sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "radians", "degrees"],
    *["sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"],
]

exp = function(np.exp)(exponential.exp)
exp2 = function(np.exp2)(exponential.exp2)
expm1 = function(np.expm1)(exponential.expm1)
log = function(np.log)(logarithm.log)
log2 = function(np.log2)(logarithm.log2)
log10 = function(np.log10)(logarithm.log10)
log1p = function(np.log1p)(logarithm.log1p)
logaddexp = function(np.logaddexp)(logarithm.logaddexp)
logaddexp2 = function(np.logaddexp2)(logarithm.logaddexp2)

sigmoid = function(np.exp)(exponential.sigmoid)
log_sigmoid = function(np.exp)(logarithm.log_sigmoid)
softplus = function(np.exp)(logarithm.softplus)
erf = function(np.exp)(error_function.erf)
normal_cdf = function(np.exp)(error_function.normal_cdf)

power = function(np.power)(powers.power)
float_power = function(np.float_power)(powers.power)
cbrt = function(np.cbrt)(powers.cbrt)
hypot = function(np.hypot)(powers.hypot)

sin = function(np.sin)(trigonometric.sin)
cos = function(np.cos)(trigonometric.cos)
tan = function(np.tan)(trigonometric.tan)
arcsin = function(np.arcsin)(inverse_trigonometric.arcsin)
arccos = function(np.arccos)(inverse_trigonometric.arccos)
arctan = function(np.arctan)(inverse_trigonometric.arctan)
arctan2 = function(np.arctan2)(inverse_trigonometric.arctan2)

sinh = function(np.sinh)(hyperbolic.sinh)
cosh = function(np.cosh)(hyperbolic.cosh)
tanh = function(np.tanh)(exponential.tanh)
arcsinh = function(np.arcsinh)(hyperbolic.arcsinh)
arccosh = function(np.arccosh)(hyperbolic.arccosh)
arctanh = function(np.arctanh)(hyperbolic.arctanh)


@function(np.radians)
def radians(x: Value) -> Value:
    """Degrees to radians."""
    real: Any = x.dtype.type
    return x * (real(math.pi) / real(180))  # rounded twice, as NumPy's constant is


@function(np.degrees)
def degrees(x: Value) -> Value:
    """Radians to degrees."""
    real: Any = x.dtype.type
    return x * (real(180) / real(math.pi))
