"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fallline.nn.activation import Activation
from fallline.nn.activation import activation as named
from fallline.nn.dropout import Dropout
from fallline.nn.initialisers import Initialiser
from fallline.nn.linear import Linear
from fallline.nn.module import Module
from fallline.nn.sequential import Sequential
from fallline.ops import philox
from fallline.ops.activation import relu, selu

_FOR_KINKED = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus")


def mlp(
    widths: Sequence[int],
    *,
    activation: str | Callable[[Any], Any] = relu,
    dropout: float = 0.0,
    init: str | Initialiser | Callable[..., Any] | None = None,
    bias: bool = True,
    seed: int = 0,
    dtype: Any = np.float32,
) -> Sequential:
    """A multi-layer perceptron: linear layers with an activation between each two.

        a_0 = x,  z_l = a_(l-1) W_l + b_l,  a_l = activation(z_l),  output z_L

    widths  the numbers of inputs, of units in each hidden layer, and of outputs;  dropout  its rate
    after each hidden layer. The last layer gives logits or values: what they mean is the loss's
    business. `init` is by default he_normal for ReLU and its like, lecun_normal for SELU, and
    glorot_uniform for all others. mlp(..., seed=s) equals mlp(...).init(s).

    >>> mlp([784, 100, 10])
    Sequential, 79,510 parameters
      0  Linear  784 -> 100  W (784, 100)  b (100)  78,500
      1  relu
      2  Linear  100 -> 10   W (100, 10)   b (10)    1,010
    """
    widths = list(widths)
    if len(widths) < 2:
        raise ValueError(f"mlp: widths must hold at least inputs and outputs; got {widths}.")
    function = named(activation)
    init = _initialiser_for(function) if init is None else init
    layers: list[Module] = []
    for n_in, n_out in pairwise(widths):
        if layers:
            layers.append(Activation(function))
        if layers and dropout:
            layers.append(Dropout(dropout))
        key = philox.fold_in(philox.key(seed), str(len(layers)))
        layers.append(Linear(n_in, n_out, init=init, bias=bias, seed=key, dtype=dtype))
    return Sequential(*layers)


def _initialiser_for(function: Callable[..., Any]) -> str:
    if function is selu:
        return "lecun_normal"
    return "he_normal" if getattr(function, "__name__", "") in _FOR_KINKED else "glorot_uniform"
