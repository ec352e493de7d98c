"""Products of matrices in any layout: against NumPy, on several threads, and with one NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.compiler import test_gemm
from tests.stress.common import Generator

import fallline as fl

SIZES = [0, 1, 2, 7, 16, 17, 33, 48, 65, 100, 128, 200, 257, 384, 513, 784]
HUGE = [1000, 1025, 1999, 4096]

# The shape of an array in which a matrix lies, and where.
LAYOUTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda m, n: (m, n), lambda x: x),
    (lambda m, n: (n, m), lambda x: x.T),
    (lambda m, n: (m, 2 * n), lambda x: x[:, ::2]),
    (lambda m, n: (2 * n, m), lambda x: x[::2].T),
    (lambda m, n: (m, n + 5), lambda x: x[:, 5:]),
    (lambda m, n: (m + 3, n), lambda x: x[1:-2]),
    (lambda m, n: (m, n), lambda x: x[::-1]),
    (lambda m, n: (m, n), lambda x: x * 2),  # exact, in a buffer of its own
    (lambda m, n: (n, m), lambda x: (x * 2).T),
]


def a_product(rng: Generator, seed: int) -> None:
    """One matrix by another; sometimes one of the sizes is huge."""
    m, n, k = (int(d) for d in rng.choice(SIZES, 3))
    if rng.random() < 0.2:
        sizes = [int(rng.choice(HUGE)), min(m, 257), min(n, 257)]
        m, n, k = (int(d) for d in rng.permutation(sizes))
    _check(rng, seed, (), m, n, k)


def a_stack(rng: Generator, seed: int) -> None:
    """Of small matrices, one after the other."""
    m, n, k = (int(d) for d in rng.choice(SIZES[:9], 3))
    _check(rng, seed, (int(rng.integers(0, 12)),), m, n, k)


def _check(rng: Generator, seed: int, lead: tuple[int, ...], m: int, n: int, k: int) -> None:
    dtype, i, j = str(rng.choice(test_gemm.DTYPES)), *rng.integers(0, len(LAYOUTS), 2)
    (lies_a, left), (lies_b, right) = LAYOUTS[i], LAYOUTS[j]
    if lead:
        (lies_a, left), (lies_b, right) = LAYOUTS[0], LAYOUTS[0]
    a = test_gemm.normal(seed, *lead, *lies_a(m, k), dtype=dtype)
    b = test_gemm.normal(seed + 1, *lead, *lies_b(k, n), dtype=dtype)
    f = lambda a, b: left(a) @ right(b)
    said = f"{lead} ({m}, {k}) @ ({k}, {n}), {dtype}, layouts {i} and {j}"
    compiled = fl.compile(f)
    found = []
    for count in (1, 2, int(rng.integers(3, 6))):
        fl.set_threads(count)
        found.append(compiled(a, b))
        assert found[0].tobytes() == found[-1].tobytes(), f"{count} threads, {said}"
    try:
        _compare(left(a), right(b), found[0])
        if a.size:
            a.flat[rng.integers(a.size)] = rng.choice([np.nan, np.inf])
            assert np.array_equal(np.isfinite(compiled(a, b)), np.isfinite(f(a, b)))
    except AssertionError as error:
        raise AssertionError(said) from error


def _compare(a: Any, b: Any, found: Any) -> None:
    """With wider numbers where that does not take too long."""
    if a.ndim > 2:
        for x, y, z in zip(a, b, found, strict=True):
            test_gemm.check(x, y, z)
    elif a.dtype == np.float32 or a.size * b.shape[1] < 1 << 24:
        test_gemm.check(a, b, found)
    else:  # both have their rounding errors
        bound = (np.abs(a) @ np.abs(b)) * 2 * (a.shape[1] + 1) * np.finfo(a.dtype).eps
        assert np.all(np.abs(found - a @ b) <= bound)
