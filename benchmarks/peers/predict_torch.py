"""Inference with PyTorch: the network and softmax, NumPy in, NumPy out, 4096 rows at a time.

Arguments: problem, rows, `inference_mode` or `no_grad`, for images `nchw` or `channels_last`,
optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.images import IMAGES, ImageProblem
from benchmarks.peers import image_torch, mlp_torch
from benchmarks.problem import PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check

ROWS = 4096


def build(
    problem: Problem | ImageProblem, mode: str, layout: str
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to probabilities."""
    import torch

    if isinstance(problem, ImageProblem):
        net = image_torch.network(problem, layout)
    else:
        net = mlp_torch.network(problem)
    net.eval()
    silent = getattr(torch, mode)

    def predict(X: np.ndarray) -> np.ndarray:
        with silent():
            x = image_torch.laid_out(torch.from_numpy(X), layout)
            if len(x) <= ROWS:
                return torch.softmax(net(x), dim=1).numpy()
            parts = x.split(ROWS)
            return torch.cat([torch.softmax(net(part), dim=1) for part in parts]).numpy()

    return predict


def prepare(problem: Problem | ImageProblem, rows: int, mode: str, layout: str) -> Measure:
    predict, X = build(problem, mode, layout), problem.rows(rows)
    predict(X[:8192])
    return one_by_one(lambda: predict(X), warm_up=20 if rows == 1 else 0)


def check(problem: Problem | ImageProblem, mode: str, layout: str) -> list[float]:
    return build(problem, mode, layout)(problem.rows(1))[0].tolist()


if __name__ == "__main__":
    chosen = (PROBLEMS | IMAGES)[sys.argv[1]]
    how = sys.argv[3], "channels_last" if "channels_last" in sys.argv else "nchw"
    if "check" in sys.argv:
        serve_check(lambda: check(chosen, *how))
    else:
        serve(lambda: prepare(chosen, int(sys.argv[2]), *how))
