"""The expressions that are differentiated, written once for every library.

`np` is whatever module has the functions' names: NumPy, jax.numpy, autograd's or torch.
"""

from __future__ import annotations

from typing import Any

import numpy

N = 10_000_000
N_CHECKED = 4  # elements of the gradient that are compared


def of_arrays(np: Any, x: Any) -> Any:
    """Ten operations on every element, two of them functions, and a sum."""
    return (np.tanh(0.5 * x + 1.0) * x + np.exp(-0.25 * x * x) - 0.1 * x).sum()


def numbers() -> numpy.ndarray:
    """What it is computed of, float32."""
    return numpy.random.default_rng(0).standard_normal(N, dtype=numpy.float32)


POINT, ROUNDS = 0.2, 250


def of_scalar(np: Any, x: Any) -> Any:
    """1,000 operations on numbers, four in each round; the value stays below 1."""
    y = x
    for _ in range(ROUNDS):
        y = 0.9 * np.sin(y) + x * y
    return y
