"""Inputs brought to a common scale, by numbers taken from the training examples alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.data.dataset import Dataset

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> (x - shift) / scale, in the dtype of x where that is a float, else in float32."""

    shift: Array
    scale: Array

    def __call__(self, X: Array) -> Array:
        dtype = X.dtype if X.dtype.kind == "f" else np.dtype(np.float32)
        return (X - self.shift.astype(dtype)) / self.scale.astype(dtype)

    def inverse(self, Z: Array) -> Array:
        return Z * self.scale.astype(Z.dtype) + self.shift.astype(Z.dtype)


def standardiser(X: Array, *, axis: int | tuple[int, ...] = 0) -> Affine:
    """The map to mean 0 and standard deviation 1 over `axis`; a constant feature becomes 0.

    Mean and deviation (divided by n) are computed in float64.

    >>> standardiser(np.array([[1.0, 7.0], [3.0, 7.0]]))(np.array([[5.0, 7.0]]))
    array([[3., 0.]])
    """
    shift = X.mean(axis=axis, dtype=np.float64, keepdims=True)
    scale = X.std(axis=axis, dtype=np.float64, mean=shift, keepdims=True)
    # Rounding leaves a constant feature with a deviation of about eps |mean|: noise, not a scale.
    constant = scale <= 1e-12 * np.abs(shift)
    return Affine(shift, np.where(constant, 1.0, scale))


def minmax(X: Array, *, axis: int | tuple[int, ...] = 0) -> Affine:
    """The map to [0, 1] over `axis`; a constant feature becomes 0.

    >>> minmax(np.array([[1.0], [5.0]]))(np.array([[2.0]]))
    array([[0.25]])
    """
    low = X.min(axis=axis, keepdims=True).astype(np.float64)
    span = X.max(axis=axis, keepdims=True).astype(np.float64) - low
    return Affine(low, np.where(span == 0, 1.0, span))


def standardise(data: Dataset) -> Dataset:
    """Every part standardised by the mean and deviation of the training examples."""
    return data.map_X(standardiser(data.train.X))
