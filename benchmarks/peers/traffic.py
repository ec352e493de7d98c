"""What memory allows: the time in which this machine moves as many bytes as an update must.

The block has the size of the rule's arrays, so that caches help here as much as there. It is split
evenly over the threads. Seconds are scaled to the bytes of the rule, as `rules.traffic` counts
them.

`place RULE`: `x *= 1` in place by NumPy. k bytes of block are 2k moved: k read, k written. An
update moves its bytes in just this way: a line is read, changed and written back.

`copy RULE`: one half to the other by `numpy.copyto`. k bytes copied are 2k moved as well: k read,
k written. Not counted is the read for ownership: unless the C library chooses streaming stores (it
does so from a size on that depends on the cache that it believes to have), the processor also
fetches the k bytes that the copy overwrites, and a copy is then only two thirds as fast, by this
count, as the memory bus. That is why an update can beat this figure, and why the other one is
reported, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.peers.rules import footprint, traffic
from benchmarks.worker import Measure, one_by_one, serve


def prepare(kind: str, rule: str) -> Measure:
    block = np.ones(footprint(rule) // 4, np.float32)  # ones: every page is really there
    half = len(block) // 2
    if kind == "copy":
        work = divided(np.copyto, block[:half], block[half : 2 * half])
        moved = 2 * 4 * half
    else:
        work = divided(lambda x: np.multiply(x, np.float32(1.0), out=x), block)
        moved = 2 * 4 * len(block)
    measure = one_by_one(work, warm_up=1)
    return lambda n: [seconds * traffic(rule) / moved for seconds in measure(n)]


def divided(function: Callable[..., object], *arrays: np.ndarray) -> Callable[[], object]:
    """Call `function` on equal parts of the arrays, one a thread (NumPy releases the GIL)."""
    threads = int(os.environ["BENCH_THREADS"])
    if threads == 1:
        return lambda: function(*arrays)
    pool = ThreadPoolExecutor(threads)
    parts = [np.array_split(a, threads) for a in arrays]
    return lambda: list(pool.map(function, *parts))


if __name__ == "__main__":
    serve(lambda: prepare(*sys.argv[1:3]))
