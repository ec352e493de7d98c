"""Inference with PyTorch: the network and softmax, NumPy in, NumPy out, 4096 rows at a time.

Arguments: problem, rows, `inference_mode` or `no_grad`, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.peers.mlp_torch import network
from benchmarks.problem import PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check

ROWS = 4096


def build(problem: Problem, mode: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to probabilities."""
    import torch

    net, silent = network(problem).eval(), getattr(torch, mode)

    def predict(X: np.ndarray) -> np.ndarray:
        with silent():
            if len(X) <= ROWS:
                return torch.softmax(net(torch.from_numpy(X)), dim=1).numpy()
            parts = torch.from_numpy(X).split(ROWS)
            return torch.cat([torch.softmax(net(part), dim=1) for part in parts]).numpy()

    return predict


def prepare(problem: Problem, rows: int, mode: str) -> Measure:
    predict, X = build(problem, mode), problem.rows(rows)
    predict(X[:8192])
    return one_by_one(lambda: predict(X), warm_up=20 if rows == 1 else 0)


def check(problem: Problem, mode: str) -> list[float]:
    return build(problem, mode)(problem.rows(1))[0].tolist()


if __name__ == "__main__":
    chosen, how = PROBLEMS[sys.argv[1]], sys.argv[3]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen, how))
    else:
        serve(lambda: prepare(chosen, int(sys.argv[2]), how))
