"""Value and gradient of an expression with Fallline: `fl.compile(fl.value_and_grad(f))`.

Arguments: `call` (a fresh gradient each time) or `out` (into an array of the caller's, with
`plan.run`), optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.expression import N_CHECKED, numbers, of_arrays
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(mode: str) -> Callable[[], tuple]:
    """A function that gives value and gradient."""
    import fallline as fl

    fl.set_threads(int(os.environ["BENCH_THREADS"]))
    compiled = fl.compile(fl.value_and_grad(lambda x: of_arrays(np, x)))
    x = numbers()
    if mode == "call":
        return lambda: compiled(x)
    plan = compiled.plan(x)
    out = [np.empty(spec.shape, spec.dtype) for spec in plan.output_specs()]
    return lambda: tuple(plan.run(x, out=out))


def prepare(mode: str) -> Measure:
    return one_by_one(build(mode), warm_up=2)


def check(mode: str) -> list[float]:
    value, gradient = build(mode)()
    return [float(value), *gradient[:N_CHECKED].tolist()]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(lambda: check(sys.argv[1]))
    else:
        serve(lambda: prepare(sys.argv[1]))
