"""Schedules: hyperparameters as functions of the step, in closed form.

A schedule is called with the number of the step, t = 1, 2, ..., and knows nothing else: what it
gives does not depend on what was called before, so a resumed run has the same rate, and any rate
can be plotted before it is used. Any function of t is one: `lambda t: 0.1 / t`.

>>> rate = join(linear_warmup(0.1, steps=10), cosine(0.1, steps=90), at=10)
>>> [round(rate(t), 4) for t in (1, 10, 11, 56, 100, 1000)]
[0.01, 0.1, 0.1, 0.05, 0.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], float]


def _positive(caller: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{caller}: {name} must be greater than 0; got {value!r}.")


@dataclass(frozen=True)
class constant:
    """The same at every step.

    >>> constant(0.1)(1000)
    0.1
    """

    lr: float

    def __call__(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class exponential:
    """Multiplied by `factor` in the course of every `every` steps, smoothly.

        lr factor^((t - 1) / every)

    >>> exponential(0.1, factor=0.5, every=10)(21)
    0.025
    """

    lr: float
    factor: float
    every: float = 1

    def __post_init__(self) -> None:
        _positive("exponential", "factor", self.factor)
        _positive("exponential", "every", self.every)

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** ((t - 1) / self.every)


@dataclass(frozen=True)
class step:
    """Multiplied by `factor` after every `every` steps, at once.

        lr factor^floor((t - 1) / every)

    >>> [step(0.1, every=10, factor=0.5)(t) for t in (10, 11, 21)]
    [0.1, 0.05, 0.025]
    """

    lr: float
    every: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive("step", "factor", self.factor)
        _positive("step", "every", self.every)

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** ((t - 1) // self.every)


@dataclass(frozen=True)
class linear:
    """From `lr` to `final` in `steps` steps, on a straight line; then it stays.

        lr + (final - lr) min(1, (t - 1) / steps)

    >>> [linear(1.0, steps=4)(t) for t in (1, 3, 5, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """

    lr: float
    steps: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("linear", "steps", self.steps)

    def __call__(self, t: int) -> float:
        return self.lr + (self.final - self.lr) * min(1.0, (t - 1) / self.steps)


@dataclass(frozen=True)
class cosine:
    """From `lr` to `final` in `steps` steps, along half a cosine; then it stays.

        final + (lr - final) (1 + cos(pi min(1, (t - 1) / steps))) / 2

    The first step has the full rate. (PyTorch's rises again after the end.)
    Loshchilov & Hutter 2017, eq. 5, without restarts.

    >>> [round(cosine(0.1, steps=10)(t), 4) for t in (1, 6, 11, 20)]
    [0.1, 0.05, 0.0, 0.0]
    """

    lr: float
    steps: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("cosine", "steps", self.steps)

    def __call__(self, t: int) -> float:
        done = min(1.0, (t - 1) / self.steps)
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class linear_warmup:
    """Up to `lr` in `steps` steps, on a straight line; then it stays.

        lr min(1, t / steps)

    The first step has lr / steps, not 0: no step is lost.

    >>> [linear_warmup(0.1, steps=4)(t) for t in (1, 2, 4, 9)]
    [0.025, 0.05, 0.1, 0.1]
    """

    lr: float
    steps: float

    def __post_init__(self) -> None:
        _positive("linear_warmup", "steps", self.steps)

    def __call__(self, t: int) -> float:
        return self.lr * min(1.0, t / self.steps)


@dataclass(frozen=True, init=False)
class join:
    """One schedule after another: `at` holds the last step of each but the last.

    Each counts its own steps from 1.

    >>> up_and_down = join(linear_warmup(1.0, steps=2), linear(1.0, steps=4), at=2)
    >>> [up_and_down(t) for t in range(1, 8)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    schedules: tuple[Schedule, ...]
    at: tuple[int, ...]

    def __init__(self, *schedules: Schedule, at: int | tuple[int, ...]) -> None:
        ends = (at,) if isinstance(at, int) else tuple(at)
        if len(ends) != len(schedules) - 1:
            raise ValueError(
                "join: needs one end for each schedule but the last; "
                f"got {len(schedules)} schedules and {len(ends)} in at."
            )
        if list(ends) != sorted(set(ends)) or (ends and ends[0] < 1):
            raise ValueError(f"join: at must be increasing numbers of steps; got {ends}.")
        object.__setattr__(self, "schedules", schedules)
        object.__setattr__(self, "at", ends)

    def __call__(self, t: int) -> float:
        begun = sum(t > end for end in self.at)
        return self.schedules[begun](t - (self.at[begun - 1] if begun else 0))

    def __repr__(self) -> str:
        return f"join({', '.join(map(repr, self.schedules))}, at={self.at})"
