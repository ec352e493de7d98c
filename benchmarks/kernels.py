"""`python -m benchmarks.kernels`: matrix products of our vector kernels, beside OpenBLAS.

In GF/s, the best of many rounds in which all take turns: ours on one thread and on two, the BLAS
that NumPy brought on one, and the multiply-adds that the processor can do in registers. Caches are
warm; products are split into jobs as in compiled functions.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fallline.compiler import store
from fallline.compiler.library import blas, gemm
from fallline.compiler.walker import Program, Walk

SHAPES = [
    ("NN", 128, 1000, 784), ("NN", 128, 1000, 1000), ("NN", 128, 10, 1000),
    ("NT", 128, 1000, 10), ("NT", 128, 1000, 1000),
    ("TN", 784, 1000, 128), ("TN", 1000, 1000, 128), ("TN", 1000, 10, 128),
    ("NN", 32, 100, 64), ("NN", 32, 10, 100), ("NT", 32, 100, 10),
    ("TN", 64, 100, 32), ("TN", 100, 10, 32),
    ("TT", 128, 1000, 784), ("NN", 1, 1000, 784), ("NN", 1000, 1000, 1000),
    ("NN", 128, 1024, 1024), ("NT", 128, 1024, 1024), ("TN", 1024, 1024, 128),
]  # fmt: skip

PEAK = """# name: peak
import numpy as np
from numba.core import types
from fallline.compiler.library.machine import operation
from fallline.compiler.library.value import Value
from fallline.compiler.library.vector import Unit, Variable, loop

SUMS = {sums}  # as many as do not wait for each other


@operation(types.void, types.int64, None)
def turns(builder, count, x):
    unit, count = Unit(builder, "{dtype}", {lanes}), Value(builder, count, np.int64)
    sums = [Variable(builder, unit.type) for _ in range(SUMS)]
    one = unit.load(x, count.constant(0))
    for i, total in enumerate(sums):
        total.set(unit.load(x, count.constant({lanes} * i)))
    with loop(count.constant(0), count, 1):
        for total in sums:
            total.set(unit.fma(one, one, total.get()))
    for i, total in enumerate(sums):
        unit.store(total.get(), x, count.constant({lanes} * i))


def kernel(count: "int", x: "{dtype}*"):
    turns(count, x)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if not gemm.available():
        raise SystemExit("There are no vector kernels for this host.")
    dtype = np.dtype(options.dtype)
    blas.hold_one_thread()
    top = peak(dtype, options.rounds)
    print(f"multiply-adds in registers: {top:.0f} GF/s a core, {gemm.instruction_set()}")
    print("form     m    n    k   1 thread  of peak  2 threads   BLAS  ours/BLAS")
    for form, m, n, k in SHAPES:
        one, two, theirs = rates(form, m, n, k, dtype, options.rounds)
        print(
            f"{form}   {m:5d}{n:5d}{k:5d}  {one:9.1f}  {one / top:7.0%}  {two:9.1f}"
            f"  {theirs:5.1f}  {one / theirs:9.2f}"
        )
    print(f"multiply-adds in registers: {peak(dtype, options.rounds):.0f} GF/s a core")


def rates(form: str, m: int, n: int, k: int, dtype: np.dtype, rounds: int) -> list[float]:
    """GF/s of ours on one thread and on two, and of BLAS."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    a, b = (np.asfortranarray(x) if t == "T" else x for x, t in zip((a, b), form))
    c, d = np.empty((m, n), dtype), np.empty((m, n), dtype)
    trans = form[0] == "T", form[1] == "T"
    ours = product(gemm.gemm_text(dtype, *trans), (), a, b, c)
    theirs = product(blas.gemm_text(dtype), (blas.gemm_function(dtype), *trans), a, b, d)
    flops = 2 * m * n * k
    seconds = best([(ours, 1), (ours, 2), (theirs, 1)], rounds, flops)
    assert np.allclose(c, d, rtol=0, atol=1e-3 * k**0.5)
    return [flops / s / 1e9 for s in seconds]


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
    walk = Walk(program.array(), n_bases=4)
    walk.bases[1:] = [x.ctypes.data for x in (a, b, c)]
    return walk


def peak(dtype: np.dtype, rounds: int) -> float:
    blocking = gemm.BLOCKINGS[gemm.instruction_set()]
    lanes, sums = blocking.register // dtype.itemsize, blocking.rows * blocking.vectors
    text = PEAK.format(dtype=dtype.name, lanes=lanes, sums=sums)
    x = np.full(lanes * sums, 1e-6, dtype)
    program = Program()
    count = 20_000
    program.phase(1).call(store.load(text), [[count, 1, 0]])
    walk = Walk(program.array(), n_bases=2)
    walk.bases[1] = x.ctypes.data
    flops = 2 * lanes * sums * count
    return flops / best([(walk, 1)], rounds, flops)[0] / 1e9


def best(runs: list[tuple[Walk, int]], rounds: int, flops: int) -> list[float]:
    """Least seconds of each walk on so many threads, in many steps a call."""
    steps = max(1, int(2e8 / flops))
    found = [float("inf")] * len(runs)
    for _ in range(rounds):
        for i, (walk, n_threads) in enumerate(runs):
            start = time.perf_counter()
            walk.run(steps, n_threads)
            found[i] = min(found[i], (time.perf_counter() - start) / steps)
    return found


if __name__ == "__main__":
    main()
