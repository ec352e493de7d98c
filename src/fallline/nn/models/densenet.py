"""Dense networks for small images."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.nn.branches import Concat
from fallline.nn.conv import Conv2d
from fallline.nn.dropout import Dropout
from fallline.nn.linear import Linear
from fallline.nn.normalisation import BatchNorm
from fallline.nn.pooling import AvgPool2d, GlobalAvgPool
from fallline.nn.sequential import Sequential
from fallline.ops.activation import relu


def densenet(
    depth: int = 40,
    *,
    growth: int = 12,
    dropout: float = 0.0,
    classes: int = 10,
    channels: int = 3,
    seed: int = 0,
    dtype: Any = np.float32,
) -> Sequential:
    """A dense network for CIFAR, of depth 3 n + 4: every layer sees the outputs of all before it.

        3 x 3 to 16 channels; three blocks of n layers, a transition between two; mean; dense
        layer       x -> [x, conv3x3(relu(bn(x)))], `growth` new channels
        transition  mean of 2 x 2 (conv1x1(relu(bn(x)))), the channels as they are

    Without bottlenecks and without compression. dropout  its rate after each convolution but the
    first; the paper takes 0.2 where it does not augment the data. Convolutions have no bias, their
    weights are drawn by he_normal, those of the dense layer by lecun_uniform.
    Huang, Liu, van der Maaten & Weinberger 2017, section 3.

    >>> densenet(40).n_parameters
    1019722
    """
    n, rest = divmod(depth - 4, 3)
    if rest or n < 1:
        raise ValueError(f"densenet: depth must be 3 n + 4, such as 40, 100; got {depth}.")
    if not isinstance(growth, int) or growth < 1:
        raise ValueError(f"densenet: growth must be a positive integer; got {growth!r}.")
    width = 16
    layers: dict[str, Any] = {"conv1": _conv(channels, width, 3, dtype)}
    for block in (1, 2, 3):
        dense = []
        for _ in range(n):
            new = _normalised(width, growth, 3, dropout, dtype)
            dense.append(Concat(Sequential(**new), keep_input=True))
            width += growth
        layers[f"block{block}"] = Sequential(*dense)
        if block < 3:
            between = _normalised(width, width, 1, dropout, dtype)
            layers[f"trans{block}"] = Sequential(**between, pool=AvgPool2d(2))
    layers |= {"bn1": BatchNorm(width, dtype=dtype), "relu": relu, "pool": GlobalAvgPool()}
    layers["fc"] = Linear(width, classes, init="lecun_uniform", dtype=dtype)
    return Sequential(**layers).init(seed)


def _conv(n_in: int, n_out: int, kernel: int, dtype: Any) -> Conv2d:
    return Conv2d(
        n_in, n_out, kernel, padding=kernel // 2, bias=False, init="he_normal", dtype=dtype
    )


def _normalised(n_in: int, n_out: int, kernel: int, rate: float, dtype: Any) -> dict[str, Any]:
    """Batch normalisation, ReLU, convolution, and dropout if there is any."""
    layers: dict[str, Any] = {
        "bn1": BatchNorm(n_in, dtype=dtype),
        "relu": relu,
        "conv1": _conv(n_in, n_out, kernel, dtype),
    }
    return layers | ({"drop": Dropout(rate)} if rate else {})
