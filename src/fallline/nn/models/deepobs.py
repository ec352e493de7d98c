"""The networks of the DeepOBS benchmark of optimizers (Schneider, Balles & Hennig 2019)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.nn.conv import Conv2d
from fallline.nn.initialisers import Initialiser, initialiser
from fallline.nn.linear import Linear
from fallline.nn.pooling import Flatten, MaxPool2d
from fallline.nn.sequential import Sequential
from fallline.ops.activation import relu


def deepobs_2c2d(
    *, classes: int = 10, channels: int = 1, seed: int = 0, dtype: Any = np.float32
) -> Sequential:
    """2c2d for 28 x 28 images: 5 x 5 convolutions to 32 and 64 channels, dense layers 1024 and 10.

    Convolutions keep the size ("same"), each is followed by ReLU and 2 x 2 max pooling. Weights are
    drawn from a normal distribution of deviation 0.05 that is cut off at twice that, biases start
    at 0.05. DeepOBS trains it on MNIST and Fashion-MNIST, inputs in [0, 1], no regularisation.

    >>> deepobs_2c2d().n_parameters
    3274634
    """
    how: dict[str, Any] = {
        "init": initialiser("truncated_normal", std=0.05),
        "bias": 0.05,
        "dtype": dtype,
    }
    return Sequential(
        conv1=Conv2d(channels, 32, 5, padding="same", **how),
        act1=relu,
        pool1=MaxPool2d(2),
        conv2=Conv2d(32, 64, 5, padding="same", **how),
        act2=relu,
        pool2=MaxPool2d(2),
        flatten=Flatten(),
        fc1=Linear(7 * 7 * 64, 1024, **how),
        act3=relu,
        fc2=Linear(1024, classes, **how),
    ).init(seed)


def deepobs_3c3d(
    *, classes: int = 10, channels: int = 3, seed: int = 0, dtype: Any = np.float32
) -> Sequential:
    """3c3d for 32 x 32 images: convolutions to 64, 96 and 128, dense layers 512, 256 and 10.

    Kernels of 5 x 5 and 3 x 3 without padding and of 3 x 3 with it ("same"), each followed by ReLU
    and 3 x 3 max pooling at stride 2 with padding "same": 32 -> 28 -> 14 -> 12 -> 6 -> 6 -> 3.
    Kernels are drawn by Glorot's normal, cut off at two deviations as in TensorFlow, dense weights
    by Glorot's uniform distribution; biases start at 0. DeepOBS trains it on CIFAR-10 with an L2
    penalty on the weights, 0.002 / 2 times their squares: train.l2(0.002, count="one").

    >>> deepobs_3c3d().n_parameters
    895210
    """
    conv, dense = (channels, 64, 96, 128), (3 * 3 * 128, 512, 256, classes)
    sizes, paddings = (5, 3, 3), ("valid", "valid", "same")
    layers: dict[str, Any] = {}
    for i in range(3):
        init = _glorot_cut(conv[i] * sizes[i] ** 2, conv[i + 1] * sizes[i] ** 2)
        layers[f"conv{i + 1}"] = Conv2d(
            conv[i], conv[i + 1], sizes[i], padding=paddings[i], init=init, dtype=dtype
        )
        layers[f"act{i + 1}"] = relu
        layers[f"pool{i + 1}"] = MaxPool2d(3, stride=2, padding="same")
    layers["flatten"] = Flatten()
    for i in range(3):
        layers[f"fc{i + 1}"] = Linear(dense[i], dense[i + 1], init="glorot_uniform", dtype=dtype)
        if i < 2:
            layers[f"act{i + 4}"] = relu
    return Sequential(**layers).init(seed)


CUT = 0.87962566103423978  # the deviation of a standard normal number that is between -2 and 2


def _glorot_cut(fan_in: int, fan_out: int) -> Any:
    """A normal distribution, cut off at two deviations, of variance 2 / (fan_in + fan_out)."""
    found: Initialiser | Any = initialiser(
        "truncated_normal", std=math.sqrt(2 / (fan_in + fan_out)) / CUT
    )
    return found
