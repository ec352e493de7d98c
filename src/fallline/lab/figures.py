"""The still figures of the report as SVG: scores, paired differences, sensitivity to the rate.

Horizontal places are percentages, so a figure stretches with the page without stretching its marks;
colours are classes (`c0` to `c9`) that the page's style sheet defines for light and dark.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fallline.lab.verdict import shown, shown_difference, shown_median

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """From values to percent of the width, with a margin, and the values worth a tick."""

    low: float
    high: float
    ticks: tuple[float, ...]
    bend: Callable[[float], float] = float
    margin: float = 3.0

    def place(self, value: float) -> float:
        """Percent from the left; values beyond an end stop at it."""
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(value) - low) / (high - low) if high > low else 0.5
        return self.margin + (100 - 2 * self.margin) * min(max(share, 0.0), 1.0)


def score_axis(summary: Summary, values: Iterable[float | None]) -> Axis:
    """An axis for scores. Accuracies are spread as their errors are on a log scale: 98 and 99
    percent are as far apart as 80 and 90. So are losses, on a log scale."""
    finite = [v for v in values if v is not None]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if summary["problem"]["metric"] != "accuracy":
        return _plain_axis(low, high, log=low > 0 and not summary["problem"]["higher_is_better"])
    # Half an example less than perfect, so that 100% has a place.
    floor = 0.5 / max(summary["problem"]["examples"]["test"], 1)
    bend = lambda accuracy: -math.log10(max(1 - accuracy, floor))
    marks = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    low = max((m for m in marks if m <= low), default=0.0)
    high = min((m for m in marks if m >= high), default=1 - floor)
    ticks = tuple(m for m in marks if low <= m <= high)
    return Axis(low, high, ticks, bend)


def _plain_axis(low: float, high: float, *, log: bool) -> Axis:
    if not log:
        low, high = _apart(low, high)
        return Axis(low, high, _round_ticks(low, high))
    low, high = (10**end for end in _apart(math.log10(low), math.log10(high)))
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    marks = [round(m * 10.0**k, 12) for k in decades for m in (1, 2, 5)]
    return Axis(low, high, tuple(m for m in marks if low <= m <= high), math.log10)


def scores(entry: Mapping[str, Any], axis: Axis, summary: Summary) -> str:
    """One optimizer's runs: a dot per seed, a bar over the quartiles, a tick at the median; an open
    diamond where the untuned default's median is, an open arrow if that is off the axis."""
    tuned, default = entry["tuned"], entry["default"]
    marks = []
    if tuned["q1"] is not None and tuned["q3"] is not None:
        left, right = axis.place(tuned["q1"]), axis.place(tuned["q3"])
        marks.append(_line(left, right, 11, 11, "bar"))
    if default["median"] is not None:
        marks.append(_untuned(default["median"], axis))
    bad = axis.high if not summary["problem"]["higher_is_better"] else axis.low
    for score, status in zip(tuned["scores"], tuned["status"], strict=True):
        if status == "ok" and score is not None:
            marks.append(_dot(axis.place(score), 11, 2.5, "seed"))
        else:
            marks.append(_cross(axis.place(bad), 11, status))
    if tuned["median"] is not None:
        x = axis.place(tuned["median"])
        marks.append(_line(x, x, 3, 19, "median"))
    label = (
        f"{entry['name']}: median {shown_median(tuned, summary)}, "
        f"untuned {shown_median(default, summary)}"
    )
    return _svg("".join(marks), 22, label)


def _untuned(median: float, axis: Axis) -> str:
    """A diamond, or an arrow at the end of the axis for one that is beyond it."""
    if median < axis.low:
        return _arrow(axis.margin - 2, 11, -1, "beyond")
    if median > axis.high:
        return _arrow(102 - axis.margin, 11, 1, "beyond")
    return _diamond(axis.place(median), 11)


def score_ticks(axis: Axis, summary: Summary) -> str:
    """The axis above the scores."""
    short = _short_tick(summary)
    kept = _sparse(axis, 13)
    return _svg("".join(_text(axis.place(t), 11, short(t)) for t in kept), 14, "", "ticks")


def difference_axis(summary: Summary) -> Axis:
    """For the paired differences to the best. One far from all others is cut off, not obeyed."""
    rows = [e["versus_best"] for e in summary["optimizers"] if e["versus_best"]]
    ends = [row[key] for row in rows for key in ("mean", "low", "high") if row[key] is not None]
    sizes = sorted(abs(end) for end in ends)
    usual = sizes[len(sizes) // 2] if sizes else 1.0
    kept = [end for end in ends if abs(end) <= 6 * usual] or [-1.0]
    low, high = _apart(min(*kept, 0.0), max(*kept, 0.0))
    return Axis(low, high, _round_ticks(low, high))


def difference(entry: Mapping[str, Any], axis: Axis, summary: Summary) -> str:
    """One row of the forest: the mean difference, its interval, and the line of no difference."""
    versus = entry["versus_best"]
    zero = axis.place(0)
    marks = [_line(zero, zero, 0, 26, "zero")]
    if versus["mean"] is not None:
        low = versus["mean"] if versus["low"] is None else versus["low"]
        high = versus["mean"] if versus["high"] is None else versus["high"]
        marks.append(_line(axis.place(low), axis.place(high), 13, 13, "interval"))
        if axis.low <= versus["mean"] <= axis.high:
            marks.append(_dot(axis.place(versus["mean"]), 13, 4.5, "mean"))
        if low < axis.low:
            marks.append(_arrow(axis.margin, 13, -1))
        if high > axis.high:
            marks.append(_arrow(100 - axis.margin, 13, 1))
    label = f"{entry['name']}: {shown_difference(versus['mean'], summary)}, {versus['words']}"
    return _svg("".join(marks), 26, label)


def difference_ticks(axis: Axis, summary: Summary) -> str:
    """The axis below the forest."""
    texts = (_text(axis.place(t), 11, _plain_difference(t, summary)) for t in _sparse(axis, 13))
    return _svg("".join(texts), 14, "", "ticks")


def _plain_difference(value: float, summary: Summary) -> str:
    """A tick: as few digits as it takes."""
    scale = 100 if summary["problem"]["metric"] == "accuracy" else 1
    return f"{scale * value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def rate_axis(summary: Summary) -> Axis:
    """Learning rates of all trials and defaults, by decades."""
    rates = [
        float(hyper[first])
        for entry in summary["optimizers"]
        for first in entry["tuned_parameters"][:1]
        for hyper in (*(p["hyper"] for p in entry["trials"]["points"]), entry["defaults"])
        if isinstance(hyper.get(first), (int, float)) and hyper[first] > 0
    ]
    low, high = _apart(*(math.log10(f(rates)) for f in (min, max))) if rates else (-4.0, 0.0)
    decades = tuple(float(k) for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1))
    return Axis(low, high, decades, margin=5.0)


def sensitivity(entry: Mapping[str, Any], x: Axis, y: Axis, summary: Summary) -> str:
    """Each trial of one optimizer: its learning rate against its validation score."""
    height, first = 132, entry["tuned_parameters"][0]
    row = lambda score: (
        12 + (height - 44) * (1 - (y.place(score) - y.margin) / (100 - 2 * y.margin))
    )
    column = lambda rate: x.place(math.log10(rate))
    marks = [_grid(x, y, row, height, summary)]
    points = sorted(
        (p for p in entry["trials"]["points"] if _rate(p["hyper"], first)),
        key=lambda p: p["hyper"][first],
    )
    if len(entry["tuned_parameters"]) == 1:
        seen = [(column(p["hyper"][first]), _seen(p)) for p in points if _seen(p) is not None]
        for (x1, a), (x2, b) in itertools.pairwise(seen):
            marks.append(_line(x1, x2, row(a), row(b), "path"))
    default = _rate(entry["defaults"], first)
    if default:
        marks.append(_line(column(default), column(default), 6, height - 30, "default"))
    best = entry["best"]["trial"] if entry["best"] else None
    order = {id(p): k for k, p in enumerate(entry["trials"]["points"])}
    for p in points:
        marks.append(
            _trial(p, column(p["hyper"][first]), row, height, order[id(p)] == best, summary)
        )
    label = f"{entry['name']}: validation {summary['problem']['metric']} against {first}"
    return _svg("".join(marks), height, label, "panel")


def key(index: int) -> str:
    """A short piece of an optimizer's line, for legends."""
    return f'<svg class="key k{index % 10}" width="26" height="10" aria-hidden="true">' + (
        '<line x1="1" x2="25" y1="5" y2="5"/></svg>'
    )


def _trial(
    point: Mapping[str, Any], x: float, row: Any, height: int, best: bool, summary: Summary
) -> str:
    score = _seen(point)
    said = ", ".join(f"{name} {value:g}" for name, value in point["hyper"].items())
    title = f"{said}: {point['status']}, {shown(score, summary)}"
    if score is None:
        return _cross(x, height - 27, title)
    kind = "stopped" if point["status"] == "stopped" else "trial"
    mark = _dot(x, row(score), 3.5, kind, title)
    return (_dot(x, row(score), 7, "ring") if best else "") + mark


def _seen(point: Mapping[str, Any]) -> float | None:
    """The last validation score of a trial; none of one that diverged or failed."""
    return point["last"] if point["status"] in ("ok", "stopped") else None


def _grid(x: Axis, y: Axis, row: Any, height: int, summary: Summary) -> str:
    short = _short_tick(summary)
    marks = []
    for tick in _sparse(y, 30):
        marks.append(_line(0, 100, row(tick), row(tick), "grid"))
        marks.append(_text(0, row(tick) - 3, short(tick), "start"))
    for tick in _sparse(x, 18):
        marks.append(_text(x.place(tick), height - 4, f"1e{tick:.0f}"))
    return "".join(marks)


def _rate(hyper: Mapping[str, Any], name: str) -> float | None:
    value = hyper.get(name)
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _short_tick(summary: Summary) -> Callable[[float], str]:
    if summary["problem"]["metric"] == "accuracy":
        return lambda value: f"{100 * value:g}%"
    return lambda value: f"{value:.3g}"


def _sparse(axis: Axis, gap: float) -> list[float]:
    """Ticks at least `gap` percent apart, from the high end down."""
    kept: list[float] = []
    for tick in sorted(axis.ticks, reverse=True):
        if not kept or axis.place(kept[-1]) - axis.place(tick) >= gap:
            kept.append(tick)
    return kept[::-1]


def _round_ticks(low: float, high: float) -> tuple[float, ...]:
    """About five round numbers between two ends."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
    first = math.ceil(low / step)
    return tuple(round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1))


def _apart(low: float, high: float) -> tuple[float, float]:
    """Two ends with some room between and around them."""
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _svg(inner: str, height: int, label: str, kind: str = "") -> str:
    named = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return f'<svg class="fig {kind}" width="100%" height="{height}" {named}>{inner}</svg>'


def _line(x1: float, x2: float, y1: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, r: float, kind: str, title: str = "") -> str:
    said = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle class="{kind}" cx="{x:.2f}%" cy="{y:.1f}" r="{r}">{said}</circle>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.2f}%" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _shape(x: float, y: float, path: str, kind: str, title: str = "") -> str:
    """A path around a point; an inner svg is what takes a percentage as its place."""
    said = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<svg x="{x:.2f}%" y="{y:.1f}" overflow="visible" class="{kind}">'
        f'<path d="{path}">{said}</path></svg>'
    )


def _diamond(x: float, y: float) -> str:
    return _shape(x, y, "M0-5L5 0L0 5L-5 0Z", "diamond")


def _cross(x: float, y: float, title: str) -> str:
    return _shape(x, y, "M-4-4L4 4M-4 4L4-4", "cross", title)


def _arrow(x: float, y: float, side: int, kind: str = "arrow") -> str:
    return _shape(x, y, f"M{7 * side} 0L0-5L0 5Z", kind)


def colour_class(index: int) -> str:
    return f"c{index % 10}"


def rows_in_order(summary: Summary, order: Sequence[str]) -> list[tuple[int, Mapping[str, Any]]]:
    """The optimizers, best first, with the number of their colour: their place in the study."""
    return [(list(order).index(entry["name"]), entry) for entry in summary["optimizers"]]
