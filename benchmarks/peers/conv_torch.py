"""A convolution and both its gradients with PyTorch, images and kernels in one of its layouts.

Arguments: channels, `nchw` or `channels_last`, optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks.convolution import CONVOLUTIONS, PADDING, Convolution, figures
from benchmarks.peers.image_torch import laid_out
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(problem: Convolution, layout: str) -> Callable[[], tuple]:
    """A function that gives y and both gradients."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    x, w, dy = (laid_out(torch.from_numpy(a), layout) for a in problem.arrays())
    x.requires_grad_()
    w.requires_grad_()

    def all_three() -> tuple:
        y = functional.conv2d(x, w, padding=PADDING)
        return (y, *torch.autograd.grad(y, (x, w), dy))

    return all_three


def prepare(problem: Convolution, layout: str) -> Measure:
    return one_by_one(build(problem, layout))


def check(problem: Convolution, layout: str) -> list[float]:
    return figures(*(part.detach().contiguous().numpy() for part in build(problem, layout)()))


if __name__ == "__main__":
    args = (CONVOLUTIONS[sys.argv[1]], sys.argv[2])
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
