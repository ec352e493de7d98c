"""A formula with its settings: one link of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fallline.core.spec import shape_of, spec_of
from fallline.core.trace import Tracer
from fallline.optim.formula import Formula, Settings
from fallline.optim.leaves import Leaves, joined, split
from fallline.optim.numbers import is_fixed, is_number, number_spec, plain


@dataclass(frozen=True, eq=False)
class Part:
    """A formula with a value for each of its hyperparameters.

    only  a predicate on the names of the arrays ("layers.0.W"): the others pass unchanged.
    """

    formula: Formula
    settings: Settings
    only: Callable[[str], bool] | None = None

    @cached_property
    def numbers(self) -> Settings:
        """The settings that are numbers, or schedules of them."""
        return {n: v for n, v in self.settings.items() if callable(v) or is_number(v)}

    @cached_property
    def changing(self) -> list[str]:
        """The hyperparameters that are inputs of the formula's graph."""
        return [n for n, v in self.settings.items() if not is_fixed(v)]

    @cached_property
    def fixed(self) -> Settings:
        """The settings that select the formula."""
        return {n: v for n, v in self.settings.items() if is_fixed(v)}

    @property
    def form(self) -> Hashable:
        """Equal for parts whose graphs are equal, and so are their slots."""
        fixed = tuple([(n, type(v), v) for n, v in self.fixed.items()])
        return self.formula, self.only, tuple(self.changing), fixed, tuple(self.slots)

    @cached_property
    def slots(self) -> dict[str, Any]:
        return self.formula.slots_of(self.settings)

    @property
    def state(self) -> list[str]:
        """The names of its slots and scalars."""
        return [*self.slots, *self.formula.scalars]

    def at(self, name: str, t: Any) -> Any:
        """A numeric hyperparameter at step t."""
        value = self.settings[name]
        if not callable(value):
            return value
        if t.__class__ is Tracer:
            raise TypeError(
                f"{self.formula.name}: the schedule of {name} is evaluated by Python and cannot be "
                "traced. Pass the hyperparameters of the step: step(..., hyper=...)."
            )
        return self.formula.number(name, value(t), at=f" at step {t}")

    def start(self, start: Any, params: Leaves) -> Leaves:
        """A slot before the first step."""
        if callable(start):
            return [np.array(start(p), p.dtype) for p in params]  # nobody else's
        value = self.at(start, 1) if isinstance(start, str) else start
        return [np.full_like(p, value) for p in params]

    def apply(
        self,
        names: Sequence[str],
        arrays: list[Leaves],
        scalars: list[Any],
        numbers: Mapping[str, Any],
    ) -> tuple[Leaves, list[Leaves], list[Any]]:
        """The leaves of what it changes, of the slots, and the scalars.

        arrays  the leaves of each operand and each slot. numbers  t and the hyperparameters.
        """
        chosen = [i for i, name in enumerate(names) if self.only is None or self.only(name)]
        rows = [[leaves[i] for leaves in arrays] for i in chosen]
        whole = self.formula.per == "global" and len(rows) > 1
        results, scalars = self._run([joined(rows)] if whole else rows, scalars, numbers)
        if whole:
            results = split(results[0], [shape_of(row[0]) for row in rows])
        operands = self.formula.operands
        changed = arrays[operands.index(self.formula.changes)]
        new = [list(leaves) for leaves in (changed, *arrays[len(operands) :])]
        for i, row in zip(chosen, results, strict=True):
            for leaves, value in zip(new, row, strict=True):
                leaves[i] = value
        return new[0], new[1:], scalars

    def _run(
        self, rows: list[list[Any]], scalars: list[Any], numbers: Mapping[str, Any]
    ) -> tuple[list[list[Any]], list[Any]]:
        """The formula on each row of arrays. The scalars are the same for all rows."""
        named = dict(zip(self.formula.scalars, scalars, strict=True))
        named |= {n: numbers[n] for n in [*self.formula.from_step, *self.changing]}
        named = {n: plain(v) for n, v in named.items()}
        specs = {n: number_spec(v) for n, v in named.items()}
        slots, found, new = tuple(self.slots), [], scalars
        for row in rows:
            formula = self.formula.recorded(tuple(map(spec_of, row)), slots, specs, self.fixed)
            out = formula(row, list(named.values()))
            found.append(out[: 1 + len(slots)])
            new = out[1 + len(slots) :]
        return found, new

    def __repr__(self) -> str:
        defaults = self.formula.hypers
        shown = {n: v for n, v in self.settings.items() if n == "lr" or v != defaults[n]}
        given = [f"{n}={v!r}" for n, v in shown.items()] + ["only=..."] * (self.only is not None)
        return f"{self.formula.name}({', '.join(given)})"
