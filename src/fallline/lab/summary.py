"""The summary: what a comparison found, as plain data, from its file and records alone.

`summarise` is a pure function, so a summary can be made again at any time, and from an interrupted
and resumed comparison it is the same (seconds aside). Numbers that do not exist are None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fallline.lab import statistics
from fallline.lab.notes import notes
from fallline.lab.problem import Metric
from fallline.lab.protocol import Hyper, tuned_parameters
from fallline.lab.records import Record
from fallline.lab.study import Records, Tuning, metric_of, replay, widened_space
from fallline.lab.verdict import verdict
from fallline.optim.space import space_from_json, space_to_json

SCHEMA = "fallline.comparison/1"


def summarise(study: Mapping[str, Any], records: Iterable[Record]) -> dict[str, Any]:
    """Everything that a comparison found.

    optimizers  one entry each, best first: `tuned` and `default` scores on the test examples,
    `gain` of tuning and difference `versus_best`, both means of paired differences with 95%
    intervals that hold jointly for all optimizers.
    """
    by_key = {record.key: record for record in records}
    metric = metric_of(study["problem"])
    seeds = study["protocol"]["report_seeds"]
    entries = [_entry(study, name, by_key, metric) for name in study["optimizers"]]
    entries.sort(key=lambda entry: _rank(entry, metric))
    best = entries[0] if entries and _comparable(entries[0]) else None
    compared = {
        entry["name"]: _tuned_runs(entry, by_key.values(), seeds)
        for entry in entries
        if entry["complete"] and entry["best"]
    }
    untuned = {name: _runs(by_key.values(), name, "default", seeds, {}) for name in compared}
    gains = _gains(compared, untuned, metric, len(entries))
    versus = _against_best(compared, best["name"], metric, len(entries)) if best else {}
    for entry in entries:
        entry["gain"] = gains.get(entry["name"])
        entry["versus_best"] = versus.get(entry["name"])
    whole = {
        "schema": SCHEMA,
        "problem": study["problem"],
        "protocol": {**study["protocol"], "interval": INTERVAL, "seeds": len(seeds)},
        "complete": all(entry["complete"] for entry in entries),
        "runs": len(by_key),
        "finished": max((r.finished for r in by_key.values()), default=""),
        "best": best["name"] if best else None,
        "winner": _winner(entries, best),
        "optimizers": entries,
        "notes": notes(entries, by_key.values()),
        "versions": study["versions"],
        "machine": study["machine"],
    }
    return {**whole, "verdict": verdict(whole)}


INTERVAL = (
    "95%. Against the best: jointly for all optimizers, whichever was selected as the best (Hsu's "
    "multiple comparisons with the best, paired by seed, variances half lent from the others), so "
    "that somebody among equal optimizers is called worse in about 5% of comparisons. Gains of "
    "tuning: Student's t, paired by seed, step by step with Holm's and Sidak's levels. Median "
    "scores: each by itself, an expanded percentile bootstrap. With five seeds only large "
    "differences are found"
)


def _entry(study: Mapping[str, Any], name: str, records: Records, metric: Metric) -> dict[str, Any]:
    declared = study["optimizers"][name]
    tuning = replay(study, name, records)
    seeds = study["protocol"]["report_seeds"]
    best = tuning.best if tuning.done else None
    tuned = _runs(records.values(), name, "tuned", seeds, best.hyper if best else None)
    default = _runs(records.values(), name, "default", seeds, {})
    complete = tuning.done and len(tuned) + len(default) == len(seeds) * (2 if best else 1)
    return {
        "name": name,
        "complete": complete,
        "defaults": declared["defaults"],
        "trials": _trials(study, tuning),
        "best": best and {"hyper": best.hyper, "validation": best.validation, "trial": best.index},
        "tuned_parameters": _tuned_parameters(study, name),
        "space": space_to_json(widened_space(space_from_json(declared["space"]), tuning.edges)),
        "edges": _edges(tuning),
        "tuned": _scores(tuned, metric),
        "default": _scores(default, metric),
    }


def _comparable(entry: Mapping[str, Any]) -> bool:
    """Whether all its tuned runs are there, and half of them at least came through."""
    return bool(
        entry["complete"] and entry["tuned"]["scores"] and not mostly_broken(entry["tuned"])
    )


def mostly_broken(runs: Mapping[str, Any]) -> bool:
    """Whether the median run diverged or failed, so that there is no median to speak of."""
    return bool(2 * (runs["diverged"] + runs["failed"]) > len(runs["scores"]))


def _tuned_runs(
    entry: Mapping[str, Any], records: Iterable[Record], seeds: Sequence[int]
) -> list[Record]:
    hyper = entry["best"]["hyper"] if entry["best"] else None
    return _runs(records, entry["name"], "tuned", seeds, hyper)


def _runs(
    records: Iterable[Record], name: str, phase: str, seeds: Sequence[int], hyper: Hyper | None
) -> list[Record]:
    """The reported runs of one kind, in the order of their seeds."""
    found = {
        r.seed: r for r in records if r.optimizer == name and r.phase == phase and r.hyper == hyper
    }
    return [found[seed] for seed in seeds if seed in found]


def _scores(runs: Sequence[Record], metric: Metric) -> dict[str, Any]:
    values = [_score(run, metric) for run in runs]
    q1, median, q3 = statistics.quartiles(values)
    low, high = statistics.interval(values, np.median)
    # A run that broke off early tells nothing about the time that a run takes.
    seconds = [run.seconds for run in runs if run.status == "ok"]
    return _plain(
        {
            "scores": values,
            "seeds": [run.seed for run in runs],
            "status": [run.status for run in runs],
            "median": median,
            "q1": q1,
            "q3": q3,
            "low": low,
            "high": high,
            "iqm": statistics.iqm(values),
            "diverged": sum(run.status == "diverged" for run in runs),
            "failed": sum(run.status == "failed" for run in runs),
            "seconds": statistics.quartiles(seconds)[1],
        }
    )


def _score(run: Record, metric: Metric) -> float:
    """On the test examples; a run that did not come through scores the worst there is."""
    return metric.bounded((run.test or {}).get(metric.name))


def _against_best(
    compared: Mapping[str, Sequence[Record]], best: str, metric: Metric, among: int
) -> dict[str, dict[str, Any]]:
    """What each is ahead of the best, over the seeds, which all have run."""
    names = list(compared)
    scores = [[_score(run, metric) for run in runs] for runs in compared.values()]
    sound = [all(run.status == "ok" for run in runs) for runs in compared.values()]
    intervals = statistics.against_best(scores, names.index(best), lend=sound, among=among)
    return {
        name: _difference(interval, compared[name], compared[best], metric)
        for name, interval in zip(names, intervals, strict=True)
        if name != best
    }


def _gains(
    tuned: Mapping[str, Sequence[Record]],
    untuned: Mapping[str, Sequence[Record]],
    metric: Metric,
    among: int,
) -> dict[str, dict[str, Any]]:
    """What tuning changed for each that has a tuned result."""
    scores = lambda runs: [_score(run, metric) for run in runs]
    pairs = [(scores(tuned[name]), scores(untuned[name])) for name in tuned]
    intervals = statistics.paired_intervals(pairs, among=among)
    return {
        name: _difference(interval, tuned[name], untuned[name], metric)
        for name, interval in zip(tuned, intervals, strict=True)
    }


def _difference(
    interval: tuple[float, float, float], a: Sequence[Record], b: Sequence[Record], metric: Metric
) -> dict[str, Any]:
    """a - b as data and in words."""
    mean, low, high = interval
    sign = 1 if metric.higher_is_better else -1
    mine, theirs = ([sign * _score(run, metric) for run in runs] for runs in (a, b))
    broken = any(run.status != "ok" for run in (*a, *b))
    words = _words(min(sign * low, sign * high), max(sign * low, sign * high), broken)
    probability = statistics.probability_of_improvement(mine, theirs)
    return _plain({"mean": mean, "low": low, "high": high, "words": words, "p_better": probability})


def _words(low: float, high: float, broken: bool) -> str:
    """What an interval of a difference says, its ends turned so that more is better."""
    if statistics.excludes_zero(low, high):
        return "better" if low > 0 else "worse"
    if broken:
        return "runs diverged"
    return "too few seeds" if math.isnan(low) else "within noise"


def _winner(entries: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str | None:
    """The best, if every paired difference to it excludes 0; nobody while a run is missing."""
    others = [entry for entry in entries if entry is not best]
    if best is None or not others or not all(entry["complete"] for entry in entries):
        return None
    behind = all((entry["versus_best"] or {}).get("words") == "worse" for entry in others)
    return str(best["name"]) if behind else None


def _rank(entry: Mapping[str, Any], metric: Metric) -> tuple[bool, bool, float, float]:
    """Best median first, ties by the interquartile mean; the unfinished last."""
    scores = entry["tuned"]
    known = [metric.good(scores[key]) for key in ("median", "iqm")]
    return not entry["complete"], not scores["scores"], -known[0], -known[1]


def _trials(study: Mapping[str, Any], tuning: Tuning) -> dict[str, Any]:
    ends = [trial.status for trial in tuning.trials]
    planned = study["protocol"]["trials"]
    return {
        "planned": planned,
        "extra": max(len(ends) - planned, 0),
        "made": len(ends),
        **{status: ends.count(status) for status in ("ok", "stopped", "diverged", "failed")},
        "diverged_share": ends.count("diverged") / len(ends) if ends else None,
        "points": [
            {
                "hyper": trial.hyper,
                "validation": trial.validation,
                "status": trial.status,
                "last": _last(study, trial),
            }
            for trial in tuning.trials
        ],
    }


def _last(study: Mapping[str, Any], trial: Record) -> float | None:
    """The last validation metric, also of a trial that was stopped."""
    name = "val_" + study["problem"]["metric"]
    return trial.epochs[-1].get(name) if trial.epochs else None


def _edges(tuning: Tuning) -> list[dict[str, Any]]:
    found = [
        {
            "parameter": edge.parameter,
            "side": edge.side,
            "best": edge.best,
            "widened": str(edge.widened),
            "open": False,
        }
        for edge in tuning.edges
    ]
    if tuning.at_edge is not None:
        found.append(
            {
                "parameter": tuning.at_edge.parameter,
                "side": tuning.at_edge.side,
                "best": tuning.at_edge.best,
                "widened": None,
                "open": True,
            }
        )
    return found


def _tuned_parameters(study: Mapping[str, Any], name: str) -> list[str]:
    space = space_from_json(study["optimizers"][name]["space"])
    return tuned_parameters(space, study["protocol"]["trials"])


def _plain(value: Any) -> Any:
    """JSON numbers; nan and infinities become None."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
