"""The networks that are trained: same data and same initial weights for every library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

LR, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8
REPLICAS = 16  # runs at once, of other initial weights


@dataclass(frozen=True)
class Problem:
    """A fully connected ReLU network with softmax cross-entropy, trained by Adam in float32.

    dropout  its rate after each hidden layer
    """

    sizes: tuple[int, ...]
    batch: int
    batches: int
    dropout: float = 0.0
    lr: float = LR

    def data(self, batches: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """X (n, inputs) float32 in [0, 1) like pixels; y (n,) int64 classes that X determines."""
        rng = np.random.default_rng(1)
        n = self.batch * (batches or self.batches)
        X = rng.random((n, self.sizes[0]), dtype=np.float32)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]))
        return X, np.argmax((X - 0.5) @ teacher, axis=1)

    def rows(self, n: int) -> np.ndarray:
        """X (n, inputs) to predict for; the first row is that of `data`."""
        return np.random.default_rng(1).random((n, self.sizes[0]), dtype=np.float32)

    def weights(self, replica: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """He-normal W (inputs, outputs) and zero b per layer, float32."""
        rng = np.random.default_rng(2 + replica)
        shapes = pairwise(self.sizes)
        return [(_he_normal(rng, shape), np.zeros(shape[1], np.float32)) for shape in shapes]

    @property
    def flops(self) -> int:
        """Of a step's products: forward, weights' gradient, and the data's but for the first."""
        first, *others = (2 * self.batch * a * b for a, b in pairwise(self.sizes))
        return 2 * first + 3 * sum(others)

    # Every library is checked on one batch: by its first losses, or, where dropout draws other
    # numbers in each, by the mean loss of parameters that stand still.

    def at_check(self) -> Problem:
        """The problem as it is checked."""
        return replace(self, lr=1e-12) if self.dropout else self

    @property
    def check_steps(self) -> int:
        """So many steps of it."""
        return 200 if self.dropout else 5

    def figures(self, losses: list[float]) -> list[float]:
        """What is compared of their losses."""
        losses = losses[: self.check_steps]
        return [float(np.mean(losses))] if self.dropout else losses


def _he_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)


LARGE = Problem(sizes=(784, 1000, 1000, 10), batch=128, batches=20)

PROBLEMS = {
    "mlp_small": Problem(sizes=(64, 100, 10), batch=32, batches=56),
    "mlp_mid": Problem(sizes=(784, 128, 10), batch=128, batches=20),
    "mlp_large": LARGE,
    "mlp_dropout": replace(LARGE, dropout=0.5),
}
