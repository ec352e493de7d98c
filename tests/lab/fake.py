"""A training run that is made up: curves of the right shape in no time, from a formula of lr and
seed.

Each optimizer has a best learning rate; the loss falls more slowly away from it, diverges far above
it, and what is noise comes from the seed alone. Everything is a pure function, as a real run is.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallline.data import Dataset, Examples
from fallline.lab.problem import Problem
from fallline.lab.worker import RunResult
from fallline.optim.space import Choice, Log, OneMinusLog


@dataclass(frozen=True)
class FakeOptimizer:
    name: str
    defaults: Mapping[str, float]
    space: Mapping[str, Any]
    peak: float = 1e-2  # its best learning rate
    skill: float = 0.03  # its test error there
    width: float = 1.0  # decades to either side that still do well

    def bind(self, **hyper: Any) -> dict[str, Any]:
        return {**self.defaults, **hyper}


@dataclass
class FakeNetwork:
    """Looks enough like a network to be described."""

    sizes: tuple[int, ...] = (64, 100, 10)
    seed: int = field(default=0, repr=False)

    def init(self, seed: int) -> FakeNetwork:
        return FakeNetwork(self.sizes, seed)


def problem(n: int = 1083, epochs: int = 20, name: str = "digits", **more: Any) -> Problem:
    """A problem whose arrays hold next to nothing."""
    labels = np.arange(n, dtype=np.int64) % 10
    part = lambda size: Examples(np.zeros((size, 1), np.float32), labels[:size])
    data = Dataset(name, part(n), part(n // 3), part(n // 3), classes=tuple("0123456789"))
    return Problem(data, FakeNetwork(), epochs=epochs, batch_size=32, **more)


SGD = Log(1e-4, 1.0)
ADAM = Log(1e-5, 1e-1)
MOMENTUM = OneMinusLog(1e-3, 0.5)

TEN = [
    FakeOptimizer("sgd", {"lr": 1e-2}, {"lr": SGD}, 0.6, 0.042, 0.8),
    FakeOptimizer("momentum", {"lr": 1e-2, "b": 0.9}, {"lr": SGD, "b": MOMENTUM}, 0.08, 0.028, 0.9),
    FakeOptimizer("nesterov", {"lr": 1e-2, "b": 0.9}, {"lr": SGD, "b": MOMENTUM}, 0.09, 0.027, 1.0),
    FakeOptimizer("adagrad", {"lr": 1e-2}, {"lr": SGD}, 0.05, 0.034, 0.9),
    FakeOptimizer(
        "rmsprop",
        {"lr": 1e-3, "r": 0.9},
        {"lr": ADAM, "r": OneMinusLog(1e-3, 0.2)},
        2e-3,
        0.029,
        0.7,
    ),
    FakeOptimizer("adadelta", {"lr": 1.0, "r": 0.9}, {"lr": Log(1e-2, 1e2)}, 60.0, 0.045, 1.2),
    *(
        FakeOptimizer(
            name,
            {"lr": lr, "b1": 0.9, "b2": 0.999, "eps": 1e-8},
            {
                "lr": ADAM,
                "b1": OneMinusLog(0.02, 0.5),
                "b2": Choice((0.99, 0.999)),
                "eps": Log(1e-10, 1.0),
            },
            peak,
            skill,
            0.9,
        )
        for name, lr, peak, skill in (
            ("adam", 1e-3, 4e-3, 0.024),
            ("amsgrad", 1e-3, 5e-3, 0.025),
            ("nadam", 2e-3, 4e-3, 0.0235),
            ("adamw", 1e-3, 4e-3, 0.023),
        )
    ),
]


def train(
    problem: Problem,
    optimizer: FakeOptimizer,
    hyper: Mapping[str, Any],
    seed: int,
    on_epoch: Any = None,
    *,
    test: bool = True,
) -> RunResult:
    """Stands in for `fallline.lab.worker.run_one`."""
    bound = optimizer.bind(**hyper)
    off = math.log10(bound["lr"] / optimizer.peak)
    noise = np.random.default_rng([seed, zlib.crc32(optimizer.name.encode())])
    shared = np.random.default_rng(seed)  # what paired runs have in common
    miss = max(abs(off) - 0.3, 0.0) / optimizer.width
    error = min(optimizer.skill * math.exp(1.6 * miss**2), 0.9)
    error *= math.exp(0.10 * shared.standard_normal() + 0.07 * noise.standard_normal())
    rate = 6.0 * math.exp(-1.5 * miss**2)
    steps, epochs = problem.steps, problem.epochs
    t = np.arange(steps) / steps
    loss = 2.3 * np.exp(-8 * rate * t) + 1.5 * error * (1 + np.exp(-3 * t))
    loss *= np.exp(0.35 * noise.standard_normal(steps))
    diverged = off > 1.6 * optimizer.width
    length = steps // 5 if diverged else steps
    seen = []
    for epoch in range(1, epochs + 1):
        step = epoch * steps // epochs
        if step > length:
            break
        level = min(error + 0.9 * math.exp(-8 * rate * epoch / epochs), 0.9)
        level *= math.exp(0.05 * noise.standard_normal())
        accuracy = round((1 - min(level, 0.9)) * 357) / 357
        seen.append(
            {
                "epoch": epoch,
                "step": step,
                "loss": float(loss[:step][-steps // epochs :].mean()),
                "val_loss": 3.2 * level,
                "val_accuracy": accuracy,
                "seconds": 2e-5 * step * (1.3 if "b1" in bound else 1.0),
            }
        )
        if on_epoch is not None and on_epoch(seen[-1]):
            return RunResult(
                "stopped", loss[:step].astype(np.float32), seen, seconds=seen[-1]["seconds"]
            )
    if diverged:
        loss = np.append(loss[:length], np.nan).astype(np.float32)
        return RunResult("diverged", loss, seen, message=f"the loss became nan at step {length}")
    metric = problem.metric.name
    final = {"accuracy": round((1 - min(error, 0.9)) * 357) / 357, "loss": 3.2 * error}
    return RunResult(
        "ok",
        loss.astype(np.float32),
        seen,
        validation=seen[-1]["val_" + metric],
        test={metric: final[metric]} if test else None,
        seconds=seen[-1]["seconds"],
    )
