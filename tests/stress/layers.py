"""Dense layers with everything around them: what is fused into the jobs of matrix products.

h = act(norm(h @ W + b)) * mask (+ h),  and the gradients, and an optimizer's rule on them
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tests.stress.common import Array, Generator, bits

import fallline as fl
from fallline import ops
from fallline.ops import random

ROWS = [1, 2, 5, 16, 31, 33, 64, 100, 129, 200]
WIDTHS = [1, 2, 3, 10, 16, 17, 33, 64, 65, 100, 130, 200]
SMOOTH: list[Callable[..., Any]] = [np.tanh, ops.sigmoid, ops.softplus, ops.gelu, ops.silu, np.sin]
KINKED: list[Callable[..., Any]] = [ops.relu, ops.leaky_relu, np.abs]
PLAIN = lambda z: z


class Layer(NamedTuple):
    """transposed: W is stored so. kept: what else the program returns."""

    activation: Callable[..., Any]
    bias: bool
    transposed: bool
    normalised: str  # "", "rows" or "columns"
    rate: float  # of dropout
    residual: bool
    kept: str  # "", "z", "sum" or "maximum"


def draw_layer(rng: Generator, smooth: bool) -> Layer:
    known = [PLAIN, *SMOOTH, *([] if smooth else KINKED)]
    return Layer(
        activation=known[rng.integers(len(known))],
        bias=bool(rng.random() < 0.8),
        transposed=bool(rng.random() < 0.2),
        normalised=str(rng.choice(["", "", "", "rows", "columns"])),
        rate=float(rng.choice([0, 0, 0.5])),
        residual=bool(rng.random() < 0.3),
        kept=str(rng.choice(["", "", "z", "sum", "maximum"])),
    )


def forward(layers: list[Layer], x: Any, key: Any, params: tuple[Any, ...]) -> list[Any]:
    """The last layer's output, and what is kept."""
    h, kept, rest = x, [], list(params)
    for site, layer in enumerate(layers):
        w = rest.pop(0)
        z = h @ (w.T if layer.transposed else w)
        if layer.bias:
            z = z + rest.pop(0)
        if layer.normalised:
            axis = 1 if layer.normalised == "rows" else 0
            centred = z - np.mean(z, axis=axis, keepdims=True)
            z = centred / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + 0.1)
        y = layer.activation(z)
        if layer.rate:
            y = y * random.dropout_mask(key, layer.rate, np.shape(y), y.dtype, site=site)
        if layer.residual and np.shape(y) == np.shape(h):
            y = y + h
        kept += {"z": [z], "sum": [np.sum(y, axis=0)], "maximum": [np.max(z, axis=0)]}.get(
            layer.kept, []
        )
        h = y
    return [h, *kept]


def loss(layers: list[Layer], x: Any, key: Any, labels: Array, params: tuple[Any, ...]) -> Any:
    h, *kept = forward(layers, x, key, params)
    total = np.mean(h * h)
    if np.shape(h)[1] > 1:
        total = total + np.mean(ops.loss.cross_entropy(h, labels))
    return total + sum(np.mean(np.sin(y)) for y in kept)


def step(layers: list[Layer], x: Any, key: Any, labels: Array, params: tuple[Any, ...]) -> Any:
    """The loss, the gradients, and the parameters after a rule with a root and a quotient."""
    value, grads = fl.value_and_grad(
        lambda *p: loss(layers, x, key, labels, p), tuple(range(len(params)))
    )(*params)
    return value, grads, [p - 0.1 * g / (np.sqrt(g * g) + 0.01) for p, g in zip(params, grads)]


def draw_params(rng: Generator, layers: list[Layer], width: int, dtype: str) -> list[Array]:
    found: list[Array] = []
    for layer in layers:
        n = width if layer.residual else int(rng.choice(WIDTHS))
        w = rng.standard_normal((width, n)) / np.sqrt(width)
        found.append(np.ascontiguousarray(w.T if layer.transposed else w).astype(dtype))
        if layer.bias:
            found.append(rng.standard_normal(n).astype(dtype))
        width = n
    return found


def dense_layers(rng: Generator, seed: int) -> None:
    """Forward, or forward and back with a rule; against NumPy, and on several threads."""
    dtype = str(rng.choice(["float32", "float64"]))
    layers = [draw_layer(rng, dtype == "float32") for _ in range(rng.integers(1, 4))]
    m, width = int(rng.choice(ROWS)), int(rng.choice(WIDTHS))
    x = rng.standard_normal((m, width)).astype(dtype)
    params = draw_params(rng, layers, width, dtype)
    classes = forward(layers, x, random.key(0), tuple(params))[0].shape[1]
    labels, key = rng.integers(0, classes, m), random.key(seed)
    if rng.random() < 0.4:
        f = lambda x, key, *p: forward(layers, x, key, p)
    else:
        f = lambda x, key, *p: step(layers, x, key, labels, p)
    said = f"{dtype} {x.shape} {[p.shape for p in params]} {layers}"
    compiled, found = fl.compile(f), []
    for count in (1, int(rng.integers(2, 5)), 1):
        fl.set_threads(count)
        found.append(compiled(x, key, *params))
        assert bits(found[0]) == bits(found[-1]), f"{count} threads, {said}"
    tolerance = 1e-8 if dtype == "float64" else 1e-3
    for y, e in zip(fl.core.tree.leaves(found[0]), fl.core.tree.leaves(f(x, key, *params))):
        assert np.shape(y) == np.shape(e), said
        largest = max(1.0, float(np.max(np.abs(e), initial=0)))
        assert np.max(np.abs(y - e), initial=0) <= tolerance * largest, said
