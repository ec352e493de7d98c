"""The verdict: what the numbers allow one to say, in words, and nothing more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]
NONE = "\N{EN DASH}"


def verdict(summary: Summary) -> dict[str, str]:
    """A headline and a paragraph.

    Somebody is called ahead only where the interval of every paired difference excludes 0;
    otherwise the difference is within noise.
    """
    if not summary["complete"]:
        return {"headline": "Not finished yet.", "text": _unfinished(summary)}
    if summary["best"] is None:
        text = "Of every optimizer most reported runs diverged or failed; the notes say which."
        return {"headline": "No optimizer came through.", "text": text}
    parts = [_leader(summary), _behind(summary), _broken(summary), _tuning(summary)]
    return {"headline": _headline(summary), "text": " ".join(part for part in parts if part)}


def scope(summary: Summary) -> str:
    """What the intervals cover and what they do not, with the size of what is easiest to forget."""
    n = summary["problem"]["examples"]["test"]
    examples = counted(n, "example")
    best = next((e for e in summary["optimizers"] if e["name"] == summary["best"]), None)
    if _percent(summary) and n and best:
        p = min(best["tuned"]["median"], 1 - 0.5 / n)  # half an example short of certain
        error = 100 * math.sqrt(p * (1 - p) / n)
        examples += f", {error:.2g} points of standard error for a single accuracy"
    return (
        f"Intervals cover the seeds only: not the finite test set ({examples}), not how the data "
        "were split, and not the tuning, which was done once."
    )


def shown(value: float | None, summary: Summary) -> str:
    """A score: accuracy in percent, anything else with four digits."""
    if value is None:
        return NONE
    return f"{100 * value:.2f}%" if _percent(summary) else f"{value:.4g}"


def shown_median(runs: Mapping[str, Any], summary: Summary) -> str:
    """The median score of some runs, if most of them came through."""
    if not runs["scores"]:
        return NONE
    broken = runs["diverged"] + runs["failed"]
    return "diverged" if 2 * broken > len(runs["scores"]) else shown(runs["median"], summary)


def shown_difference(value: float | None, summary: Summary) -> str:
    """A difference with its sign: accuracies in percentage points."""
    if value is None:
        return NONE
    text = f"{100 * value:+.2f}" if _percent(summary) else f"{value:+.3g}"
    if not float(text):
        return text.lstrip("+-")  # what rounds to 0 has no side
    return text.replace("-", "\N{MINUS SIGN}")


def listed(names: Sequence[str]) -> str:
    """sgd, adam and nadam."""
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def counted(n: int, what: str) -> str:
    """1 run, 2 runs."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def unit(summary: Summary) -> str:
    return " points" if _percent(summary) else ""


def _headline(summary: Summary) -> str:
    best = summary["best"]
    if summary["winner"]:
        return f"{best} is ahead."
    others = [entry["name"] for entry in summary["optimizers"] if entry["name"] != best]
    if not others:
        return f"{best}, alone."
    near = [name for name in others if _words(summary, name) == "within noise"]
    if not near:
        return f"{best} has the best median."
    if len(near) == len(others):
        return "No difference beyond noise."
    if len(near) <= 2:
        return f"{best} leads; {listed(near)} {_be(near)} within noise of it."
    return f"No single winner: {len(near) + 1} of {len(others) + 1} are within noise of the best."


def _leader(summary: Summary) -> str:
    best = next(e for e in summary["optimizers"] if e["name"] == summary["best"])
    metric, seeds = summary["problem"]["metric"], summary["protocol"]["seeds"]
    score = (
        f"{best['name']}, tuned, has the best median test {metric}, "
        f"{shown(best['tuned']['median'], summary)} over {counted(seeds, 'fresh seed')}"
    )
    others = [e for e in summary["optimizers"] if e is not best]
    if not others:
        return score + "."
    if summary["winner"]:
        return score + ", and every other optimizer's paired difference to it excludes 0."
    near = [e["name"] for e in others if e["versus_best"] and _is(e, "within noise")]
    if near:
        return f"{score}, but {listed(near)} {_be(near)} within noise of it."
    return score + "."


def _behind(summary: Summary) -> str:
    behind = [e for e in summary["optimizers"] if e["versus_best"] and _is(e, "worse")]
    if not behind:
        return ""
    each = [
        f"{e['name']} ({shown_difference(e['versus_best']['mean'], summary)}{unit(summary)})"
        for e in behind
    ]
    return f"Behind it beyond noise: {listed(each)}."


def _broken(summary: Summary) -> str:
    """Who diverged when it mattered; a median hides up to half of that."""
    each = []
    for entry in summary["optimizers"]:
        runs = entry["tuned"]
        if broken := runs["diverged"] + runs["failed"]:
            each.append(f"{entry['name']} in {broken} of {len(runs['scores'])}")
    return f"Tuned runs diverged or failed: {listed(each)}." if each else ""


def _tuning(summary: Summary) -> str:
    """What the untuned defaults say: often the more useful sentence."""
    entries = [e for e in summary["optimizers"] if e["default"]["median"] is not None]
    entries = [e for e in entries if shown_median(e["default"], summary) != "diverged"]
    if not entries:
        return ""
    pick = max if summary["problem"]["higher_is_better"] else min
    first = pick(entries, key=lambda e: e["default"]["median"])
    text = f"Untuned, {first['name']} does best ({shown(first['default']['median'], summary)})."
    gains = [e for e in entries if e["gain"] and e["gain"]["low"] is not None]
    if not gains:
        return text
    helped = [e for e in gains if e["gain"]["words"] == "better"]
    if not helped:
        return text + " Tuning helped nobody beyond noise."
    most = max(helped, key=lambda e: abs(e["gain"]["mean"]))
    gain = f"{shown_difference(most['gain']['mean'], summary)}{unit(summary)}"
    return f"{text} Tuning helped {most['name']} most ({gain})."


def _unfinished(summary: Summary) -> str:
    """What is there and what is not; how to go on, only the caller knows."""
    waiting = [e["name"] for e in summary["optimizers"] if not e["complete"]]
    recorded = counted(summary["runs"], "run")
    return (
        f"{recorded} {'is' if summary['runs'] == 1 else 'are'} recorded; "
        f"{listed(waiting)} {_be(waiting)} not finished."
    )


def _words(summary: Summary, name: str) -> str | None:
    entry = next(e for e in summary["optimizers"] if e["name"] == name)
    return entry["versus_best"]["words"] if entry["versus_best"] else None


def _is(entry: Mapping[str, Any], words: str) -> bool:
    return bool(entry["versus_best"]["words"] == words)


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _percent(summary: Summary) -> bool:
    return bool(summary["problem"]["metric"] == "accuracy")
