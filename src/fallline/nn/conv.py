"""Convolutions of images and their transposes, as layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fallline.core.spec import shape_of
from fallline.nn.initialisers import Initialiser, bias_of, initialiser, layer_key
from fallline.nn.module import Module
from fallline.ops import philox
from fallline.ops.conv import Pair, conv2d, conv_transpose2d, paddings, pair

Array = np.ndarray[Any, Any]
Padding = str | int | tuple[Any, Any]


class Conv2d(Module):
    """A convolution of images (LeCun et al. 1998): one small dense layer that visits every place.

        y[n, o, p, q] = b[o] + sum over c, i, j of x[n, c, p s + i d, q s + j d] W[o, c, i, j]

    x  (n, n_in, height, width), padded with zeros;  W  (n_out, n_in / groups, height, width) of the
    kernel;  b  (n_out,), or None with bias=False;  y  (n, n_out, p, q). `kernel`, `stride` s and
    `dilation` d are a number or a pair, down and to the right; `padding` is "valid" (none), "same"
    (ceil(size / stride) outputs), a number, or a pair, as in `ops.conv2d`. With `groups`, each of
    so many groups of channels sees its own group of inputs only; groups=n_in is depthwise.

    W is drawn by `init`, for which fan_in = (n_in / groups) height width; `bias` and `seed` as in
    `Linear`. Raises ValueError for groups that do not divide both numbers of channels, and for
    an x with another number of channels or smaller than the kernel.

    >>> Conv2d(3, 8, 5, stride=2, padding="same")
    Conv2d  3 -> 8, 5 x 5, stride 2, padding same  W (8, 3, 5, 5)  b (8), 608 parameters
    """

    W: Array
    b: Array | None
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    initialiser: Initialiser | Callable[..., Array]
    b_start: float = 0.0

    torch_names: ClassVar[Mapping[str, str]] = {"W": "weight", "b": "bias"}

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: Padding = "valid",
        dilation: int | Pair = 1,
        groups: int = 1,
        init: str | Initialiser | Callable[..., Array] = "he_uniform",
        bias: bool | float = True,
        seed: int | philox.Key | None = None,
        dtype: Any = np.float32,
    ) -> None:
        size = check_kernel("Conv2d", n_in, n_out, kernel, groups)
        self.stride = pair("Conv2d", "stride", stride, 1)
        self.dilation = pair("Conv2d", "dilation", dilation, 1)
        paddings("Conv2d", padding, size, size, self.stride, self.dilation)
        self.padding = settled(padding)
        self.groups = int(groups)
        self.initialiser = initialiser(init)
        self.W = np.empty((n_out, n_in // groups, *size), dtype)
        self.b, self.b_start = bias_of(n_out, bias, dtype)
        self.reset(layer_key(seed))

    @property
    def n_in(self) -> int:
        return shape_of(self.W)[1] * self.groups

    @property
    def n_out(self) -> int:
        return shape_of(self.W)[0]

    def reset(self, key: philox.Key) -> None:
        """W as initialisers count: a place, what it takes, what it gives."""
        o, c, *kernel = self.W.shape
        drawn = self.initialiser(philox.fold_in(key, "W"), (*kernel, c, o), self.W.dtype)
        self.W = np.transpose(drawn, (3, 2, 0, 1))
        if self.b is not None:
            self.b = np.full_like(self.b, self.b_start)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        check_channels("Conv2d", x, self.n_in)
        y = conv2d(
            x,
            self.W,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.b is None else y + np.reshape(self.b, (-1, 1, 1))

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return _summary(self)


class ConvTranspose2d(Module):
    """The transpose of a convolution, from small images to larger ones, as a layer.

        y = b + conv_transpose2d(x, W): what the gradient of `Conv2d` by its input does

    x  (n, n_in, height, width);  W  (n_in, n_out / groups, height, width) of the kernel;  b
    (n_out,), or None with bias=False. A side of y has (size - 1) stride + (kernel - 1) dilation + 1
    + output_padding - padding elements, with the padding of both ends, as numbers only. Settings
    and errors as in `Conv2d`; fan_in counts (n_in / groups) height width, as without a stride.
    Dumoulin & Visin 2016, ch. 4.
    """

    W: Array
    b: Array | None
    stride: Pair
    padding: Padding
    output_padding: Pair
    dilation: Pair
    groups: int
    initialiser: Initialiser | Callable[..., Array]
    b_start: float = 0.0

    torch_names: ClassVar[Mapping[str, str]] = {"W": "weight", "b": "bias"}

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | tuple[Any, Any] = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        init: str | Initialiser | Callable[..., Array] = "he_uniform",
        bias: bool | float = True,
        seed: int | philox.Key | None = None,
        dtype: Any = np.float32,
    ) -> None:
        name = "ConvTranspose2d"
        size = check_kernel(name, n_in, n_out, kernel, groups)
        self.stride = pair(name, "stride", stride, 1)
        self.dilation = pair(name, "dilation", dilation, 1)
        self.output_padding = pair(name, "output_padding", output_padding, 0)
        if isinstance(padding, str):
            raise ValueError(f"{name}: padding must be numbers; got {padding!r}.")
        if any(e >= s for e, s in zip(self.output_padding, self.stride)):
            raise ValueError(
                f"{name}: output_padding must be below the stride {self.stride}; "
                f"got {self.output_padding}."
            )
        paddings(name, padding, size, size, self.stride, self.dilation)
        self.padding = settled(padding)
        self.groups = int(groups)
        self.initialiser = initialiser(init)
        self.W = np.empty((n_in, n_out // groups, *size), dtype)
        self.b, self.b_start = bias_of(n_out, bias, dtype)
        self.reset(layer_key(seed))

    @property
    def n_in(self) -> int:
        return shape_of(self.W)[0]

    @property
    def n_out(self) -> int:
        return shape_of(self.W)[1] * self.groups

    def reset(self, key: philox.Key) -> None:
        """W as initialisers count: a place, what it takes of its group, what all groups give."""
        c, o, *kernel = self.W.shape
        g = self.groups
        shape = (*kernel, c // g, o * g)
        drawn = self.initialiser(philox.fold_in(key, "W"), shape, self.W.dtype)
        apart = drawn.reshape(*kernel, c // g, g, o)
        self.W = np.transpose(apart, (3, 2, 4, 0, 1)).reshape(self.W.shape)
        if self.b is not None:
            self.b = np.full_like(self.b, self.b_start)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        check_channels("ConvTranspose2d", x, self.n_in)
        y = conv_transpose2d(
            x,
            self.W,
            stride=self.stride,
            padding=self.padding,  # type: ignore[arg-type]  # no text: see __init__
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.b is None else y + np.reshape(self.b, (-1, 1, 1))

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return _summary(self)


# What both check ---------------------------------------------------------------------------------


def check_kernel(name: str, n_in: Any, n_out: Any, kernel: Any, groups: Any) -> Pair:
    """The size of the kernel, for numbers of channels that fit the groups."""
    for what, n in (("n_in", n_in), ("n_out", n_out), ("groups", groups)):
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
            raise ValueError(f"{name}: {what} must be a positive integer; got {n!r}.")
    if n_in % groups or n_out % groups:
        raise ValueError(
            f"{name}: groups must divide n_in and n_out; got groups={groups} for {n_in} -> {n_out}."
        )
    return pair(name, "kernel", kernel, 1)


def check_channels(name: str, x: Any, channels: int) -> None:
    """Raise ValueError unless x is images of so many channels."""
    shape = shape_of(x)
    if len(shape) == 4 and shape[1] == channels:
        return
    hint = ""
    if len(shape) == 4 and shape[3] == channels:
        hint = " Did you mean np.moveaxis(x, -1, 1)?"
    elif len(shape) == 3 and channels == 1:
        hint = " Did you mean x[:, None]?"
    elif len(shape) == 3 and shape[0] == channels:
        hint = " Did you mean x[None]?"
    raise ValueError(
        f"{name}: x must have shape (n, {channels}, height, width); got {shape}.{hint}"
    )


def settled(padding: Any) -> Padding:
    """Padding as a setting: what came as lists can be compared."""
    if isinstance(padding, (tuple, list)):
        return tuple(settled(side) for side in padding)  # type: ignore[return-value]
    return padding if isinstance(padding, str) else int(padding)


def shown(value: Any) -> str:
    """A pair as in "3 x 5", or one number for two equal ones."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return str(value)


def extras(**settings: tuple[Any, Any]) -> list[str]:
    """Settings that are not the usual ones; each is given with that."""
    return [f"{n} {shown(v)}" for n, (v, usual) in settings.items() if v != usual]


def _summary(layer: Conv2d | ConvTranspose2d) -> str:
    height, width = shape_of(layer.W)[2:]
    more = extras(
        stride=(layer.stride, (1, 1)),
        padding=(layer.padding or "valid", "valid"),
        dilation=(layer.dilation, (1, 1)),
        groups=(layer.groups, 1),
    )
    return ", ".join([f"{layer.n_in} -> {layer.n_out}", f"{height} x {width}", *more])
