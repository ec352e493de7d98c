"""Random numbers: nanoseconds each on one thread, beside NumPy's generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fallline as fl

from .table import Table
from .timing import Bound, best, repeating

N = 16384
F32 = np.float32

DRAWS: dict[str, tuple[Callable[[Any], Any], Callable[[np.random.Generator], Any]]] = {
    "uniform": (
        lambda key: fl.ops.random.uniform(key, N),
        lambda rng: rng.random(N, dtype=F32),
    ),
    "normal": (
        lambda key: fl.ops.random.normal(key, N),
        lambda rng: rng.standard_normal(N, dtype=F32),
    ),
    "bernoulli(0.5)": (
        lambda key: fl.ops.random.bernoulli(key, 0.5, N),
        lambda rng: rng.random(N, dtype=F32) < F32(0.5),
    ),
    "dropout mask, 0.5": (
        lambda key: fl.ops.random.dropout_mask(key, 0.5, (N,), F32),
        lambda rng: (rng.random(N, dtype=F32) >= F32(0.5)) * F32(2),
    ),
}


def tables(rounds: int) -> list[Table]:
    table = Table(
        "Random numbers",
        "ns a number, float32, 1 thread. Ours are Philox 4x32-10, a function of key and place.",
        ["numbers", "ours", "NumPy, PCG64", "NumPy, Philox", "ours / PCG64", "ours / Philox"],
    )
    for name, (ours, theirs) in DRAWS.items():
        key = fl.ops.random.key(0)
        bound = Bound(fl.compile(lambda key, ours=ours: ours(key)).plan(key), [key])
        pcg, philox = (np.random.Generator(make(0)) for make in (np.random.PCG64, np.random.Philox))
        mean = float(np.mean(bound.results[0]))
        assert abs(mean - np.mean(theirs(pcg))) < 0.05, f"{name}: another mean than NumPy's"
        works = [bound.work(), repeating(theirs, pcg), repeating(theirs, philox)]
        a, b, c = (seconds * 1e9 / N for seconds in best(works, rounds))
        table.add(name, a, b, c, a / b, a / c)
    return [table]
