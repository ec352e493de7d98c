"""Convolutions of images, in the layout (n, channels, height, width).

    conv2d(x, w)            y[n, o, p, q] = sum over c, i, j of x[n, c, p + i, q + j] w[o, c, i, j]
    conv_transpose2d(x, w)  the transpose of that map: from the shape of y to that of x

What is called convolution here is, as in all of the field, a correlation: w is not turned round.

Three operations carry it, each linear in two arguments, and each the derivative of the other two:
`convolve` makes y of x and w, `convolve_back` x of y and w, `correlate` w of x and y.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.core.op import Op, bilinear
from fallline.core.spec import Spec, shape_of
from fallline.core.trace import operand

Pair = tuple[int, int]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Geometry:
    """How the kernel moves over the image.

    stride    steps between outputs, down and to the right
    padding   zeros around the image: ((above, below), (left, right))
    dilation  steps between the kernel's elements
    groups    the channels fall into so many groups that do not see each other
    """

    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def output(self, size: Pair, kernel: Pair) -> Pair:
        """The size of y, for an image and a kernel of these sizes; below 1 where none fits."""
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation)]
        room = [n + sum(p) - r for n, p, r in zip(size, self.padding, reach)]
        down, right = ((m // s) + 1 if m >= 0 else 0 for m, s in zip(room, self.stride))
        return down, right


# The three operations ----------------------------------------------------------------------------


def _convolve(x: Array, w: Array, *, geometry: Geometry) -> Array:
    n, _, *size = x.shape
    o, c, *kernel = w.shape
    p, q = geometry.output((size[0], size[1]), (kernel[0], kernel[1]))
    g = geometry.groups
    y = np.zeros((n, g, o // g, p * q), np.result_type(x, w))
    for i, j, part in _parts(_padded(x, geometry), (kernel[0], kernel[1]), (p, q), geometry):
        tap = w[:, :, i, j].reshape(g, o // g, c)
        y += tap @ part.reshape(n, g, c, p * q)
    return y.reshape(n, o, p, q)


def _convolve_back(y: Array, w: Array, *, size: Pair, geometry: Geometry) -> Array:
    n, o, p, q = y.shape
    _, c, *kernel = w.shape
    g = geometry.groups
    (above, below), (left, right) = geometry.padding
    shape = (n, c * g, size[0] + above + below, size[1] + left + right)
    x = np.zeros(shape, np.result_type(y, w))
    rows = y.reshape(n, g, o // g, p * q)
    for i, j, part in _parts(x, (kernel[0], kernel[1]), (p, q), geometry):
        tap = w[:, :, i, j].reshape(g, o // g, c)
        part += (tap.mT @ rows).reshape(part.shape)
    return x[:, :, above : above + size[0], left : left + size[1]]


def _correlate(x: Array, y: Array, *, kernel: Pair, geometry: Geometry) -> Array:
    n, o, p, q = y.shape
    g = geometry.groups
    c = x.shape[1] // g
    w = np.zeros((g, o // g, c, *kernel), np.result_type(x, y))
    rows = y.reshape(n, g, o // g, p * q)
    for i, j, part in _parts(_padded(x, geometry), kernel, (p, q), geometry):
        w[..., i, j] = np.sum(rows @ part.reshape(n, g, c, p * q).mT, axis=0)
    return w.reshape(o, c, *kernel)


def _padded(x: Array, geometry: Geometry) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *geometry.padding)) if any(map(any, geometry.padding)) else x


def _parts(
    x: Array, kernel: Pair, output: Pair, geometry: Geometry
) -> Iterator[tuple[int, int, Array]]:
    """For each element (i, j) of the kernel, the part of the padded image that it meets."""
    (s, t), (d, e), (p, q) = geometry.stride, geometry.dilation, output
    for i, j in np.ndindex(*kernel):
        down = slice(i * d, i * d + s * (p - 1) + 1, s)
        right = slice(j * e, j * e + t * (q - 1) + 1, t)
        yield i, j, x[:, :, down, right] if p and q else x[:, :, :0, :0]


def _convolve_spec(x: Spec, w: Spec, *, geometry: Geometry) -> Spec:
    p, q = geometry.output(x.shape[2:], w.shape[2:])  # type: ignore[arg-type]
    return Spec((x.shape[0], w.shape[0], p, q), np.result_type(x.dtype, w.dtype))


def _back_spec(y: Spec, w: Spec, *, size: Pair, geometry: Geometry) -> Spec:
    shape = (y.shape[0], w.shape[1] * geometry.groups, *size)
    return Spec(shape, np.result_type(y.dtype, w.dtype))


def _correlate_spec(x: Spec, y: Spec, *, kernel: Pair, geometry: Geometry) -> Spec:
    shape = (y.shape[1], x.shape[1] // geometry.groups, *kernel)
    return Spec(shape, np.result_type(x.dtype, y.dtype))


convolve: Op = bilinear(
    _convolve,
    lambda g, x, w, *, geometry: convolve_back(g, w, size=shape_of(x)[2:], geometry=geometry),
    lambda g, x, w, *, geometry: correlate(x, g, kernel=shape_of(w)[2:], geometry=geometry),
    spec=_convolve_spec,
    name="convolve",
    kind="convolve",
)
convolve_back: Op = bilinear(
    _convolve_back,
    lambda g, y, w, *, size, geometry: convolve(g, w, geometry=geometry),
    lambda g, y, w, *, size, geometry: correlate(g, y, kernel=shape_of(w)[2:], geometry=geometry),
    spec=_back_spec,
    name="convolve_back",
    kind="convolve_back",
)
correlate: Op = bilinear(
    _correlate,
    lambda g, x, y, *, kernel, geometry: convolve_back(
        y, g, size=shape_of(x)[2:], geometry=geometry
    ),
    lambda g, x, y, *, kernel, geometry: convolve(x, g, geometry=geometry),
    spec=_correlate_spec,
    name="correlate",
    kind="correlate",
)


# As users call them ------------------------------------------------------------------------------


def conv2d(
    x: Any,
    w: Any,
    *,
    stride: int | Pair = 1,
    padding: str | int | tuple[Any, Any] = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    """Convolution of images with a bank of kernels (LeCun et al. 1998).

        y[n, o, p, q] = sum over c, i, j of x[n, c, p s + i d - a, q s + j d - l] w[o, c, i, j]

    with stride s, dilation d, and x = 0 outside of the image, which is padded by a rows above and l
    columns to the left.

    x  (n, channels, height, width);  w  (out channels, channels / groups, height, width)
    padding  "valid": none; "same": so that y has ceil(size / stride) rows and columns, where the
    number of zeros is odd the one more below and to the right; a number, for all sides; a pair,
    (rows above and below, columns left and right), each a number or a pair of its own.
    groups  channels of x fall into so many groups, those of y as well, and each sees its own; as
    many as channels: depthwise.

    Weights are to be finite: an infinite one that meets the zeros around the image may make nan of
    them or be left out there. Raises ValueError where shapes do not fit, with the sizes.
    """
    x, w = operand(x), operand(w)
    geometry = _geometry("conv2d", shape_of(x), shape_of(w), stride, padding, dilation, groups)
    _check(shape_of(x), shape_of(w), geometry)
    return convolve(x, w, geometry=geometry)


def conv_transpose2d(
    x: Any,
    w: Any,
    *,
    stride: int | Pair = 1,
    padding: int | tuple[Any, Any] = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    """The transpose of `conv2d`: what its gradient by the image does, as a layer of its own.

    x  (n, channels, height, width);  w  (channels, out channels / groups, height, width): the
    kernels with which conv2d would go from the result's channels to those of x. A side of the
    result has (size - 1) stride + (kernel - 1) dilation + 1 + output_padding - padding elements,
    output_padding below the stride: which of the sizes that conv2d maps to the same.
    """
    x, w = operand(x), operand(w)
    name = "conv_transpose2d"
    _four(name, shape_of(x), shape_of(w))
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be numbers; got {padding!r}.")
    n, c, *given = shape_of(x)
    kernel = shape_of(w)[2:]
    geometry = _geometry(name, shape_of(x), shape_of(w), stride, padding, dilation, groups)
    extra = pair(name, "output_padding", output_padding, 0)
    if any(e >= s for e, s in zip(extra, geometry.stride)):
        raise ValueError(
            f"{name}: output_padding must be below the stride {geometry.stride}; got {extra}."
        )
    if shape_of(w)[0] != c or c % geometry.groups:
        raise ValueError(
            f"{name}: w must have shape ({c}, out / groups, height, width) for an x of shape "
            f"{shape_of(x)} and {geometry.groups} group(s); got {shape_of(w)}."
        )
    sides = zip(given, kernel, geometry.stride, geometry.dilation, geometry.padding, extra)
    size = [(m - 1) * s + (k - 1) * d + 1 + e - sum(p) for m, k, s, d, p, e in sides]
    if min(size) < 1 or not n * c * min(given):
        raise ValueError(f"{name}: nothing is left of an x of shape {shape_of(x)}: {tuple(size)}.")
    return convolve_back(x, w, size=(size[0], size[1]), geometry=geometry)


# What was asked for ------------------------------------------------------------------------------


def _geometry(
    name: str, x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Geometry:
    _four(name, x, w)
    if not isinstance(groups, (int, np.integer)) or groups < 1:
        raise ValueError(f"{name}: groups must be a whole number >= 1; got {groups!r}.")
    s, d = pair(name, "stride", stride, 1), pair(name, "dilation", dilation, 1)
    return Geometry(s, paddings(name, padding, x[2:], w[2:], s, d), d, int(groups))


def _four(name: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    if len(x) != 4:
        hints = {3: " Did you mean x[None], or x[:, None]?", 2: " Did you mean x[None, None]?"}
        hint = hints.get(len(x), "")
        raise ValueError(f"{name}: x must have shape (n, channels, height, width); got {x}.{hint}")
    if len(w) != 4:
        raise ValueError(f"{name}: w must have four axes, its last two height and width; got {w}.")


def pair(name: str, what: str, value: Any, least: int) -> Pair:
    """A number for both directions, or one for each."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in pair)
    if len(pair) != 2 or not whole or min(pair) < least:
        raise ValueError(
            f"{name}: {what} must be a whole number >= {least}, or a pair of them; got {value!r}."
        )
    return int(pair[0]), int(pair[1])


def paddings(
    name: str, padding: Any, size: Any, kernel: Any, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """((above, below), (left, right))."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        found = []
        for n, k, s, d in zip(size, kernel, stride, dilation):
            missing = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            found.append((missing // 2, missing - missing // 2))
        return found[0], found[1]
    if isinstance(padding, str):
        raise ValueError(
            f"{name}: padding must be 'valid', 'same', a number or a pair; got {padding!r}."
        )
    sides = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    if len(sides) != 2:
        raise ValueError(
            f"{name}: padding must be (rows above and below, columns left and right); "
            f"got {padding!r}."
        )
    down, right = (pair(name, "padding", side, 0) for side in sides)
    return down, right


def _check(x: tuple[int, ...], w: tuple[int, ...], geometry: Geometry) -> None:
    g = geometry.groups
    if x[1] != w[1] * g or w[0] % g:
        hint = " Did you mean np.moveaxis(x, -1, 1)?" if x[3] == w[1] * g else ""
        raise ValueError(
            f"conv2d: w of shape {w} with {g} group(s) takes {w[1] * g} channels and gives a "
            f"multiple of {g}; got x of shape {x}.{hint}"
        )
    if min(geometry.output(x[2:], w[2:])) < 1:  # type: ignore[arg-type]
        raise ValueError(
            f"conv2d: a kernel of {w[2]} x {w[3]}, dilation {geometry.dilation}, does not fit an "
            f"image of {x[2]} x {x[3]} with padding {geometry.padding}."
        )
