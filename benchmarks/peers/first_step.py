"""A fresh process: import a library, make one training step, print both times as JSON.

The clock starts before the import and after Python's own start-up; the step's time includes
building the network. Argument: library, and `epoch` for a whole epoch with a smaller last batch in
place of the step.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from time import perf_counter


def fallline(X, y, sizes: list[int], batch: int) -> None:
    import fallline as fl
    from fallline import nn, optim

    fl.fit(
        nn.mlp(sizes, seed=0), (X, y), loss="cross_entropy", optimizer=optim.adam(lr=1e-3),
        epochs=1, batch_size=batch, seed=0, progress=False,
    )  # fmt: skip


def torch(X, y, sizes: list[int], batch: int) -> None:
    import torch

    net = torch.nn.Sequential(
        torch.nn.Linear(sizes[0], sizes[1]), torch.nn.ReLU(), torch.nn.Linear(sizes[1], sizes[2])
    )
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    feed = zip(torch.from_numpy(X).split(batch), torch.from_numpy(y).split(batch), strict=True)
    for x, labels in feed:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()


def jax(X, y, sizes: list[int], batch: int) -> None:
    import jax
    import jax.numpy as jnp
    import optax

    adam = optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(0), 2)
    params = [
        (jax.random.normal(key, shape) * shape[0] ** -0.5, jnp.zeros(shape[1]))
        for key, shape in zip(keys, pairwise(sizes), strict=True)
    ]

    def loss_of(params, x, labels):
        (W1, b1), (W2, b2) = params
        logits = jax.nn.relu(x @ W1 + b1) @ W2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, x, labels):
        updates, state = adam.update(jax.grad(loss_of)(params, x, labels), state, params)
        return optax.apply_updates(params, updates), state

    state = adam.init(params)
    for start in range(0, len(X), batch):
        params, state = step(params, state, X[start : start + batch], y[start : start + batch])
    jax.block_until_ready(params)


def sklearn(X, y, sizes: list[int], batch: int) -> None:
    from sklearn.neural_network import MLPClassifier

    MLPClassifier(sizes[1:-1], batch_size=batch).partial_fit(X, y, classes=range(sizes[-1]))


LIBRARIES = {
    "fallline": (fallline, ["fallline"]),
    "torch": (torch, ["torch"]),
    "jax": (jax, ["jax", "optax"]),
    "sklearn": (sklearn, ["sklearn.neural_network"]),
}


def main(library: str, whole_epoch: bool) -> dict[str, float]:
    train, modules = LIBRARIES[library]
    start = perf_counter()
    for module in modules:
        __import__(module)
    imported = perf_counter()
    if sys.modules[modules[0]].__file__ is None:
        raise ImportError(f"{library} is an empty folder, not a package")
    import numpy as np

    rng = np.random.default_rng(0)
    rows = 1797 if whole_epoch else 32  # as many as the digits have: the last batch holds 5
    X, y = rng.random((rows, 64), dtype=np.float32), rng.integers(0, 10, rows)
    if "BENCH_IMPORT_ONLY" not in os.environ:
        train(X, y, [64, 100, 10], 32)
    return {
        "import": imported - start,
        "step": perf_counter() - imported,
        "total": perf_counter() - start,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], "epoch" in sys.argv)), flush=True)
