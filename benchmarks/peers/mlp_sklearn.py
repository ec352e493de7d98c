"""A step of scikit-learn's MLPClassifier: one epoch of `partial_fit`, divided by its steps.

`partial_fit` over many batches is the loop that `fit` runs, without its start-up and stopping
rules; it does not shuffle here, and its input checks are shared by all steps. No penalty
(alpha=0), as for the peers. scikit-learn adds eps to the uncorrected root, which at eps = 1e-8 is
the same update to six digits. Arguments: problem, `epoch`, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.problem import B1, B2, EPS, PROBLEMS, Problem
from benchmarks.worker import Measure, in_calls, serve, serve_check


def build(problem: Problem, batches: int | None = None) -> tuple[Callable[[], object], list[float]]:
    """A function that trains one epoch, and the list that it appends the epoch's mean loss to."""
    X, y = problem.data(batches)
    net = network(problem, X, y)
    del net._optimizer  # forget the moments of the step that only allocated
    net.loss_curve_.clear()
    return lambda: net.partial_fit(X, y), net.loss_curve_


def network(problem: Problem, X: np.ndarray, y: np.ndarray):
    """A classifier with the problem's initial weights; one step on X and y allocated them."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        problem.sizes[1:-1], batch_size=problem.batch, alpha=0.0, shuffle=False,
        learning_rate_init=problem.lr, beta_1=B1, beta_2=B2, epsilon=EPS,
    )  # fmt: skip
    net.partial_fit(X, y, classes=np.arange(problem.sizes[-1]))
    for k, (W, b) in enumerate(problem.weights()):
        net.coefs_[k][...] = W
        net.intercepts_[k][...] = b
    return net


def prepare(problem: Problem) -> Measure:
    epoch, _ = build(problem)
    epoch()
    return in_calls(epoch, problem.batches)


def check(problem: Problem) -> list[float]:
    epoch, losses = build(problem.at_check(), batches=1)
    for _ in range(problem.check_steps):
        epoch()
    return problem.figures(losses)


if __name__ == "__main__":
    chosen = PROBLEMS[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen))
