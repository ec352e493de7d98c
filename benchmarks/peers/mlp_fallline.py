"""A training step of Fallline: the loop that `fit` runs.

The data are resident; the shuffled batch is gathered inside the step, which no peer does here.
Arguments: problem, `step` (one step a call) or `many` (200 steps a call), optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import numpy as np

from benchmarks.problem import B1, B2, EPS, PROBLEMS, Problem
from benchmarks.worker import Measure, in_calls, one_by_one, serve, serve_check

MANY = 200


def build(problem: Problem, batches: int | None = None, replica: int = 0):
    """A trainer of the problem's network with the problem's initial weights."""
    import fallline as fl
    from fallline import optim

    net = network(problem, replica)
    adam = optim.adam(lr=problem.lr, b1=B1, b2=B2, eps=EPS)
    return fl.train.Trainer(
        net, problem.data(batches), loss="cross_entropy", optimizer=adam,
        batch_size=problem.batch, seed=0,
    )  # fmt: skip


def network(problem: Problem, replica: int = 0):
    """The problem's network with its initial weights, on as many threads as are given."""
    import fallline as fl

    fl.set_threads(int(os.environ["BENCH_THREADS"]))
    net = fl.nn.mlp(list(problem.sizes), dropout=problem.dropout, seed=0)
    assign(leaves(net), problem.weights(replica))
    return net


def leaves(net: object) -> list[np.ndarray]:
    """The network's arrays in its own order."""
    import optree

    return list(optree.tree_leaves(net, namespace="fallline"))


def assign(arrays: list[np.ndarray], weights: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the initial weights, layer by layer; matrix and bias are told apart by shape."""
    for k, layer in enumerate(weights):
        mine = arrays[2 * k : 2 * k + 2]
        for value in layer:
            (target,) = (a for a in mine if a.shape == value.shape)
            target[...] = value


def prepare(problem: Problem, mode: str) -> Measure:
    trainer = build(problem)
    trainer.steps(MANY)
    if mode == "many":
        return in_calls(lambda: trainer.steps(MANY), MANY)
    return one_by_one(lambda: trainer.steps(1))


def check(problem: Problem, mode: str) -> list[float]:
    trainer, n = build(problem.at_check(), batches=1), problem.check_steps
    if mode == "many":
        return problem.figures(trainer.steps(n).tolist())
    return problem.figures([trainer.steps(1).item() for _ in range(n)])


if __name__ == "__main__":
    args = (PROBLEMS[sys.argv[1]], sys.argv[2])
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
