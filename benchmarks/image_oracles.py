"""What networks of images should compute, in float64 NumPy, each layer's derivative by hand.

A layer takes x and gives y and a function back: dy -> dx, which enters the gradients of its own
arrays in `grads`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .images import (
    CHECK_STEPS,
    MOMENTUM,
    NORM_EPS,
    Block,
    Conv,
    Dense,
    Flat,
    ImageProblem,
    Layer,
    Layers,
    Mean,
    Norm,
    Pool,
    Relu,
)
from .problem import B1, B2, EPS

Array = np.ndarray
Arrays = dict[str, Array]
Back = Callable[[Array], Array]


def losses(problem: ImageProblem) -> list[float]:
    """Losses of the first steps on one batch, each before its update."""
    X, y = problem.data(batches=1)
    params = _float64(problem)
    slots = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
    found = []
    for t in range(1, CHECK_STEPS + 1):
        grads: Arrays = {}
        z, back = _network(problem.layers, params, grads, X.astype(np.float64))
        log_p = _log_softmax(z)
        rows = np.arange(len(y))
        found.append(float(-log_p[rows, y].mean()))
        dz = np.exp(log_p)
        dz[rows, y] -= 1
        back(dz / len(y))
        for name, g in grads.items():
            _update(problem, params[name], g, *slots[name], t)
    return found


def probabilities(problem: ImageProblem) -> list[float]:
    """Of the first image's classes; of a network without running statistics."""
    z, _ = _network(problem.layers, _float64(problem), {}, problem.rows(1).astype(np.float64))
    return np.exp(_log_softmax(z))[0].tolist()


def convolution(x: Array, w: Array, dy: Array, padding: int) -> tuple[Array, Array, Array]:
    """y, and the gradients of x and w for that of y."""
    grads: Arrays = {}
    layer = Conv("conv", len(w), w.shape[-1], padding=padding, bias=False)
    y, back = _conv(layer, {"conv.weight": w}, grads, x)
    return y, back(dy), grads["conv.weight"]


def _float64(problem: ImageProblem) -> Arrays:
    return {name: w.astype(np.float64) for name, w in problem.weights().items()}


def _update(problem: ImageProblem, p: Array, g: Array, m: Array, v: Array, t: int) -> None:
    if problem.optimizer == "momentum":
        m *= MOMENTUM
        m += g
        p -= problem.lr * m
        return
    m += (1 - B1) * (g - m)
    v += (1 - B2) * (g * g - v)
    p -= problem.lr * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# Layers -------------------------------------------------------------------------------------------


def _network(layers: Layers, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    backs: list[Back] = []
    for layer in layers:
        x, back = _layer(layer, params, grads, x)
        backs.append(back)

    def all_back(d: Array) -> Array:
        for back in reversed(backs):
            d = back(d)
        return d

    return x, all_back


def _layer(layer: Layer, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    match layer:
        case Conv():
            return _conv(layer, params, grads, x)
        case Norm():
            return _norm(layer, params, grads, x)
        case Pool():
            return _pool(layer, x)
        case Dense():
            return _dense(layer, params, grads, x)
        case Block():
            return _block(layer, params, grads, x)
        case Relu():
            return np.maximum(x, 0), lambda d: d * (x > 0)
        case Flat():
            return x.reshape(len(x), -1), lambda d: d.reshape(x.shape)
        case Mean():
            n = x.shape[2] * x.shape[3]
            return x.mean((2, 3)), lambda d: np.broadcast_to(d[:, :, None, None] / n, x.shape)
    raise TypeError(layer)


def _conv(layer: Conv, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    """A sum over the kernel's elements, each a product of matrices."""
    w, k, s, p = params[f"{layer.name}.weight"], layer.kernel, layer.stride, layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    down, right = ((n - k) // s + 1 for n in padded.shape[2:])
    taps = [
        (i, j, (..., slice(i, i + s * (down - 1) + 1, s), slice(j, j + s * (right - 1) + 1, s)))
        for i in range(k)
        for j in range(k)
    ]
    y = sum(
        np.einsum("oc,nchw->nohw", w[:, :, i, j], padded[at], optimize=True) for i, j, at in taps
    )
    if layer.bias:
        y = y + params[f"{layer.name}.bias"][:, None, None]

    def back(d: Array) -> Array:
        dw, dx = np.empty_like(w), np.zeros_like(padded)
        for i, j, at in taps:
            dw[:, :, i, j] = _taken("nohw,nchw->oc", d, padded[at])
            dx[at] += _taken("oc,nohw->nchw", w[:, :, i, j], d)
        grads[f"{layer.name}.weight"] = dw
        if layer.bias:
            grads[f"{layer.name}.bias"] = d.sum((0, 2, 3))
        return dx[:, :, p : p + x.shape[2], p : p + x.shape[3]]

    return y, back


def _taken(formula: str, *arrays: Array) -> Array:
    return np.einsum(formula, *arrays, optimize=True)


def _norm(layer: Norm, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    """y = w z + b with z = (x - mean) / root; dx = (w d - mean(w d) - z mean(w d z)) / root."""
    over = (0, 2, 3)
    w, b = (params[f"{layer.name}.{field}"][:, None, None] for field in ("weight", "bias"))
    root = np.sqrt(x.var(over, keepdims=True) + NORM_EPS)
    z = (x - x.mean(over, keepdims=True)) / root

    def back(d: Array) -> Array:
        grads[f"{layer.name}.weight"] = (d * z).sum(over)
        grads[f"{layer.name}.bias"] = d.sum(over)
        means = (w * d).mean(over, keepdims=True), (w * d * z).mean(over, keepdims=True)
        return (w * d - means[0] - z * means[1]) / root

    return w * z + b, back


def _pool(layer: Pool, x: Array) -> tuple[Array, Back]:
    """The first of the largest gets the derivative."""
    k, s = layer
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s]
    windows = windows.reshape(*windows.shape[:4], k * k)
    which = windows.argmax(-1)

    def back(d: Array) -> Array:
        dx = np.zeros_like(x)
        n, c, i, j = np.indices(which.shape)
        np.add.at(dx, (n, c, i * s + which // k, j * s + which % k), d)
        return dx

    return windows.max(-1), back


def _dense(layer: Dense, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    w, b = params[f"{layer.name}.weight"], params[f"{layer.name}.bias"]

    def back(d: Array) -> Array:
        grads[f"{layer.name}.weight"], grads[f"{layer.name}.bias"] = d.T @ x, d.sum(0)
        return d @ w

    return x @ w.T + b, back


def _block(layer: Block, params: Arrays, grads: Arrays, x: Array) -> tuple[Array, Back]:
    s, (before, behind) = layer.stride, layer.zeros
    shortcut = np.pad(x[:, :, ::s, ::s], ((0, 0), (before, behind), (0, 0), (0, 0)))
    y, body_back = _network(layer.body, params, grads, x)
    total = y + shortcut

    def back(d: Array) -> Array:
        d = d * (total > 0)
        dx = body_back(d)
        dx[:, :, ::s, ::s] += d[:, before : d.shape[1] - behind]
        return dx

    return np.maximum(total, 0), back
