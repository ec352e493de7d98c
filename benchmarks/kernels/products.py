"""Matrix products of our vector kernels, beside the BLAS that NumPy or SciPy brings.

Caches are warm; products are split into jobs as in compiled functions.
"""

from __future__ import annotations

import numpy as np

from fallline.compiler import store
from fallline.compiler.library.products import blas, gemm
from fallline.compiler.walker import Program, Walk

from .roof import Roof
from .table import Table, percent
from .timing import best, walking

SHAPES = [
    ("NN", 128, 1000, 784), ("NN", 128, 1000, 1000), ("NN", 128, 10, 1000),
    ("NT", 128, 1000, 10), ("NT", 128, 1000, 1000),
    ("TN", 784, 1000, 128), ("TN", 1000, 1000, 128), ("TN", 1000, 10, 128),
    ("NN", 128, 128, 784), ("NN", 128, 10, 128), ("NT", 128, 128, 10), ("TN", 784, 128, 128),
    ("NN", 32, 100, 64), ("NN", 32, 10, 100), ("NT", 32, 100, 10),
    ("TN", 64, 100, 32), ("TN", 100, 10, 32),
    ("TT", 128, 1000, 784), ("NN", 1, 1000, 784), ("NN", 1000, 1000, 1000),
    ("NN", 128, 1024, 1024), ("NT", 128, 1024, 1024), ("TN", 1024, 1024, 128),
]  # fmt: skip


def tables(roof: Roof, rounds: int) -> list[Table]:
    """float32 and float64."""
    if not gemm.available():
        return []
    return [_table(np.dtype(dtype), roof, rounds) for dtype in ("float32", "float64")]


def _table(dtype: np.dtype, roof: Roof, rounds: int) -> Table:
    table = Table(
        f"Matrix products, {dtype}",
        "GF/s. N: as it lies, T: transposed, first A, then B. The roof is that of the multiply-"
        f"adds on as many threads. BLAS, on one thread: {blas.build() or 'none, plain loops'}.",
        ["form, m n k", "1 thread", "of roof", "2 threads", "of roof", "BLAS", "ours / BLAS"],
    )
    one_roof, two_roof = (roof.multiply_adds[dtype.name, n] for n in (1, 2))
    for form, m, n, k in SHAPES:
        one, two, theirs = rates(form, m, n, k, dtype, rounds)
        shares = percent(one / one_roof), percent(two / two_roof)
        table.add(f"{form}, {m} {n} {k}", one, shares[0], two, shares[1], theirs, one / theirs)
    return table


def rates(form: str, m: int, n: int, k: int, dtype: np.dtype, rounds: int) -> list[float]:
    """GF/s of ours on one thread and on two, and of BLAS."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    a, b = (np.asfortranarray(x) if t == "T" else x for x, t in zip((a, b), form))
    c, d = np.empty((m, n), dtype), np.empty((m, n), dtype)
    trans = form[0] == "T", form[1] == "T"
    ours = product(gemm.gemm_text(dtype, *trans), (), a, b, c)
    other = gemm.call_of("blas" if blas.gemm_function(dtype) else "loops", dtype, form)
    theirs = product(other.text, other.first, a, b, d)
    seconds = best([walking(ours), walking(ours, 2), walking(theirs)], rounds)
    assert np.allclose(c, d, rtol=0, atol=1e-3 * k**0.5)
    return [2 * m * n * k / s / 1e9 for s in seconds]


def product(text: str, first: tuple[int, ...], a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Walk:
    """A program that computes C = A B in the jobs of compiled functions."""
    (m, k), n = a.shape, b.shape[1]
    lda, ldb = (max(x.strides) // x.itemsize for x in (a, b))
    rows = []
    for i, height, j, width in gemm.grid(m, n, k):
        places = (i * a.strides[0], j * b.strides[1], i * c.strides[0] + j * c.strides[1])
        sides = [(base, place, ld) for base, place, ld in zip((1, 2, 3), places, (lda, ldb, n))]
        rows.append([*first, height, width, k, *sum(sides, ()), 0])
    program = Program()
    program.phase(len(rows)).call(store.load(text), rows)
    walk = Walk(program.array(), n_bases=4, calls_blas=bool(first))
    walk.bases[1:] = [x.ctypes.data for x in (a, b, c)]
    return walk
