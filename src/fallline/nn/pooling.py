"""Pooling of images, and flattening, as layers without parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.core.spec import shape_of
from fallline.nn.conv import Padding, extras, settled
from fallline.nn.module import Module
from fallline.ops.conv import Pair, paddings, pair
from fallline.ops.pool import avg_pool, global_avg_pool, max_pool


class MaxPool2d(Module):
    """The largest element of every window of an image.

        y[n, c, p, q] = max over i, j of x[n, c, p s + i, q s + j]

    x  (n, channels, height, width). `kernel` is the window's size, `stride` s the kernel's size
    unless it is given, `padding` as in `ops.conv2d`, below the kernel's size, with elements that
    are never the largest. Of equal elements the first in the order of rows gets the derivative.
    Raises ValueError for an image smaller than the window.

    >>> MaxPool2d(3, stride=2)
    MaxPool2d  3 x 3, stride 2
    """

    kernel: Pair
    stride: Pair
    padding: Padding

    def __init__(
        self, kernel: int | Pair, *, stride: int | Pair | None = None, padding: Padding = "valid"
    ) -> None:
        self.kernel, self.stride = _window("MaxPool2d", kernel, stride, padding)
        self.padding = settled(padding)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        return max_pool(x, self.kernel, stride=self.stride, padding=self.padding)

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return _summary(self)


class AvgPool2d(Module):
    """The mean of every window of an image.

    Arguments as in `MaxPool2d`, except that the padding is zeros, which the mean counts unless
    `count_padding` is False.

    >>> AvgPool2d(2)
    AvgPool2d  2 x 2
    """

    kernel: Pair
    stride: Pair
    padding: Padding
    count_padding: bool

    def __init__(
        self,
        kernel: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: Padding = "valid",
        count_padding: bool = True,
    ) -> None:
        self.kernel, self.stride = _window("AvgPool2d", kernel, stride, padding)
        self.padding = settled(padding)
        self.count_padding = bool(count_padding)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        return avg_pool(
            x,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            count_padding=self.count_padding,
        )

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return _summary(self) + ("" if self.count_padding else ", padding not counted")


class GlobalAvgPool(Module):
    """The mean of each channel: (n, channels, height, width) -> (n, channels).

    Lin, Chen & Yan 2014, section 3.2.
    """

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        return global_avg_pool(x)


class Flatten(Module):
    """All axes but the first as one: (n, channels, height, width) -> (n, channels height width).

    Channel by channel, row by row. Raises ValueError for an x without a first axis.
    """

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        shape = shape_of(x)
        if not shape:
            raise ValueError("Flatten: x must have shape (n, ...); got ().")
        return np.reshape(x, (shape[0], math.prod(shape[1:])))


def _window(name: str, kernel: Any, stride: Any, padding: Any) -> tuple[Pair, Pair]:
    size = pair(name, "kernel", kernel, 1)
    steps = size if stride is None else pair(name, "stride", stride, 1)
    around = paddings(name, padding, size, size, steps, (1, 1))
    if any(max(p) >= k for p, k in zip(around, size)) and padding != "same":
        raise ValueError(
            f"{name}: padding {padding} must be less than the window {size[0]} x {size[1]}."
        )
    return size, steps


def _summary(layer: MaxPool2d | AvgPool2d) -> str:
    height, width = layer.kernel
    more = extras(stride=(layer.stride, layer.kernel), padding=(layer.padding, "valid"))
    return ", ".join([f"{height} x {width}", *more])
