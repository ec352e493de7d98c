"""What every library should compute, in float64 NumPy, derived by hand."""

from __future__ import annotations

import math

import numpy as np

from . import image_oracles
from .convolution import CONVOLUTIONS, PADDING, figures
from .expression import N_CHECKED, POINT, ROUNDS, numbers
from .images import IMAGES
from .problem import B1, B2, EPS, PROBLEMS, REPLICAS, Problem

Params = list[np.ndarray]


def expected(workload: str) -> tuple[list[float], float] | None:
    """The figures that a workload's peers print in check mode, and the relative tolerance."""
    kind, _, which = workload.partition("-")
    if kind in IMAGES:
        return image_oracles.losses(IMAGES[kind]), 1e-3
    if kind == "conv3x3":
        x, w, dy = (a.astype(np.float64) for a in CONVOLUTIONS[which].arrays())
        # float32 sums of 130,000 terms, some of which all but cancel
        return figures(*image_oracles.convolution(x, w, dy, PADDING)), 1e-3
    if kind in PROBLEMS:
        problem = PROBLEMS[kind]
        # float32 sums of 784 terms, then Adam divides small numbers by small ones; means of losses
        # with other random numbers differ by about 0.5%
        return (dropout_loss(problem), 0.03) if problem.dropout else (losses(problem), 1e-3)
    if kind == "replicas":
        problem = PROBLEMS["mlp_small"]
        return losses(problem) + losses(problem, replica=REPLICAS - 1), 1e-3
    if kind == "predict" and which.startswith("lenet"):
        return image_oracles.probabilities(IMAGES["lenet"]), 1e-4
    if kind == "predict":
        return probabilities(workload), 1e-4  # float32 sums of 1000 terms, then exp
    if kind == "expression10m":
        return expression(), 1e-4  # a float32 sum of ten million
    if kind == "eager_grad":
        return eager_grad(), 1e-9  # float64 all the way
    return None


# Training -----------------------------------------------------------------------------------------


def losses(problem: Problem, replica: int = 0) -> list[float]:
    """Losses of the first steps on one batch, each before its update."""
    X, y = problem.data(batches=1)
    params = [a.astype(np.float64) for layer in problem.weights(replica) for a in layer]
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    found = []
    for t in range(1, problem.check_steps + 1):
        loss, grads = _loss_and_grads(params, X.astype(np.float64), y)
        found.append(loss)
        for p, g, mi, vi in zip(params, grads, m, v, strict=True):
            mi += (1 - B1) * (g - mi)
            vi += (1 - B2) * (g * g - vi)
            p -= problem.lr * (mi / (1 - B1**t)) / (np.sqrt(vi / (1 - B2**t)) + EPS)
    return found


def dropout_loss(problem: Problem) -> list[float]:
    """The mean loss over many draws of what is dropped."""
    X, y = problem.data(batches=1)
    weights, rng, kept = problem.weights(), np.random.default_rng(0), 1 - problem.dropout
    found = []
    for _ in range(problem.check_steps):
        a = X
        for W, b in weights[:-1]:
            a = np.maximum(a @ W + b, 0)
            a = a * (rng.random(a.shape, dtype=np.float32) < kept) / np.float32(kept)
        W, b = weights[-1]
        found.append(_cross_entropy(a @ W + b, y)[0])
    return [float(np.mean(found))]


def _loss_and_grads(params: Params, X: np.ndarray, y: np.ndarray) -> tuple[float, Params]:
    """Back-propagation as in a textbook; params and grads are W1, b1, W2, b2, ..."""
    Ws, bs = params[0::2], params[1::2]
    A = [X]
    for W, b in zip(Ws[:-1], bs[:-1], strict=True):
        A.append(np.maximum(A[-1] @ W + b, 0))
    loss, V = _cross_entropy(A[-1] @ Ws[-1] + bs[-1], y)
    grads: Params = []
    for k in reversed(range(len(Ws))):
        grads = [A[k].T @ V, V.sum(axis=0), *grads]
        V = (V @ Ws[k].T) * (A[k] > 0)  # unused after the last layer
    return loss, grads


def _cross_entropy(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean over the rows, and its gradient."""
    log_p = _log_softmax(z)
    rows = np.arange(len(y))
    V = np.exp(log_p)
    V[rows, y] -= 1
    return float(-log_p[rows, y].mean()), V / len(y)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# Inference ----------------------------------------------------------------------------------------


def probabilities(workload: str) -> list[float]:
    """Of the first row's classes."""
    problem = PROBLEMS["mlp_small" if "small" in workload else "mlp_large"]
    a = problem.data(batches=1)[0][:1].astype(np.float64)
    *hidden, (W, b) = problem.weights()
    for V, c in hidden:
        a = np.maximum(a @ V + c, 0)
    return np.exp(_log_softmax(a @ W + b))[0].tolist()


# Expressions --------------------------------------------------------------------------------------


def expression() -> list[float]:
    """The value, and the first elements of the gradient, of `expression.of_arrays`."""
    x = numbers().astype(np.float64)
    t, e = np.tanh(0.5 * x + 1), np.exp(-0.25 * x * x)
    gradient = 0.5 * (1 - t * t) * x + t - 0.5 * x * e - 0.1
    return [float(np.sum(t * x + e - 0.1 * x)), *gradient[:N_CHECKED].tolist()]


def eager_grad() -> list[float]:
    """The derivative of `expression.of_scalar`, by numbers that carry it along."""
    y, dy = POINT, 1.0
    for _ in range(ROUNDS):
        y, dy = 0.9 * math.sin(y) + POINT * y, 0.9 * math.cos(y) * dy + y + POINT * dy
    return [dy]
