"""Search spaces: which values of a hyperparameter are worth trying, as data beside the rule.

A space is a dict from name to `Log`, `OneMinusLog`, `Linear` or `Choice`, in the order in which the
hyperparameters deserve to be tuned: with few trials only the first is.

>>> space = {"lr": Log(1e-5, 1e-1), "b1": OneMinusLog(0.02, 0.5), "b2": Choice((0.99, 0.999))}
>>> space["lr"].at(0.5), space["b1"].at(0.0), space["b2"].at(0.7)
(0.001, 0.98, 0.999)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIGITS = 4  # significant digits of a tried value: what a report prints is what was run


@dataclass(frozen=True)
class Log:
    """Between low and high, evenly on a logarithmic scale: learning rates, decay, eps."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"Log: need 0 < low < high; got {self.low} and {self.high}.")

    def at(self, u: float) -> float:
        """The value at u in [0, 1], to four significant digits."""
        return _rounded(self.low * (self.high / self.low) ** u)

    def unit(self, value: float) -> float:
        """Where a value lies: 0 at low, 1 at high, outside [0, 1] beyond them."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def widened(self, side: str) -> Log:
        """One decade more at its "low" or "high" side."""
        return Log(self.low / 10, self.high) if side == "low" else Log(self.low, self.high * 10)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log"


@dataclass(frozen=True)
class OneMinusLog:
    """A decay b whose 1 - b lies between low and high, evenly on a logarithmic scale.

    b = 0.9, 0.99 and 0.999 are then equally far apart, as their memories 1/(1-b) are. `low`, `high`
    and the unit interval are those of 1 - b, so u = 0 is the longest memory.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < 1:
            raise ValueError(f"OneMinusLog: need 0 < low < high < 1; got {self.low}, {self.high}.")

    def at(self, u: float) -> float:
        return round(1 - _rounded(self.low * (self.high / self.low) ** u), 12)

    def unit(self, value: float) -> float:
        return math.log((1 - value) / self.low) / math.log(self.high / self.low)

    def widened(self, side: str) -> OneMinusLog:
        """One decade more, but never as far as b = 0."""
        if side == "low":
            return OneMinusLog(self.low / 10, self.high)
        return OneMinusLog(self.low, max(self.high, 0.95))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} for 1 - b, log"


@dataclass(frozen=True)
class Linear:
    """Between low and high, evenly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"Linear: need low < high; got {self.low} and {self.high}.")

    def at(self, u: float) -> float:
        return _rounded(self.low + (self.high - self.low) * u)

    def unit(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def widened(self, side: str) -> Linear:
        """As wide again at its "low" or "high" side."""
        width = self.high - self.low
        if side == "low":
            return Linear(self.low - width, self.high)
        return Linear(self.low, self.high + width)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of a few values, in a meaningful order if they have one. It has no edge to widen."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError("Choice: needs at least one value.")

    def at(self, u: float) -> Any:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def unit(self, value: Any) -> float:
        """The middle of the value's share of [0, 1]."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


Range = Log | OneMinusLog | Linear
Space = Mapping[str, Range | Choice]

_KINDS: dict[str, type[Log] | type[OneMinusLog] | type[Linear]] = {
    "log": Log,
    "one-minus-log": OneMinusLog,
    "linear": Linear,
}


def space_to_json(space: Space) -> dict[str, Any]:
    """A space as plain data, its order kept."""
    return {name: _dimension_to_json(dimension) for name, dimension in space.items()}


def space_from_json(data: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """The inverse of `space_to_json`."""
    return {name: _dimension_from_json(entry) for name, entry in data.items()}


def _dimension_to_json(dimension: Range | Choice) -> dict[str, Any]:
    if isinstance(dimension, Choice):
        return {"kind": "choice", "values": list(dimension.values)}
    kind = next(kind for kind, type_ in _KINDS.items() if isinstance(dimension, type_))
    return {"kind": kind, "low": dimension.low, "high": dimension.high}


def _dimension_from_json(entry: Mapping[str, Any]) -> Range | Choice:
    if entry["kind"] == "choice":
        return Choice(tuple(entry["values"]))
    return _KINDS[entry["kind"]](entry["low"], entry["high"])


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
