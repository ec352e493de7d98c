"""Inference with JAX: a jitted network and softmax, NumPy in, NumPy out, 4096 rows at a time.

Arguments: problem, rows, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.images import IMAGES, ImageProblem
from benchmarks.peers import image_jax
from benchmarks.problem import PROBLEMS, Problem
from benchmarks.worker import Measure, one_by_one, serve, serve_check

ROWS = 4096


def build(problem: Problem | ImageProblem) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to probabilities."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def proba(params, x):
        if isinstance(problem, ImageProblem):  # which has no running statistics here
            x = x.transpose(0, 2, 3, 1)
            return jax.nn.softmax(image_jax.network(problem.layers, params, {}, x)[0])
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = params[-1]
        return jax.nn.softmax(x @ W + b)

    params = jax.tree.map(jnp.array, problem.weights())

    def predict(X: np.ndarray) -> np.ndarray:
        if len(X) <= ROWS:
            return np.asarray(proba(params, X))
        parts = [proba(params, X[i : i + ROWS]) for i in range(0, len(X), ROWS)]
        return np.concatenate([np.asarray(part) for part in parts])

    return predict


def prepare(problem: Problem | ImageProblem, rows: int) -> Measure:
    predict, X = build(problem), problem.rows(rows)
    for part in {min(ROWS, rows), rows % ROWS or 1}:
        predict(X[:part])
    return one_by_one(lambda: predict(X), warm_up=20 if rows == 1 else 0)


def check(problem: Problem | ImageProblem) -> list[float]:
    return build(problem)(problem.rows(1))[0].tolist()


if __name__ == "__main__":
    chosen = (PROBLEMS | IMAGES)[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen, int(sys.argv[2])))
