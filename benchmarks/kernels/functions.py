"""Mathematics: nanoseconds an element on one thread, beside NumPy or, where it has none, SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fallline as fl

from .table import Table
from .timing import Bound, best, repeating

N = 4096  # elements: they stay in the nearest caches, so that only arithmetic is timed


def _scipy(name: str) -> Callable[[Any], Any]:
    import scipy.special

    return getattr(scipy.special, name)


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + _scipy("erf")(x * type(x.flat[0])(0.5**0.5)))


def _power(x: Any) -> Any:
    return np.power(x, 1 - x)


# ours, theirs, and whether arguments are positive
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], bool]] = {
    "exp": (np.exp, np.exp, False),
    "log": (np.log, np.log, True),
    "tanh": (np.tanh, np.tanh, False),
    "sigmoid": (fl.ops.activation.sigmoid, _scipy("expit"), False),
    "erf": (fl.ops.activation.erf, _scipy("erf"), False),
    "gelu": (fl.ops.activation.gelu, _gelu, False),
    "sin": (np.sin, np.sin, False),
    "pow(x, 1 - x)": (_power, _power, True),
}


def tables(rounds: int) -> list[Table]:
    table = Table(
        "Mathematics",
        f"ns an element, 1 thread, {N} elements. The peer is NumPy, and SciPy for sigmoid, erf and "
        "the erf of gelu.",
        ["function", "float32", "NumPy", "ours / NumPy", "float64", "NumPy", "ours / NumPy"],
    )
    for name, (ours, theirs, positive) in FUNCTIONS.items():
        row: list[object] = [name]
        for dtype in (np.float32, np.float64):
            x = np.random.default_rng(0).standard_normal(N).astype(dtype) * 3
            x = abs(x) + dtype(0.01) if positive else x
            row += _times(ours, theirs, x, rounds)
        table.add(*row)
    return [table]


def _times(ours: Callable, theirs: Callable, x: np.ndarray, rounds: int) -> list[float]:
    """ns an element of both, and their ratio."""
    bound = Bound(fl.compile(lambda x: ours(x)).plan(x), [x])
    # another formula than theirs may be off by more than the last digits where gelu is near 0
    assert np.allclose(bound.results[0], theirs(x), rtol=1e-4, atol=1e-5)
    a, b = best([bound.work(), repeating(theirs, x)], rounds)
    return [a * 1e9 / N, b * 1e9 / N, a / b]
