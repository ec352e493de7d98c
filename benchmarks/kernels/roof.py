"""What the machine can do: multiply-adds in registers, bytes a second from each level of memory.

Bytes are counted where the program asks for them: reading n bytes moves n; changing them in place,
or copying them, moves 2 n. Not counted is what the caches do on their own, such as fetching a line
that is about to be overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fallline.compiler import store
from fallline.compiler.library.products import gemm
from fallline.compiler.memory import allocate
from fallline.compiler.walker import Program, Walk

from .table import Table
from .timing import best, walking

MULTIPLY_ADDS = """# name: peak
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

# {body} is what is done with the vector at index `at`. The sign changes so that LLVM does not see
# memcpy in a copy, which may pass by the caches: no kernel of ours does.
THROUGH_MEMORY = """# name: through_memory
import numpy as np
from numba.core import types
from fallline.compiler.library.machine import operation
from fallline.compiler.library.value import Value
from fallline.compiler.library.vector import Unit, Variable, loop

UNROLLED = {unrolled}


@operation(types.void, types.int64, types.int64, None, None, None)
def go(builder, turns, n, x, y, results):
    unit = Unit(builder, "float32", {lanes})
    turns, n = Value(builder, turns, np.int64), Value(builder, n, np.int64)
    sums = [Variable(builder, unit.type) for _ in range(UNROLLED)]
    for total in sums:
        total.set(unit.zero())
    with loop(n.constant(0), turns, 1):
        with loop(n.constant(0), n, UNROLLED * {lanes}) as i:
            for k, total in enumerate(sums):
                at = i + k * {lanes}
                {body}
    for k, total in enumerate(sums):
        unit.store(total.get(), results, n.constant(k * {lanes}))


def kernel(turns: "int", n: "int", x: "float32*", y: "float32*", results: "float32*"):
    go(turns, n, x, y, results)
"""
READ = "total.set(builder.fadd(total.get(), unit.load(x, at)))"
PLACE = "unit.store(builder.fneg(unit.load(x, at)), x, at)"
COPY = "unit.store(builder.fneg(unit.load(x, at)), y, at)"

KINDS = {"read": (READ, 1), "in place": (PLACE, 2), "copy": (COPY, 2)}  # bytes moved by byte of x
UNROLLED = 8
LEVELS = ("L1", "L2", "L3", "memory")
THREADS = (1, 2)
SHIFTS = (0, 16)  # bytes from a cache line: where plans lay arrays, and where NumPy does
COUNT = 20_000  # turns of the multiply-adds


@dataclass
class Roof:
    """GF/s by (type, threads); GB/s by (kind, level, threads); bytes of the caches."""

    multiply_adds: dict[tuple[str, int], float]
    bytes_moved: dict[tuple[str, str, int], float]
    caches: dict[str, int]

    def level(self, nbytes: float) -> str:
        """The smallest level that holds so many bytes."""
        return next((k for k in LEVELS[:-1] if nbytes <= self.caches[k]), "memory")

    def share(
        self, seconds: float, products: float, others: float, nbytes: float, kind: str, threads: int
    ) -> tuple[float, str]:
        """What part of the lower roof was reached, and which that is.

        products  operations of which two are one multiply-add;  others  are counted one each
        """
        peak = self.multiply_adds["float32", threads]
        level = self.level(nbytes)
        of_arithmetic = (products + 2 * others) / peak / 1e9
        of_memory = nbytes / self.bytes_moved[kind, level, threads] / 1e9
        if of_arithmetic > of_memory:
            return of_arithmetic / seconds, "arithmetic"
        return of_memory / seconds, f"{level}, {kind}"


def measure(rounds: int) -> Roof:
    """All of it, on one thread and on two."""
    caches = cache_sizes()
    peaks = {
        (dtype, n): multiply_adds(np.dtype(dtype), n, rounds)
        for dtype in ("float32", "float64")
        for n in THREADS
    }
    moved = {
        (kind, level, n): bandwidth(kind, level, n, caches, rounds)
        for kind in KINDS
        for level in LEVELS
        for n in THREADS
    }
    return Roof(peaks, moved, caches)


def tables(roof: Roof) -> list[Table]:
    """The roof as tables."""
    kernel = gemm.instruction_set() or "no vector kernels"
    first = Table(
        "Multiply-adds in registers",
        f"GF/s, {kernel}. Two threads on one core's two hyperthreads would reach what one does.",
        ["type", "1 thread", "2 threads", "ratio"],
    )
    for dtype in ("float32", "float64"):
        one, two = (roof.multiply_adds[dtype, n] for n in THREADS)
        first.add(dtype, one, two, two / one)
    sizes = ", ".join(f"{k} {n >> 10:,} KiB" for k, n in roof.caches.items())
    second = Table(
        "Bytes a second",
        f"GB/s as a program counts them. Caches: {sizes}; a core has its own L1 and L2.",
        ["level", *(f"{kind}, {n} thread{'s' * (n > 1)}" for kind in KINDS for n in THREADS)],
    )
    for level in LEVELS:
        second.add(level, *(roof.bytes_moved[kind, level, n] for kind in KINDS for n in THREADS))
    return [first, second]


def multiply_adds(dtype: np.dtype, n_threads: int, rounds: int) -> float:
    """GF/s of multiply-adds that touch no memory."""
    (seconds,) = best([walking(multiply_add_walk(dtype, n_threads), n_threads)], rounds)
    lanes, sums = registers(dtype)
    return n_threads * 2 * lanes * sums * COUNT / seconds / 1e9


def multiply_add_walk(dtype: np.dtype, n_jobs: int) -> Walk:
    """COUNT multiply-adds into every register, in each job."""
    lanes, sums = registers(dtype)
    text = MULTIPLY_ADDS.format(dtype=dtype.name, lanes=lanes, sums=sums)
    arrays = [np.full(lanes * sums, 1e-6, dtype) for _ in range(n_jobs)]
    return jobs(text, [[COUNT, 1 + i, 0] for i in range(n_jobs)], arrays)


def registers(dtype: np.dtype) -> tuple[int, int]:
    """The lanes of one, and how many are summed up in."""
    blocking = gemm.BLOCKINGS[gemm.instruction_set() or "avx2"]
    return blocking.register // dtype.itemsize, blocking.rows * blocking.vectors


def bandwidth(kind: str, level: str, n_threads: int, caches: dict[str, int], rounds: int) -> float:
    """GB/s of a loop over arrays that lie in a level of memory, each thread's in its own.

    The best of arrays that begin at a cache line and of arrays that do not.
    """
    body, moved = KINDS[kind]
    lanes, _ = registers(np.dtype(np.float32))
    text = THROUGH_MEMORY.format(body=body, lanes=lanes, unrolled=UNROLLED)
    share = n_threads if level in ("L3", "memory") else 1
    part = {"L1": caches["L1"] // 2, "L2": caches["L2"] // 2, "L3": caches["L3"] // 4}
    nbytes = part.get(level, 4 * caches["L3"]) // share
    n = nbytes // 4 // (2 if kind == "copy" else 1) // (UNROLLED * lanes) * UNROLLED * lanes
    turns = max(1, (1 << 20) // nbytes)
    sizes = (n, n if kind == "copy" else 1, UNROLLED * lanes)
    rows = [[turns, n, 1 + 3 * i, 0, 2 + 3 * i, 0, 3 + 3 * i, 0] for i in range(n_threads)]
    walks = [
        jobs(text, rows, [ones(size, shift) for _ in range(n_threads) for size in sizes])
        for shift in SHIFTS
    ]
    seconds = min(best([walking(walk, n_threads) for walk in walks], rounds))
    return n_threads * turns * 4 * n * moved / seconds / 1e9


def ones(n: int, shift: int) -> np.ndarray:
    """So many ones, float32, from so many bytes behind the beginning of a cache line."""
    array = allocate(4 * n + shift)[shift:].view(np.float32)
    array[...] = 1
    return array


def jobs(text: str, rows: list[list[int]], arrays: list[np.ndarray]) -> Walk:
    """A walk of one kernel: a row of arguments for each job; bases 1, 2, ... are the arrays."""
    program = Program()
    program.phase(len(rows)).call(store.load(text), rows)
    walk = Walk(program.array(), n_bases=1 + len(arrays))
    walk.bases[1:] = [x.ctypes.data for x in arrays]
    walk.arrays = arrays  # type: ignore[attr-defined]  # kept alive as long as the walk
    return walk


def cache_sizes() -> dict[str, int]:
    """Bytes of each cache for data; a usual size where the system does not say."""
    found = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        kind, level, size = ((folder / f).read_text().strip() for f in ("type", "level", "size"))
        if kind != "Instruction" and f"L{level}" in found and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1]) << 10
    return found
