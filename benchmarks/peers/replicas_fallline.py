"""Many runs of a small network: Fallline trains them in one plan, or each alone.

Seconds are per step of a network. Arguments: `together` (REPLICAS trainers, 200 steps of each in a
call) or `alone` (one trainer, 200 steps a call), optionally `check`.
"""

from __future__ import annotations

import sys

from benchmarks.peers.mlp_fallline import MANY, build
from benchmarks.problem import PROBLEMS, REPLICAS
from benchmarks.worker import Measure, in_calls, serve, serve_check

PROBLEM = PROBLEMS["mlp_small"]


def prepare(mode: str) -> Measure:
    from fallline.train.trainer import steps_together

    if mode == "alone":
        trainer = build(PROBLEM)
        trainer.steps(MANY)
        return in_calls(lambda: trainer.steps(MANY), MANY)
    trainers = [build(PROBLEM, replica=i) for i in range(REPLICAS)]
    counts = [MANY] * REPLICAS
    steps_together(trainers, counts)
    return in_calls(lambda: steps_together(trainers, counts), MANY * REPLICAS)


def check(mode: str) -> list[float]:
    """The first losses of the first run and of the last."""
    from fallline.train.trainer import steps_together

    trainers = [build(PROBLEM, batches=1, replica=i) for i in range(REPLICAS)]
    if mode == "together":
        losses = steps_together(trainers, [PROBLEM.check_steps] * REPLICAS)
    else:
        losses = [trainer.steps(PROBLEM.check_steps) for trainer in trainers]
    return [*losses[0].tolist(), *losses[-1].tolist()]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(lambda: check(sys.argv[1]))
    else:
        serve(lambda: prepare(sys.argv[1]))
