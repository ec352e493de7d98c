"""Inference with Fallline: `net.predict_proba(X)` as users call it, NumPy in, NumPy out.

Arguments: problem, rows, optionally `check`.
"""

from __future__ import annotations

import sys

from benchmarks.images import IMAGES, ImageProblem
from benchmarks.peers import image_fallline, mlp_fallline
from benchmarks.problem import PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(problem: Problem | ImageProblem):
    """The network as it is after training for classes."""
    library = image_fallline if isinstance(problem, ImageProblem) else mlp_fallline
    net = library.network(problem)
    net.link = "softmax"
    return net


def prepare(problem: Problem | ImageProblem, rows: int) -> Measure:
    net, X = build(problem), problem.rows(rows)
    net.predict_proba(X[:8192])
    return one_by_one(lambda: net.predict_proba(X), warm_up=20 if rows == 1 else 0)


def check(problem: Problem | ImageProblem) -> list[float]:
    return build(problem).predict_proba(problem.rows(1))[0].tolist()


if __name__ == "__main__":
    chosen = (PROBLEMS | IMAGES)[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen, int(sys.argv[2])))
