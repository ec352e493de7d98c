"""Means, deviations and covariances in float64, a few rows at a time: no copy of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_CHUNK_BYTES = 16 << 20  # of a chunk in float64
_MOST_BYTES = 1 << 23  # values of one byte whose squares, times their number, fit into an int64


def chunks(X: Array) -> Iterator[slice]:
    """Runs of rows of X that have about 16 MB in float64."""
    step = max(1, _CHUNK_BYTES // (8 * max(1, X[:1].size)))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def moments(X: Array, *, axis: int | tuple[int, ...] = 0) -> tuple[Array, Array]:
    """Mean and standard deviation of X (n, ...) over `axis`, which includes 0, in float64.

        std^2 = (1/n) sum_i (x_i - mean)^2

    The results keep the axes that are averaged, with length 1. Of bytes, which are counted, both
    are exact to rounding; of other numbers chunk after chunk is joined by the formula of Chan,
    Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
    variances, eq. 2.1. Memory for one chunk is all that is needed.

    >>> moments(np.array([[1, 7], [3, 7]], np.uint8))
    (array([[2., 7.]]), array([[1., 0.]]))
    """
    axes = _axes(X, axis)
    total = 0
    mean: Any = 0.0
    squares: Any = 0.0  # sum (x - mean)^2
    for part in chunks(X):
        whole = X.dtype == np.uint8 and _count(X[part], axes) <= _MOST_BYTES
        n, m, s = (_bytes if whole else _floats)(X[part], axes)
        away = m - mean
        squares = squares + s + away * away * (total * n / (total + n))
        mean = mean + away * (n / (total + n))
        total += n
    return mean, np.sqrt(squares / total)


def _axes(X: Array, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(sorted({a % X.ndim for a in axes}))
    if 0 not in axes or not X.size:
        raise ValueError(
            f"moments: axis must include 0, the examples, of which there must be one; "
            f"got axis {axis} for shape {X.shape}."
        )
    return axes


def _count(X: Array, axes: tuple[int, ...]) -> int:
    return int(np.prod([X.shape[a] for a in axes]))


def _bytes(X: Array, axes: tuple[int, ...]) -> tuple[int, Any, Any]:
    """The same from whole sums, which are exact: n sum x^2 - (sum x)^2 is a whole number."""
    n = _count(X, axes)
    first = X.sum(axis=axes, dtype=np.uint32, keepdims=True).astype(np.int64)
    second = np.square(X, dtype=np.uint16).sum(axis=axes, dtype=np.uint64, keepdims=True)
    return n, first / n, (n * second.astype(np.int64) - first * first) / n


def _floats(X: Array, axes: tuple[int, ...]) -> tuple[int, Any, Any]:
    wide = X.astype(np.float64)
    mean = wide.mean(axis=axes, keepdims=True)
    wide -= mean
    return _count(X, axes), mean, np.square(wide, out=wide).sum(axis=axes, keepdims=True)


def covariance(X: Array, mean: Array) -> Array:
    """(1/n) sum_i (x_i - mean)(x_i - mean)^T of the rows of X (n, ...), flattened: (d, d)."""
    mean = mean.reshape(1, -1)
    total = np.zeros((mean.size, mean.size))
    for part in chunks(X):
        centred = X[part].reshape(-1, mean.size) - mean
        total += centred.T @ centred
    return total / len(X)
