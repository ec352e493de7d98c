"""Inference with scikit-learn: `MLPClassifier.predict_proba`, all rows at once.

Arguments: problem, rows, optionally `check`.
"""

from __future__ import annotations

import sys

from benchmarks.peers.mlp_sklearn import network
from benchmarks.problem import PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def prepare(problem: Problem, rows: int) -> Measure:
    net, X = network(problem, *problem.data(batches=1)), problem.rows(rows)
    net.predict_proba(X[:8192])
    return one_by_one(lambda: net.predict_proba(X), warm_up=20 if rows == 1 else 0)


def check(problem: Problem) -> list[float]:
    return network(problem, *problem.data(batches=1)).predict_proba(problem.rows(1))[0].tolist()


if __name__ == "__main__":
    chosen = PROBLEMS[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen, int(sys.argv[2])))
