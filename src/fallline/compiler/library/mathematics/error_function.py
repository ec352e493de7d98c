"""The error function and the normal distribution function, branch-free.

    erfc a = e^(-a^2) E(t) / (a + 5/2),   t = (a - 5/2) / (a + 5/2)
    Phi -a = e^(-a^2 / 2) N(t) / (a + m),   t = (a - m) / (a + m)

where a >= 1, and a series nearer to 0: Phi a = 1/2 + a (1 / sqrt(2 pi) + z M(z)), z = a^2.

What is left beside the exponential is smooth in t, so that one polynomial serves all a >= 1;
Schonfelder 1978, Chebyshev expansions for the error and related functions, Mathematics of
Computation 32, 1232-1240. Squares are carried in two words: the exponential would multiply their
rounding errors by a^2. So Phi keeps its relative precision as far as it is a normal number, where
(1 + erf(x / sqrt 2)) / 2 has lost all digits by x = -9. Errors in ulp, measured over the whole
range:

                    float32   float64
    erf               1.6       1.5
    normal_cdf        3.7       3.7
"""

from __future__ import annotations

import numpy as np

from fallline.compiler.library.mathematics import pairs
from fallline.compiler.library.mathematics.exponential import exp_pair, expm1_negative
from fallline.compiler.library.mathematics.real import horner, polynomial
from fallline.compiler.library.value import Value, absolute, copysign, fma, where

# float32: -log(erfc(x)) = x (G0 + x G(x)),  0 <= x <= 3.95
_LOG_FIRST = (1.128379225730896, -5.863538342219759e-08)  # 2 / sqrt(pi)
_LOG = (
    *(1.1534100394783309e-06, -2.0941162802046165e-05, 0.00016572904132772237),
    *(-0.0007367539801634848, 0.0017942928243428469, -0.0002492816129233688),
    *(-0.019119272008538246, 0.10277161002159119, 0.6366198062896729),
)
# float64: erf x = x (F0 + z F(z)),  z = x^2,  |x| <= 1
_ERF_FIRST = (1.1283791670955126, 1.533545961316588e-17)  # 2 / sqrt(pi)
_ERF = (
    *(5.94163058085718e-11, -1.1363499944855166e-09, 1.465731720302653e-08),
    *(-1.6349941884615286e-07, 1.6460965084063618e-06, -1.4925593043003592e-05),
    *(0.00012055331019084302, -0.000854832697833138, 0.005223977624776343),
    *(-0.026866170645072993, 0.11283791670954865, -0.3761263890318375),
)
# float64: E(t),  1 <= a <= 6
_ERFC = (
    *(-3.798553480035877e-05, -0.00012259029731851877, 5.531131298372631e-05),
    *(0.0007022959848035, -0.0004391782130874379, -0.0048187670426553895),
    *(0.008393046542500782, 0.028361550142861233, -0.17125114526369672),
    *(0.45391411664701353, -0.8046518494391498, 1.0540318203057186),
)
# 1 / sqrt(2 pi) in two words, M(z), m, N(t) where Phi(-a) does not round to 0, and that place
_NORMAL = {
    np.float32: (
        (0.3989422917366028, -1.1335170135851058e-08),
        (
            -7.516666300944053e-06,
            0.00011312418064335361,
            -0.001185993547551334,
            0.009973196312785149,
            -0.06649034470319748,
        ),
        4.0,
        (
            0.00016824931662995368,
            0.0014724027132615447,
            -0.003503541462123394,
            -0.007502419874072075,
            0.06040206179022789,
            -0.18652518093585968,
            0.38713690638542175,
            -0.6078965663909912,
            0.7552851438522339,
        ),
        14.3,
    ),
    np.float64: (
        (0.3989422804014327, -2.49232720227773e-17),
        (
            4.0206238487061725e-12,
            -1.1036328521813996e-10,
            2.269789499043921e-09,
            -4.122333110980469e-08,
            6.659673988968237e-07,
            -9.444655513187137e-06,
            0.00011543468743437194,
            -0.0011873282154539282,
            0.009973557010033775,
            -0.06649038006690539,
        ),
        4.0,
        (
            3.597912122490692e-08,
            -6.482196497034829e-08,
            -1.9034525041017963e-07,
            2.6614221853059803e-07,
            1.0457012146391138e-06,
            -6.319828823806825e-07,
            -5.929223518153574e-06,
            7.186501028208732e-07,
            3.514669541903874e-05,
            -1.908841207452851e-06,
            -0.00023109520304647984,
            0.00013334440120865417,
            0.001630818478371556,
            -0.003479692374708717,
            -0.007540188967589315,
            0.060396574891240326,
            -0.18652185795964124,
            0.3871374007422093,
            -0.6078966419718922,
            0.7552851304157515,
        ),
        38.6,
    ),
}


def erf(x: Value) -> Value:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return _erf_float32(x) if x.dtype == np.float32 else _erf_float64(x)


def normal_cdf(x: Value) -> Value:
    """Phi x = erfc(-x / sqrt 2) / 2: the probability that a normal number is below x."""
    (first, second), series, middle, coefficients, last = _NORMAL[x.dtype.type]
    a = absolute(x)
    a = where(a > last, last + 1, a)
    square, low = pairs.multiply(a, a)
    below, below_low = pairs.add(a, a.constant(middle))
    inverse = 1 / below
    rest = fma(-inverse, below_low, fma(-inverse, below, 1))  # 1 / (a + m) = inverse (1 + rest)
    t = fma(inverse, -2 * middle, 1)
    n = horner(coefficients, t)
    # N(t) and its factor 1 / (a + m) of the quotient without rounding: t - 1 moves by (t - 1) rest.
    slope = fma(t, 2 * coefficients[-3], coefficients[-2])
    n = fma(rest, fma(t - 1, slope, n), n)
    tail = exp_pair(square * -0.5, low * -0.5) * (n * inverse)
    inside = fma(x, first, x * fma(polynomial(series, square), square, second)) + 0.5
    return where(a > 1, where(x > 0, 1 - tail, tail), inside)


def _erf_float32(x: Value) -> Value:
    """erf |x| = 1 - e^-g(|x|),  g = -log erfc, which is smooth and nearly a parabola."""
    a = absolute(x)
    a = where(a > 3.95, 3.95, a)  # erf is 1 from 3.92 on
    g = fma(a, _LOG_FIRST[0], a * fma(polynomial(_LOG, a), a, _LOG_FIRST[1]))
    return copysign(expm1_negative(-g), x)


def _erf_float64(x: Value) -> Value:
    """A series in x^2 up to 1, beyond it 1 - erfc |x|."""
    a = absolute(x)
    a = where(a > 6.0, 6.0, a)  # erf is 1 from 5.93 on
    square, low = pairs.multiply(a, a)
    inside = fma(a, _ERF_FIRST[0], a * fma(polynomial(_ERF, square), square, _ERF_FIRST[1]))
    inverse = 1 / (a + 2.5)
    tail = exp_pair(-square, -low) * (polynomial(_ERFC, (a - 2.5) * inverse) * inverse)
    return copysign(where(a > 1, 1 - tail, inside), x)
