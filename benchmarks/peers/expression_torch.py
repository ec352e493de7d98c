"""Value and gradient of an expression with PyTorch.

Arguments: `eager` or `compile`, optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks.expression import N_CHECKED, numbers, of_arrays
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(mode: str) -> Callable[[], tuple]:
    """A function that gives value and gradient."""
    import torch

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    x = torch.from_numpy(numbers()).requires_grad_()

    def f(x: torch.Tensor) -> torch.Tensor:
        return of_arrays(torch, x)

    value_of = torch.compile(f) if mode == "compile" else f

    def both() -> tuple:
        x.grad = None
        value = value_of(x)
        value.backward()
        return value, x.grad

    return both


def prepare(mode: str) -> Measure:
    return one_by_one(build(mode), warm_up=2)


def check(mode: str) -> list[float]:
    value, gradient = build(mode)()
    return [value.item(), *gradient[:N_CHECKED].tolist()]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(lambda: check(sys.argv[1]))
    else:
        serve(lambda: prepare(sys.argv[1]))
