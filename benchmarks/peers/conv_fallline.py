"""A convolution and both its gradients with Fallline.

Arguments: channels, `layers` (the kernels alone, images in the layout that they have between the
layers of a network) or `call` (a compiled function of NumPy's arrays: images are turned to that
layout and back), optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.convolution import CONVOLUTIONS, PADDING, Convolution, figures
from benchmarks.worker import Measure, one_by_one, serve, serve_check

PRODUCTS = ("convolve", "convolve_back", "correlate")


def build(problem: Convolution):
    """A plan that gives y and both gradients, and its arguments."""
    import fallline as fl

    fl.set_threads(int(os.environ["BENCH_THREADS"]))

    def all_three(x, w, dy):
        y, back = fl.vjp(lambda x, w: fl.ops.conv2d(x, w, padding=PADDING), x, w)
        return (y, *back(dy))

    arrays = problem.arrays()
    return fl.compile(all_three).plan(*arrays), arrays


def calls(problem: Convolution) -> Callable[[], list[np.ndarray]]:
    """A function that gives y and both gradients, in arrays used before."""
    plan, arrays = build(problem)
    out = [np.empty(spec.shape, spec.dtype) for spec in plan.output_specs()]

    def call() -> list[np.ndarray]:
        plan.run(*arrays, out=out)
        return out

    return call


def kernels(problem: Convolution) -> Callable[[], object]:
    """A walk over the launches that multiply; a whole one before it has put the images there."""
    from fallline.compiler import store
    from fallline.compiler.walker import Program, Walk

    plan, arrays = build(problem)
    frame = plan.frame()
    results = frame(arrays)
    program = Program()
    for launch in plan.lowered.launches:
        if launch.title in PRODUCTS:
            phase = program.phase(len(launch.rows))
            phase.call(store.load(launch.text), [plan._row(row) for row in launch.rows])
    walk = Walk(program.array(), plan.n_bases, False, plan.private_bytes)
    walk.bases[1:] = frame.walk.bases[1:]
    threads = int(os.environ["BENCH_THREADS"])
    walk.kept = frame, results, arrays  # type: ignore[attr-defined]  # their memory
    return lambda: walk.run(1, threads)


def prepare(problem: Convolution, mode: str) -> Measure:
    work = calls(problem) if mode == "call" else kernels(problem)
    return one_by_one(work)


def check(problem: Convolution) -> list[float]:
    return figures(*calls(problem)())


if __name__ == "__main__":
    chosen = CONVOLUTIONS[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen, sys.argv[2]))
