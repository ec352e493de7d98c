"""The table of operations, and how to add one: `elementwise`, `linear`, `bilinear`, `primitive`."""

from typing import Any as _Any

from fallline.core import op as _kinds
from fallline.core.op import bilinear, implements, linear, primitive, scaled
from fallline.ops import (
    activation,
    conv,
    linalg,
    link,
    loss,
    pool,
    random,
    rearrange,
    reduce,
    shape,
)
from fallline.ops import elementwise as _elementwise
from fallline.ops.activation import (
    elu,
    erf,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    normal_cdf,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fallline.ops.conv import conv2d, conv_transpose2d
from fallline.ops.elementwise import stop_gradient
from fallline.ops.loss import (
    absolute_error,
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    poisson,
    squared_error,
)
from fallline.ops.pool import avg_pool, global_avg_pool, max_pool
from fallline.ops.reduce import logsumexp

_kinds.reserve(
    op
    for module in (_elementwise, activation, conv, linalg, pool, random, reduce, shape)
    for op in vars(module).values()
    if isinstance(op, _kinds.Op)
)

elementwise: _Any = _kinds.elementwise  # the kind, not the module of that name

__all__ = [
    # how to add an operation
    "elementwise",
    "linear",
    "bilinear",
    "primitive",
    "scaled",
    "implements",
    # activations
    "identity",
    "sigmoid",
    "tanh",
    "softplus",
    "log_sigmoid",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "softmax",
    "log_softmax",
    # losses
    "cross_entropy",
    "binary_cross_entropy",
    "hinge",
    "squared_error",
    "absolute_error",
    "huber",
    "poisson",
    # images
    "conv2d",
    "conv_transpose2d",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    # what NumPy does not have
    "erf",
    "normal_cdf",
    "logsumexp",
    "stop_gradient",
    # the modules
    "activation",
    "conv",
    "linalg",
    "link",
    "loss",
    "pool",
    "random",
    "rearrange",
    "reduce",
    "shape",
]
