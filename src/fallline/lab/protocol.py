"""The rules of a fair comparison: how many trials, where, when to stop one, which to choose.

All are pure functions of settings and finished records, so a comparison that was interrupted goes
on exactly as if it had not been.

Trial points are a Halton sequence (Halton 1960) with a random shift: spread evenly after any number
of points, and so is each coordinate by itself, the learning rate above all. The shift comes from
the seed alone: optimizers with the same space try the same points, and are compared there too.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.optim.space import Choice, Range, Space

Hyper = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """How much every optimizer may spend.

    trials  quasi-random trials of hyperparameters;  seeds  fresh seeds for the reported runs;
    extra  trials in each extension of a range whose edge was best;  extensions  at most so many.
    """

    name: str
    trials: int
    seeds: int
    extra: int = 3
    extensions: int = 2

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seeds < 1:
            raise ValueError(
                f"Budget: needs at least one trial and one seed; got {self.trials}, {self.seeds}."
            )


BUDGETS = {
    "quick": Budget("quick", trials=6, seeds=5, extra=3),
    "standard": Budget("standard", trials=20, seeds=5, extra=4),
    "full": Budget("full", trials=50, seeds=10, extra=8),
}
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)  # as many parameters are tuned at most
BASELINE = 5  # the first trials, which run to the end and which later ones are compared with


@dataclass(frozen=True)
class Edge:
    """The best trial lay beyond all others on one side, so the range was widened there."""

    parameter: str
    side: str
    best: float
    widened: Range


def tuned_parameters(space: Space, trials: int) -> list[str]:
    """Under 10 trials lr alone, up to 24 also the first momentum, then everything in the space."""
    names = list(space)
    return names[:1] if trials < 10 else names[:2] if trials < 25 else names[: len(PRIMES)]


def tuning_seed(seed: int) -> int:
    """The one seed of every trial."""
    return 1000 * seed


def fresh_seeds(seed: int, count: int) -> list[int]:
    """The seeds of the reported runs: the same for every optimizer, none of them used in tuning."""
    return [1000 * seed + 1 + k for k in range(count)]


def first_trials(space: Space, trials: int, seed: int) -> list[Hyper]:
    """The hyperparameters of the planned trials."""
    names = tuned_parameters(space, trials)
    points = spread(trials, len(names), seed)
    return [
        {name: space[name].at(float(u)) for name, u in zip(names, point, strict=True)}
        for point in points
    ]


def spread(count: int, dimensions: int, seed: int) -> np.ndarray:
    """(count, dimensions) points in [0, 1), evenly spread and the same for the same seed.

    >>> (spread(4, 1, seed=0) - spread(1, 1, seed=0)).ravel() % 1
    array([0.  , 0.5 , 0.25, 0.75])
    """
    shift = np.random.default_rng(seed).random(dimensions)
    points = [[_mirrored(k, base) for base in PRIMES[:dimensions]] for k in range(count)]
    return (np.array(points) + shift) % 1.0


def _mirrored(k: int, base: int) -> float:
    """The digits of k behind the point, in reverse: 6 = 110 in base 2 becomes 0.011 = 3/8."""
    value, place = 0.0, 1.0
    while k:
        k, digit = divmod(k, base)
        place /= base
        value += digit * place
    return value


def extension(
    space: Space, names: Sequence[str], tried: Sequence[Hyper], best: Hyper
) -> Edge | None:
    """The edge at which the best trial lies, if it does.

    It does if no trial, not even one that diverged, lies beyond it. The first such parameter in
    order of priority counts; a `Choice` has no edge.
    """
    for name in names:
        dimension = space[name]
        if isinstance(dimension, Choice):
            continue
        units = [dimension.unit(hyper[name]) for hyper in tried]
        here = dimension.unit(best[name])
        for side, outermost in (("low", min(units)), ("high", max(units))):
            if here == outermost:
                widened = dimension.widened(side)
                if widened != dimension and min(units) < max(units):
                    return Edge(name, side, best[name], widened)
    return None


def extra_trials(edge: Edge, best: Hyper, count: int) -> list[Hyper]:
    """Evenly from the best value to the new end; the other hyperparameters stay at their best."""
    here = edge.widened.unit(edge.best)
    end = 0.0 if edge.side == "low" else 1.0
    steps = [(k + 1) / count for k in range(count)]
    return [{**best, edge.parameter: edge.widened.at(here + (end - here) * s)} for s in steps]


@dataclass(frozen=True)
class MedianRule:
    """Stops a trial that is behind the median of the first five at the same epoch.

    baseline  one list of validation scores per epoch for each of the first five trials, higher is
    better. From a third of the epochs on, a trial stops if the best score it has had so far is
    below the median of theirs at that epoch. A baseline trial that diverged counts as the worst
    from then on. Which trials finish first cannot matter: only the first five are looked at.
    """

    baseline: tuple[tuple[float, ...], ...]
    epochs: int

    def __call__(self, scores: Sequence[float]) -> bool:
        epoch = len(scores)
        if epoch < -(-self.epochs // 3) or epoch >= self.epochs:
            return False
        theirs = [curve[epoch - 1] if epoch <= len(curve) else -np.inf for curve in self.baseline]
        return max(scores) < statistics.median(theirs)


def rank_key(score: float | None, loss: float | None) -> tuple[float, float]:
    """Higher is better: the final validation score, ties broken by the validation loss."""
    return (
        -np.inf if score is None or not np.isfinite(score) else score,
        -np.inf if loss is None or not np.isfinite(loss) else -loss,
    )


def settings(budget: Budget, seed: int) -> Mapping[str, Any]:
    """The protocol of a study as data, for its file and its report."""
    return {
        "budget": budget.name,
        "trials": budget.trials,
        "extra": budget.extra,
        "extensions": budget.extensions,
        "seed": seed,
        "tuning_seed": tuning_seed(seed),
        "report_seeds": fresh_seeds(seed, budget.seeds),
    }
