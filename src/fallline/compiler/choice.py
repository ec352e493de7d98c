"""From which size on BLAS computes a matrix product: measured once on a machine, and kept.

    limit(dtype)   multiply-adds, for `gemm.serves`

Where kernels of explicit vectors are ahead at any size, and where FALLLINE_GEMM decides, nothing is
measured. Else both candidates compute some products, in turn, for some tens of milliseconds when
the first is asked for. What comes out is kept beside the kernels, for this processor, these
versions and this BLAS: it decides about bits, so it must not change from run to run. Whoever
measures first on a machine decides; a file that says anything else than expected is measured anew.
Where nothing can be kept, the constants of `gemm.LIMITS` serve.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fallline.compiler import host, store
from fallline.compiler.library.products import blas, gemm
from fallline.compiler.walker import Program, Walk

ROUNDS = 7
EXPONENTS = range(12, 23, 2)  # of 2: multiply-adds of the products
WORK = 1 << 19  # so many in a row are timed together
_VERSION = 1


@functools.cache
def limit(dtype: DTypeLike) -> float:
    """So many multiply-adds, and more, are left to BLAS; infinity: none are."""
    small, *others = gemm.services(dtype)
    usual = gemm.LIMITS[gemm.instruction_set()]
    if gemm.forced() or "blas" not in others or usual == math.inf or store.directory() is None:
        return usual
    name = np.dtype(dtype).name
    with store.lock:  # two threads that measure at once would disturb each other
        found = _kept(name)
        if found is None:
            damaged = _path(name).exists()
            _keep(name, measure(small, name), over=damaged)
            found = _kept(name)  # another process's, if that was faster
    return usual if found is None else found


# Keeping it ---------------------------------------------------------------------------------------


def _identity(dtype: str) -> dict[str, Any]:
    return {"choice": _VERSION, "dtype": dtype, "blas": blas.build(), **host.identity()}


def _path(dtype: str) -> Path:
    """The file beside the kernels."""
    folder = store.directory()
    assert folder is not None
    key = hashlib.sha256(json.dumps(_identity(dtype)).encode()).hexdigest()
    return folder / f"gemm_choice_{dtype}_{key[:16]}.json"


def _kept(dtype: str) -> float | None:
    try:
        content = json.loads(_path(dtype).read_text())
        value = float(content["limit"])
        return value if content == _content(dtype, value) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _keep(dtype: str, value: float, over: bool) -> None:
    text = json.dumps(_content(dtype, value), indent=1)
    store.write(_path(dtype).name, text.encode(), over)


def _content(dtype: str, value: float) -> dict[str, Any]:
    said = {**_identity(dtype), "limit": value}
    return {**said, "sha256": hashlib.sha256(json.dumps(said).encode()).hexdigest()}


# Measuring it -------------------------------------------------------------------------------------


def measure(small: str, dtype: str) -> float:
    """From how many multiply-adds on BLAS is faster than the kernel of another service."""
    ratios = {1 << e: _ratio(small, dtype, 1 << e) for e in EXPONENTS}
    return float(crossing(ratios))


def crossing(ratios: dict[int, float]) -> float:
    """The size from which on all ratios are below 1, between two that were measured.

    >>> crossing({16: 3.0, 64: 0.8, 256: 1.2, 1024: 0.7, 4096: 0.6})
    512
    >>> crossing({16: 0.9, 64: 0.8}), crossing({16: 0.9, 64: 1.1})
    (0, inf)
    """
    found: float = math.inf
    for size, ratio in sorted(ratios.items(), reverse=True):
        if ratio >= 1:
            return found
        found = size // 2
    return 0


def _ratio(small: str, dtype: str, size: int) -> float:
    """The time of BLAS over that of the other, of products of about so many multiply-adds."""
    return statistics.geometric_mean(
        _ratio_of(small, dtype, m, n, max(1, size // (m * n))) for m, n in _shapes(size)
    )


def _shapes(size: int) -> list[tuple[int, int]]:
    """Rows and columns: a square, a batch before a layer, and a layer of few outputs."""
    root = round(size ** (1 / 3))
    return [(root, root), (32, round((size / 32) ** 0.5)), (round((size / 10) ** 0.5), 10)]


def _ratio_of(small: str, dtype: str, m: int, n: int, k: int) -> float:
    """The median over some rounds in which each computes the product for a while."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    c = np.empty((m, n), dtype)
    repeats = max(1, WORK // (m * n * k))
    walks = [_walk(service, a, b, c, repeats) for service in (small, "blas")]
    for walk in walks:
        walk.run(1, 1)
    ratios = []
    for _ in range(ROUNDS):
        ours, theirs = (_seconds(walk) for walk in walks)
        ratios.append(theirs / ours)
    return statistics.median(ratios)


def _walk(service: str, a: Any, b: Any, c: Any, repeats: int) -> Walk:
    """C = A B so many times."""
    (m, k), n = a.shape, b.shape[1]
    call = gemm.call_of(service, a.dtype, "NN")
    row = [*call.first, m, n, k, *(1, 0, k), *(2, 0, n), *(3, 0, n), 0]
    program = Program()
    program.phase(repeats).call(store.load(call.text), row)
    walk = Walk(program.array(), 4, call.calls_blas)
    walk.bases[1:] = [x.ctypes.data for x in (a, b, c)]
    return walk


def _seconds(walk: Walk) -> float:
    began = time.perf_counter()
    walk.run(1, 1)
    return time.perf_counter() - began
