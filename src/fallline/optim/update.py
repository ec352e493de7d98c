"""A bound optimizer: formulas with their settings, applied one after the other to trees of arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fallline.core import tree
from fallline.core.graph import Graph, trace
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import Tracer
from fallline.optim.formula import Formula, Settings, is_fixed, nearest, weak_spec
from fallline.optim.optimizer import Evaluate, Optimizer
from fallline.optim.space import Space

Leaves = list[Any]


@dataclass(frozen=True, eq=False)
class Part:
    """A formula with a value for each of its hyperparameters.

    only  a predicate on the names of the arrays ("layers.0.W"): the others pass unchanged.
    """

    formula: Formula
    settings: Settings
    only: Callable[[str], bool] | None = None

    @property
    def numbers(self) -> Settings:
        """The settings that are numbers or schedules of them."""
        return {n: v for n, v in self.settings.items() if not isinstance(v, (bool, str, type(None)))}

    @property
    def changing(self) -> list[str]:
        """The hyperparameters that are inputs of the formula's graph."""
        return [n for n, v in self.settings.items() if not is_fixed(v)]

    @property
    def slots(self) -> dict[str, Any]:
        return self.formula.slots_of(self.settings)

    def hyper(self, t: int) -> dict[str, float]:
        """The numeric hyperparameters at step t."""
        return {n: self._at(n, v, t) for n, v in self.numbers.items()}

    def _at(self, name: str, value: Any, t: int) -> Any:
        if not callable(value):
            return value
        if t.__class__ is Tracer:
            raise TypeError(
                f"{self.formula.name}: the schedule of {name} cannot be traced; it is evaluated by Python. "
                "Pass the hyperparameters of the step: step(..., hyper=...)."
            )
        now = value(t)
        return self.formula.number(name, now if callable(now) is False else np.nan)

    def start(self, start: Any, params: Leaves) -> Leaves:
        """One slot before the first step: a number, the value of a hyperparameter, or a function of p."""
        if isinstance(start, str):
            start = self.hyper(1)[start]
        make = start if callable(start) else lambda p: np.full_like(p, start)
        return [make(p) for p in params]

    def apply(
        self,
        names: Sequence[str],
        arrays: Sequence[Leaves],
        scalars: list[Any],
        numbers: Mapping[str, Any],
    ) -> tuple[list[Leaves], list[Any]]:
        """New leading results and slots, and new scalars.

        arrays  the leaves of g, of p and of each slot. numbers  t and the hyperparameters.
        """
        chosen = [i for i, name in enumerate(names) if self.only is None or self.only(name)]
        rows = [[leaves[i] for leaves in arrays] for i in chosen]
        lead = len(self.formula.leading)
        whole = self.formula.per == "global" and len(rows) > 1
        results, scalars = self._run([_joined(rows)] if whole else rows, scalars, numbers)
        if whole:
            results = _split(results[0], [row[1] for row in rows])
        kept = {"g": arrays[0], "p": arrays[1]}
        new = [list(kept[x]) for x in self.formula.leading] + [list(s) for s in arrays[2:]]
        for i, result in zip(chosen, results, strict=True):
            for k in range(lead + len(arrays) - 2):
                new[k][i] = result[k]
        return new, scalars

    def _run(
        self, rows: list[list[Any]], scalars: list[Any], numbers: Mapping[str, Any]
    ) -> tuple[list[list[Any]], list[Any]]:
        """The formula on each row (g, p, slots); the scalars are the same for all."""
        values = dict(zip(self.formula.scalars, scalars, strict=True))
        values |= {n: numbers[n] for n in [*self._from_step, *self.changing]}
        fixed = {n: v for n, v in self.settings.items() if is_fixed(v)}
        specs = {n: weak_spec(v) for n, v in values.items()}
        found, new = [], scalars
        for row in rows:
            formula = self.formula.recorded(tuple(map(spec_of, row)), specs, fixed)
            out = formula(row, list(values.values()))
            found.append(out[: len(out) - len(scalars)])
            new = out[len(out) - len(scalars) :]
        return found, new

    @property
    def _from_step(self) -> list[str]:
        """What the formula needs of the step itself (t) or of the rule (a transform's lr)."""
        return [n for n in sorted(self.formula.borrowed & self.formula.takes) if n not in self.settings]

    def __repr__(self) -> str:
        shown = {n: v for n, v in self.settings.items() if n in self.numbers or v != self.formula.hypers[n]}
        only = ", only=..." if self.only else ""
        return f"{self.formula.name}({', '.join(f'{n}={v!r}' for n, v in shown.items())}{only})"


class Update(Optimizer):
    """Transforms and, last, a rule. `optim.lion(lr=1e-4)` is one with the rule alone.

    Calling it, or `bind`, gives one with other hyperparameters:

    >>> from fallline import optim
    >>> optim.adamw(lr=1e-2)
    adamw(decay(wd=0.01), adam(lr=0.01, b1=0.9, b2=0.999, eps=1e-08))
    """

    def __init__(self, parts: Sequence[Part], *, name: str = "", doc: str = "") -> None:
        self.parts = tuple(parts)
        self.rule = self.parts[-1]
        self.name = name or "+".join(part.formula.name for part in self.parts)
        self.given_name = name
        self.doc = doc or self.rule.formula.doc
        self._hypers = _labels(self.parts, lambda part: part.settings)
        self._states = _labels(self.parts, lambda part: [*part.slots, *part.formula.scalars])

    # -- the interface of optimizers

    def init(self, params: Any) -> dict[str, Any]:
        """The slots, each a tree like the parameters, and the scalar states, by name."""
        leaves, structure = _arrays(params)
        for name, p in tree.named_leaves(params):
            if spec_of(p).dtype.kind != "f":
                where = f" at {name}" if name else ""
                raise TypeError(
                    f"{self.name}: parameters must be of a float type; got {spec_of(p).dtype}{where}."
                )
        state: dict[str, Any] = {}
        for part, labels in zip(self.parts, self._states, strict=True):
            for slot, start in part.slots.items():
                state[labels[slot]] = tree.unflatten(structure, part.start(start, leaves))
            state |= {labels[s]: float(x) for s, x in part.formula.scalars.items()}
        return state

    def step(
        self, evaluate: Evaluate, params: Any, state: Any, *, t: Any, hyper: Any = None
    ) -> tuple[Any, Any, Any]:
        hyper = self.hyper(t) if hyper is None else hyper
        value, grads = evaluate(self.point(params, state, t=t, hyper=hyper))
        params, state = self.update(grads, params, state, t=t, hyper=hyper)
        return params, state, value

    def hyper(self, t: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for part, labels in _rule_first(self.parts, self._hypers):
            found |= {labels[n]: x for n, x in part.hyper(t).items()}
        return found

    def describe(self) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for part, labels in _rule_first(self.parts, self._hypers):
            shown |= {labels[n]: _plain(v) for n, v in part.settings.items()}
        return {"name": self.name, "parts": [p.formula.name for p in self.parts], "settings": shown}

    # -- its two halves, for whoever records or compiles them

    def point(self, params: Any, state: Any, *, t: Any, hyper: Mapping[str, Any]) -> Any:
        """Where the gradient is taken: at the parameters, unless the rule looks ahead."""
        look = self.rule.formula.look_from(self.rule)
        if look is None:
            return params
        leaves, structure = _arrays(params)
        arrays = [leaves, leaves, *self._slots_of(self.rule, self._states[-1], state)]
        names = [name for name, _ in tree.named_leaves(params)]
        numbers = {"t": t} | {n: hyper[label] for n, label in self._hypers[-1].items() if label in hyper}
        new, _ = look.apply(names, arrays, [], numbers)
        return tree.unflatten(structure, new[0])

    def update(
        self, grads: Any, params: Any, state: Any, *, t: Any, hyper: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """New parameters and state from a gradient: a pure function of trees of arrays or tracers."""
        p, structure = _arrays(params)
        g = _gradients(self.name, grads, p, structure)
        names = [name for name, _ in tree.named_leaves(params)]
        new_state = dict(state)
        for part, labels, hypers in zip(self.parts, self._states, self._hypers, strict=True):
            numbers = {"t": t, "lr": self._rate(hyper)}
            numbers |= {n: hyper[label] for n, label in hypers.items() if label in hyper}
            slots = self._slots_of(part, labels, state)
            scalars = [state[labels[s]] for s in part.formula.scalars]
            new, scalars = part.apply(names, [g, p, *slots], scalars, numbers)
            for which in part.formula.leading:
                g, p = (new.pop(0), p) if which == "g" else (g, new.pop(0))
            new_state |= {
                labels[s]: tree.unflatten(structure, x) for s, x in zip(part.slots, new, strict=True)
            }
            new_state |= {labels[s]: x for s, x in zip(part.formula.scalars, scalars, strict=True)}
        return tree.unflatten(structure, p), new_state

    def trace_update(self, params: Any) -> Graph:
        """The graph of `update` for parameters of these shapes and types (arrays or `Spec`s).

        Its inputs are the leaves of g, p and the state (slots and scalars, by name in alphabetical order),
        then t and the hyperparameters, also in alphabetical order; numbers are weak. Its outputs are the
        new p and the new state in the same order.

        >>> from fallline import optim
        >>> from fallline.core.spec import array_spec
        >>> print(optim.sgd(lr=0.1).trace_update(array_spec((3,), "float32")))
        sgd(g: f32[3], p: f32[3], t: int, lr: float)
          a: f32[3] = multiply(lr, g)
          b: f32[3] = subtract(p, a)
          return b
        """
        specs = tree.tree_map(_strong, params)
        hollow = tree.tree_map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), specs)
        state = tree.tree_map(lambda x: x if x.__class__ is float else _strong(x), self.init(hollow))

        def update(g: Any, p: Any, state: Any, t: Any, hyper: Any) -> Any:
            return self.update(g, p, state, t=t, hyper=hyper)

        update.__name__ = self.name
        examples = (specs, specs, state, 1, self.hyper(1))
        heads = ("g", "p", "", "t", "")
        names = [
            ".".join(filter(None, (head, path)))
            for head, example in zip(heads, examples, strict=True)
            for path, _ in tree.named_leaves(example)
        ]
        return trace(update, *examples, names=names)

    @property
    def flat(self) -> bool:
        """Whether one vector of all parameters may stand for the tree, with the same results."""
        return all(part.formula.per != "tensor" and part.only is None for part in self.parts)

    # -- what it is made of

    @property
    def defaults(self) -> dict[str, Any]:
        """The numeric settings, schedules as they are."""
        return {
            labels[n]: v
            for part, labels in _rule_first(self.parts, self._hypers)
            for n, v in part.numbers.items()
        }

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        return {
            labels[n]: v
            for part, labels in _rule_first(self.parts, self._hypers)
            for n, v in part.formula.options.items()
        }

    @property
    def space(self) -> Space:
        """The search spaces of the parts, the rule's first."""
        return {
            labels[n]: v
            for part, labels in _rule_first(self.parts, self._hypers)
            for n, v in part.formula.space.items()
        }

    @property
    def formula(self) -> str:
        return block if (block := _formula(self.doc)) else self.rule.formula.formula

    def bind(self, **hyper: Any) -> Update:
        """The same optimizer with these hyperparameters changed."""
        known = [label for labels in self._hypers for label in labels.values()]
        for name in hyper:
            if name not in known:
                raise TypeError(f"{self.name}: no hyperparameter {name!r}. {nearest(name, known)}")
        parts = []
        for part, labels in zip(self.parts, self._hypers, strict=True):
            changed = {n: hyper[label] for n, label in labels.items() if label in hyper}
            settings = part.formula.settle({**part.settings, **changed})
            parts.append(replace(part, settings=settings))
        return Update(parts, name=self.given_name, doc=self.doc)

    __call__ = bind

    def __repr__(self) -> str:
        if len(self.parts) == 1 and self.name == self.rule.formula.name:
            return repr(self.rule)
        return f"{self.given_name or 'chain'}({', '.join(map(repr, self.parts))})"

    # -- inside

    def _slots_of(self, part: Part, labels: Mapping[str, str], state: Any) -> list[Leaves]:
        return [_arrays(state[labels[slot]])[0] for slot in part.slots]

    def _rate(self, hyper: Mapping[str, Any]) -> Any:
        """The rule's lr, which transforms may use."""
        return hyper.get("lr")


def _formula(doc: str) -> str:
    lines = doc.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    rest = lines[start:]
    end = next((i for i, x in enumerate(rest) if x and not x.startswith("    ")), len(rest))
    return inspect.cleandoc("\n".join(rest[:end]))
