"""The table of operations, and how to add one: `elementwise`, `linear`, `bilinear`, `primitive`."""

from fallline.core.op import bilinear, elementwise, implements, linear, primitive, scaled
from fallline.ops import activation, linalg, reduce, shape
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
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fallline.ops.elementwise import stop_gradient
from fallline.ops.reduce import logsumexp
