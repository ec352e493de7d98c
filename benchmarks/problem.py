"""The networks that are trained: same data and same initial weights for every library.

Also the oracle: Adam's first losses on such a network in float64 NumPy, derived by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LR, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Problem:
    """A fully connected ReLU network with softmax cross-entropy, trained by Adam in float32."""

    sizes: tuple[int, ...]
    batch: int
    batches: int

    def data(self, batches: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """X (n, inputs) float32 in [0, 1) like pixels; y (n,) int64 classes that X determines."""
        rng = np.random.default_rng(1)
        n = self.batch * (batches or self.batches)
        X = rng.random((n, self.sizes[0]), dtype=np.float32)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]))
        return X, np.argmax((X - 0.5) @ teacher, axis=1)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """He-normal W (inputs, outputs) and zero b per layer, float32."""
        rng = np.random.default_rng(2)
        shapes = pairwise(self.sizes)
        return [(_he_normal(rng, shape), np.zeros(shape[1], np.float32)) for shape in shapes]


def _he_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)


PROBLEMS = {
    "mlp_small": Problem(sizes=(64, 100, 10), batch=32, batches=56),
    "mlp_large": Problem(sizes=(784, 1000, 1000, 10), batch=128, batches=20),
}


def oracle_losses(problem: Problem, steps: int) -> list[float]:
    """Losses of the first steps on one batch, each before its update."""
    X, y = problem.data(batches=1)
    params = [a.astype(np.float64) for layer in problem.weights() for a in layer]
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    losses = []
    for t in range(1, steps + 1):
        loss, grads = _loss_and_grads(params, X.astype(np.float64), y)
        losses.append(loss)
        for p, g, mi, vi in zip(params, grads, m, v, strict=True):
            mi += (1 - B1) * (g - mi)
            vi += (1 - B2) * (g * g - vi)
            p -= LR * (mi / (1 - B1**t)) / (np.sqrt(vi / (1 - B2**t)) + EPS)
    return losses


def _loss_and_grads(
    params: list[np.ndarray], X: np.ndarray, y: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Back-propagation as in a textbook; params and grads are W1, b1, W2, b2, ..."""
    Ws, bs = params[0::2], params[1::2]
    A = [X]
    for W, b in zip(Ws[:-1], bs[:-1], strict=True):
        A.append(np.maximum(A[-1] @ W + b, 0))
    z = A[-1] @ Ws[-1] + bs[-1]
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    V = np.exp(log_p)
    V[rows, y] -= 1
    V /= len(y)
    grads: list[np.ndarray] = []
    for k in reversed(range(len(Ws))):
        grads = [A[k].T @ V, V.sum(axis=0), *grads]
        V = (V @ Ws[k].T) * (A[k] > 0)  # unused after the last layer
    return float(-log_p[rows, y].mean()), grads
