"""A training step in PyTorch at its best: fused Adam, gradients set to None.

The batches are sliced beforehand. Arguments: problem, `eager` or `compile` (torch.compile of
forward and loss), optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import cycle

from benchmarks.problem import B1, B2, EPS, PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(problem: Problem, mode: str, batches: int | None = None) -> Callable[[], object]:
    """A function that makes one step on the next batch and returns the loss."""
    import torch
    from torch.nn import functional

    net = network(problem)
    optimizer = torch.optim.Adam(
        net.parameters(), lr=problem.lr, betas=(B1, B2), eps=EPS, fused=True
    )

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net(x), y)

    if mode == "compile":
        loss_of = torch.compile(loss_of)
    X, y = (torch.from_numpy(a) for a in problem.data(batches))
    feed = cycle(zip(X.split(problem.batch), y.split(problem.batch), strict=True))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*next(feed))
        loss.backward()
        optimizer.step()
        return loss

    return step


def network(problem: Problem):
    """The problem's network with its initial weights, on as many threads as are given."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    layers: list[nn.Module] = []
    for W, b in problem.weights():
        if layers:
            layers += [nn.ReLU(), *[nn.Dropout(problem.dropout)] * bool(problem.dropout)]
        layer = nn.Linear(*W.shape)
        layer.load_state_dict({"weight": torch.from_numpy(W.T.copy()), "bias": torch.from_numpy(b)})
        layers.append(layer)
    return nn.Sequential(*layers)


def prepare(problem: Problem, mode: str) -> Measure:
    step = build(problem, mode)
    for _ in range(20):
        step()
    return one_by_one(step)


def check(problem: Problem, mode: str) -> list[float]:
    step = build(problem.at_check(), mode, batches=1)
    return problem.figures([step().item() for _ in range(problem.check_steps)])


if __name__ == "__main__":
    args = (PROBLEMS[sys.argv[1]], sys.argv[2])
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
