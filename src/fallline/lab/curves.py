"""Curves for the report: the median over seeds with its quartiles, few enough points to be mailed.

Training losses are averaged over blocks of steps within a run before the median is taken over runs;
the other curves are one point an epoch. A run that diverged counts as infinitely bad from there on,
so it pushes the quartile up instead of vanishing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fallline.lab.records import Record

POINTS = 240  # a curve on a page is some 800 pixels wide; more only adds noise and bytes


def curves(study: Mapping[str, Any], records: Iterable[Record]) -> dict[str, Any]:
    """Everything that the interactive chart shows.

    series[kind][optimizer][quantity] = {x: steps, m: median, lo, hi: quartiles};
    clock[kind][optimizer] = {x: steps, s: median seconds of training until then}.
    """
    records = [r for r in records if r.phase != "trial"]
    problem = study["problem"]
    quantities = _quantities(problem)
    whole: dict[str, Any] = {
        "quantities": [
            {"key": key, "title": title, "log": log} for key, title, log, _ in quantities
        ],
        "steps_per_epoch": problem["steps"] / problem["epochs"],
        "series": {},
        "clock": {},
    }
    for kind in ("tuned", "default"):
        runs = {
            name: [r for r in records if r.optimizer == name and r.phase == kind]
            for name in study["optimizers"]
        }
        runs = {name: mine for name, mine in runs.items() if any(len(r.loss) for r in mine)}
        whole["series"][kind] = {
            name: {key: curve for key, _, _, make in quantities if (curve := make(mine, problem))}
            for name, mine in runs.items()
        }
        whole["clock"][kind] = {name: _clock(mine) for name, mine in runs.items()}
    return whole


def band(rows: np.ndarray) -> dict[str, list[float | None]]:
    """Median and quartiles of each column of (runs, points), nan counting as plus infinity."""
    ordered = np.sort(np.where(np.isnan(rows), np.inf, rows), axis=0)
    return {
        key: _brief(_quantile(ordered, q)) for key, q in (("lo", 0.25), ("m", 0.5), ("hi", 0.75))
    }


def blocks(steps: int, points: int = POINTS) -> np.ndarray:
    """The edges of at most `points` blocks of steps, equal but for the last.

    Ten steps to a block if that leaves 60 of them: the noise of single batches would hide the
    curve.
    """
    size = max(1, -(-steps // points), min(10, steps // 60))
    return np.append(np.arange(0, steps, size), steps)


def _quantities(problem: Mapping[str, Any]) -> list[tuple[str, str, bool, Any]]:
    metric = problem["metric"]
    found: list[tuple[str, str, bool, Any]] = [
        ("loss", "Training loss", True, _training),
        ("val_loss", "Validation loss", True, _epochs("val_loss")),
    ]
    if metric != "loss":
        key = "val_" + metric
        found.append(
            (key, f"Validation {metric}", False, _epochs(key, problem["higher_is_better"]))
        )
    return found[::-1]  # the metric that the comparison is about comes first


def _training(runs: Sequence[Record], problem: Mapping[str, Any]) -> dict[str, Any] | None:
    edges = blocks(problem["steps"])
    rows = np.array([_averaged(run.loss, edges) for run in runs])
    x = (edges[:-1] + 1 + edges[1:]) / 2
    return {"x": _brief(x), **band(rows)}


def _averaged(loss: np.ndarray, edges: np.ndarray) -> np.ndarray:
    full = np.full(edges[-1], np.nan)
    full[: len(loss)] = loss[: edges[-1]]
    with np.errstate(all="ignore"):
        return np.add.reduceat(full, edges[:-1]) / np.diff(edges)


def _epochs(key: str, flip: bool = False) -> Any:
    def make(runs: Sequence[Record], problem: Mapping[str, Any]) -> dict[str, Any] | None:
        rows = np.full((len(runs), problem["epochs"]), np.nan)
        for row, run in zip(rows, runs, strict=True):
            values = [epoch.get(key) for epoch in run.epochs[: len(row)]]
            row[: len(values)] = [np.nan if value is None else value for value in values]
        if np.isnan(rows).all():
            return None
        # Where higher is better a missing value must count as low: flip, take quartiles, flip back.
        curve = band(-rows) if flip else band(rows)
        if flip:
            back = {"lo": "hi", "m": "m", "hi": "lo"}
            curve = {
                key: [None if v is None else -v for v in curve[back[key]]]
                for key in ("lo", "m", "hi")
            }
        steps = np.arange(1, problem["epochs"] + 1) * (problem["steps"] / problem["epochs"])
        keep = np.unique(
            np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int)
        )
        thin = {name: [values[k] for k in keep] for name, values in curve.items()}
        return {"x": _brief(steps[keep]), **thin}

    return make


def _clock(runs: Sequence[Record]) -> dict[str, list[float | None]]:
    """Median seconds at the end of each epoch, over the runs that got there."""
    longest = max((run.epochs for run in runs), key=len, default=[])
    steps = [0.0, *(epoch["step"] for epoch in longest)]
    seconds = [0.0]
    for k in range(len(longest)):
        there = [run.epochs[k]["seconds"] for run in runs if len(run.epochs) > k]
        seconds.append(float(np.median(there)))
    keep = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int))
    return {"x": _brief(np.array(steps)[keep]), "s": _brief(np.array(seconds)[keep])}


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """Linear between order statistics, and infinite where the upper one is."""
    position = q * (len(ordered) - 1)
    k = int(position)
    if position == k:
        return ordered[k]
    return (k + 1 - position) * ordered[k] + (position - k) * ordered[k + 1]


def _brief(values: np.ndarray) -> list[float | None]:
    """Four significant digits, what is not finite as None."""
    return [
        float(f"{v:.5g}") if np.isfinite(v) else None for v in np.asarray(values, float).tolist()
    ]
