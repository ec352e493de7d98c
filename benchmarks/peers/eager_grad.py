"""The derivative of a function of a number with 1,000 small operations, nothing compiled.

Arguments: library, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.expression import POINT, of_scalar
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def fallline() -> Callable[[], float]:
    import numpy as np

    import fallline as fl

    derivative = fl.grad(lambda x: of_scalar(np, x))
    return lambda: derivative(POINT)


def autograd() -> Callable[[], float]:
    import autograd.numpy as np
    from autograd import grad

    derivative = grad(lambda x: of_scalar(np, x))
    return lambda: derivative(POINT)


def torch() -> Callable[[], float]:
    import torch

    x = torch.tensor(POINT, dtype=torch.float64, requires_grad=True)

    def derivative() -> torch.Tensor:
        x.grad = None
        of_scalar(torch, x).backward()
        return x.grad

    return derivative


LIBRARIES = {"fallline": fallline, "autograd": autograd, "torch": torch}


def prepare(library: str) -> Measure:
    return one_by_one(LIBRARIES[library]())


def check(library: str) -> list[float]:
    return [float(LIBRARIES[library]()())]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(lambda: check(sys.argv[1]))
    else:
        serve(lambda: prepare(sys.argv[1]))
