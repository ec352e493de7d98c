"""The convolutional network of the paper on Adam, for small colour images."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.nn.conv import Conv2d
from fallline.nn.dropout import Dropout
from fallline.nn.linear import Linear
from fallline.nn.pooling import Flatten, MaxPool2d
from fallline.nn.sequential import Sequential
from fallline.ops.activation import relu


def adam_cnn(
    *,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    dropout: bool = False,
    seed: int = 0,
    dtype: Any = np.float32,
) -> Sequential:
    """c64-c64-c128-1000: three stages of 5 x 5 convolution and 3 x 3 max pooling, a dense layer.

    size  of the square images, at least 15. With `dropout`, a fifth of the inputs and half of the
    dense layer's are dropped in training; the paper says where noise is applied, not how much: the
    rates are those of Srivastava et al. 2014. Convolutions keep the size ("same") and pooling has
    stride 2 without padding, so 32 -> 15 -> 7 -> 3; the paper states neither. Its inputs are
    whitened. Kingma & Ba 2015, section 6.3.

    >>> adam_cnn().n_parameters
    1475266
    """
    side = size
    for _ in range(3):
        side = (side - 3) // 2 + 1
    if side < 1:
        raise ValueError(f"adam_cnn: size must be at least 15; got {size}.")
    layers: dict[str, Any] = {"drop0": Dropout(0.2)} if dropout else {}
    widths = (channels, 64, 64, 128)
    for i in (1, 2, 3):
        layers[f"conv{i}"] = Conv2d(widths[i - 1], widths[i], 5, padding="same", dtype=dtype)
        layers[f"act{i}"] = relu
        layers[f"pool{i}"] = MaxPool2d(3, stride=2)
    layers["flatten"] = Flatten()
    layers["fc1"] = Linear(widths[3] * side * side, 1000, dtype=dtype)
    layers["act4"] = relu
    if dropout:
        layers["drop1"] = Dropout(0.5)
    layers["fc2"] = Linear(1000, classes, dtype=dtype)
    return Sequential(**layers).init(seed)
