"""Products, and operations that meet what was made of them at another place.

Loops run in the jobs of products, a block at a time. So programs are drawn in which a loop reads a
product together with something that is made of it, turned, moved, cut or summed up: what other
jobs may not have made yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.stress.common import Generator, bits

import fallline as fl
from fallline import ops
from fallline.core import tree

SIZES = [3, 16, 64, 65, 130, 200]
Two = Callable[[Any, Any], Any]

# Of two square matrices, each a square matrix. Values stay near 1.
MATRICES: list[Two] = [
    lambda x, y: x @ y,
    lambda x, y: x @ y.T,
    lambda x, y: np.tanh(x),
    lambda x, y: x * 0.5 + y,
    lambda x, y: np.tanh(x) * y,
    lambda x, y: x - y.T * 0.5,
    lambda x, y: x + y[::-1] * 0.5,
    lambda x, y: x + y[:, ::-1] * 0.5,
    lambda x, y: x + y[:1],
    lambda x, y: x + y[:, :1],
    lambda x, y: x - np.mean(y, axis=0),
    lambda x, y: x - np.mean(y, axis=0)[:, None],
    lambda x, y: x - np.mean(y, axis=1)[:, None],
    lambda x, y: x - np.mean(y, axis=1),
    lambda x, y: x + np.roll(y, 1, axis=0) * 0.5,
    lambda x, y: x + np.concatenate([y, x])[::2],
    lambda x, y: np.concatenate([x, y], axis=1)[:, ::2],
    lambda x, y: ops.softmax(x, axis=1) + y,
    lambda x, y: x + np.max(y),
]
# Of two images (n, c, h, h) and weights (c, c, 3, 3).
PICTURES: list[Callable[[Any, Any, Any], Any]] = [
    lambda x, y, w: ops.conv2d(x, w, padding=1),
    lambda x, y, w: ops.conv_transpose2d(x, w, padding=1),
    lambda x, y, w: ops.max_pool(x, 3, stride=1, padding=1),
    lambda x, y, w: ops.avg_pool(np.tanh(x), 3, stride=1, padding=1),
    lambda x, y, w: np.tanh(x) + y,
    lambda x, y, w: x + y[:, ::-1] * 0.5,
    lambda x, y, w: x + y[::-1] * 0.5,
    lambda x, y, w: x + np.swapaxes(y, 2, 3) * 0.5,
    lambda x, y, w: x + y[:, :, ::-1] * 0.5,
    lambda x, y, w: x + np.concatenate([y, x], axis=1)[:, ::2],
    lambda x, y, w: x - np.mean(y, axis=(0, 2, 3), keepdims=True),
    lambda x, y, w: x - np.mean(y, axis=1, keepdims=True),
    lambda x, y, w: x + y[:, :1],
    lambda x, y, w: x * ops.sigmoid(y),
]


def matrices_elsewhere(rng: Generator, seed: int) -> None:
    """Square matrices."""
    n = int(rng.choice(SIZES))
    args = [rng.standard_normal((n, n)) / np.sqrt(n) for _ in range(2)]
    _compare(rng, MATRICES, args, ())


def images_elsewhere(rng: Generator, seed: int) -> None:
    """Images, in lanes or not."""
    n, c, h = int(rng.choice([3, 4, 7, 16, 19])), int(rng.choice([3, 4, 16])), 6
    args = [rng.standard_normal((n, c, h, h)) for _ in range(2)]
    w = rng.standard_normal((c, c, 3, 3)) / np.sqrt(9 * c)
    _compare(rng, PICTURES, args, (w,))


def _compare(rng: Generator, known: list[Any], args: list[Any], more: tuple[Any, ...]) -> None:
    """A program of some of these, each on two values that were made before, mostly the last."""
    count = int(rng.integers(3, 11))
    steps = [
        (known[0 if rng.random() < 0.3 else rng.integers(len(known))], *rng.random(2))
        for _ in range(count)
    ]

    def program(a: Any, b: Any, *more: Any) -> Any:
        values = [a, b]
        for step, u, v in steps:
            pick = [values[-1 - int(t * t * len(values))] for t in (u, v)]
            values.append(step(*pick, *more))
        return values[-1], values[-2], values[2]

    if rng.random() < 0.2:
        forward = program

        def program(*xs: Any) -> Any:
            return fl.grad(lambda *xs: sum(np.sum(np.sin(y)) for y in forward(*xs)))(*xs)

    compiled, found = fl.compile(program), []
    inputs = [*args, *more]
    for threads in (1, 3, 2):
        fl.set_threads(threads)
        found.append(compiled(*inputs))
        assert bits(found[0]) == bits(found[-1]), f"{threads} threads"
    for y, e in zip(tree.leaves(found[0]), tree.leaves(program(*inputs)), strict=True):
        largest = max(1.0, float(np.max(np.abs(e), initial=0)))
        assert np.max(np.abs(y - e), initial=0) <= 1e-8 * largest, "values"
