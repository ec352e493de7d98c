"""Activations: plain functions of an array, in forms that neither overflow nor lose digits.

At their kinks relu and leaky_relu take the derivative of the left side (0 and the slope), as most
libraries do; elu and selu that of the exponential.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.core.op import elementwise, scaled
from fallline.ops.elementwise import stop_gradient
from fallline.ops.reduce import logsumexp


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _relu(x: Any) -> Any:
    return np.where(x < 0, 0, x)  # a nan passes


def _erf(x: Any) -> Any:
    from scipy.special import erf as scipy_erf

    return scipy_erf(x)


def _normal_cdf(x: Any) -> Any:
    from scipy.special import ndtr

    return ndtr(x)


_sigmoid_op = elementwise(_sigmoid, lambda y, x: y * (1 - y), name="sigmoid", kernel="sigmoid({0})")
_softplus_op = elementwise(
    _softplus, lambda y, x: sigmoid(x), name="softplus", kernel="softplus({0})"
)
_relu_op = elementwise(
    _relu,
    scaled(lambda g, y, x: np.where(x > 0, g, 0)),
    name="relu",
    kernel="where({0} < 0, 0, {0})",
)
_erf_op = elementwise(
    _erf,
    lambda y, x: 2 / math.sqrt(math.pi) * np.exp(-x * x),
    name="erf",
    kernel="erf({0})",
    analytic=True,
)
_normal_cdf_op = elementwise(
    _normal_cdf,
    lambda y, x: 1 / math.sqrt(2 * math.pi) * np.exp(-0.5 * x * x),
    name="normal_cdf",
    kernel="normal_cdf({0})",
    analytic=True,
)


def sigmoid(x: Any) -> Any:
    """The logistic function 1 / (1 + exp(-x)); no finite input overflows.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return _sigmoid_op(x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|))."""
    return _softplus_op(x)


def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)) = -softplus(-x)."""
    return -_softplus_op(-x)


def relu(x: Any) -> Any:
    """max(x, 0); its derivative at 0 is 0. Nair & Hinton 2010.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _relu_op(x)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, slope * x elsewhere. Maas et al. 2013."""
    return np.where(x > 0, x, slope * x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere. Clevert et al. 2016, eq. 15."""
    negative = np.where(x > 0, 0, x)  # the unused branch must not overflow
    return np.where(x > 0, x, alpha * np.expm1(negative))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(x: Any) -> Any:
    """SELU_SCALE * elu(x, SELU_ALPHA): keeps mean 0 and variance 1 through the layers.

    Klambauer et al. 2017, eq. 2.
    """
    return SELU_SCALE * elu(x, SELU_ALPHA)


def erf(x: Any) -> Any:
    """The error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    return _erf_op(x)


def normal_cdf(x: Any) -> Any:
    """Phi(x) = (1 + erf(x / sqrt(2))) / 2: the probability that a normal number is below x.

    Computed without that sum, so that small probabilities keep their relative precision.
    """
    return _normal_cdf_op(x)


def gelu(x: Any) -> Any:
    """x * Phi(x), with Phi the normal distribution function. Hendrycks & Gimpel 2016.

    A kernel computes it within 5 units in the last place, the negative tail included as far as Phi
    is a normal number.
    """
    return x * normal_cdf(x)


def gelu_tanh(x: Any) -> Any:
    """The usual approximation of gelu: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish. Elfwing et al. 2018."""
    return x * sigmoid(x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return np.tanh(x)


def identity(x: Any) -> Any:
    """x: a layer without a nonlinearity."""
    return x


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis, the largest element subtracted first.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    e = np.exp(x - stop_gradient(np.max(x, axis=axis, keepdims=True)))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) without taking the logarithm of a softmax: x - logsumexp(x)."""
    return x - logsumexp(x, axis=axis, keepdims=True)
