"""LeNet-5, for digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.nn.activation import activation as named
from fallline.nn.conv import Conv2d
from fallline.nn.linear import Linear
from fallline.nn.pooling import AvgPool2d, Flatten, MaxPool2d
from fallline.nn.sequential import Sequential


def lenet5(
    *,
    classes: int = 10,
    channels: int = 1,
    size: int = 28,
    classic: bool = False,
    seed: int = 0,
    dtype: Any = np.float32,
) -> Sequential:
    """LeNet-5: two convolutions and three dense layers, 6-16-120-84-10.

    size  of the square images: 28, which the first convolution pads by 2 on all sides, or 32 as in
    the paper, without padding. By default ReLU and max pooling, as it is written today, with
    he_uniform weights; with `classic` tanh, average pooling and lecun_uniform weights. The paper's
    own net also had trained scales in the pooling, a sparse table of connections in the second
    convolution (1,516 weights where there are 2,416 here) and radial basis functions at the end.

    Layers have the names that they get in PyTorch: conv1, conv2, fc1, fc2, fc3.
    LeCun, Bottou, Bengio & Haffner 1998, section II.B.

    >>> lenet5().n_parameters
    61706
    """
    if size not in (28, 32):
        raise ValueError(f"lenet5: size must be 28 or 32; got {size}.")
    function = named("tanh" if classic else "relu")
    pool = AvgPool2d(2) if classic else MaxPool2d(2)
    how: dict[str, Any] = {"init": "lecun_uniform" if classic else "he_uniform", "dtype": dtype}
    return Sequential(
        conv1=Conv2d(channels, 6, 5, padding=(32 - size) // 2, **how),
        act1=function,
        pool1=pool,
        conv2=Conv2d(6, 16, 5, **how),
        act2=function,
        pool2=pool.copy(),
        flatten=Flatten(),
        fc1=Linear(400, 120, **how),
        act3=function,
        fc2=Linear(120, 84, **how),
        act4=function,
        fc3=Linear(84, classes, **how),
    ).init(seed)
