"""The engine under `fit`: data and state in memory, and compiled steps over them, many in one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.compile.plan import Frame
from fallline.compile.texts import NOT_FINITE
from fallline.core import tree
from fallline.core.spec import Spec, array_spec
from fallline.data import epoch_order
from fallline.nn.module import Module
from fallline.ops import loss as losses
from fallline.ops import philox
from fallline.train.errors import DivergedError
from fallline.train.step import LOSS, Layout, Objective, StepPlan, record_evaluation, record_step

CALL_SECONDS = 0.05  # a compiled call returns to Python about this often: Ctrl-C, progress
MOST_ROWS = 1024  # steps in one call
EVALUATION_ROWS = 2048  # examples in one evaluation call

_plans: dict[Any, StepPlan] = {}
_evaluations: dict[Any, Any] = {}
_MOST_PLANS = 64


class Trainer:
    """Trains a network in place, a number of steps at a time.

    Parameters and slots are flat vectors; X and y stay in memory and batches are gathered inside the step. `steps(n)` takes the next n steps of
    the endless sequence of epochs and returns their losses.
    """

    def __init__(
        self,
        net: Module,
        data: tuple[Any, Any],
        *,
        loss: str | Callable[..., Any],
        optimizer: Any,
        batch_size: int | None = 32,
        seed: int = 0,
        sample_weight: Any = None,
        penalty: Any = None,
        drop_last: bool = False,
        replacement: bool = False,
    ) -> None:
        self.net = net
        self.X, self.y = np.ascontiguousarray(data[0]), np.ascontiguousarray(data[1])
        self.n = len(self.X)
        self.batch_size = min(batch_size or self.n, self.n)
        self.optimizer, self.seed = optimizer, seed
        self.drop_last, self.replacement = drop_last, replacement
        self.params = net.gather()
        leaves, structure = tree.flatten(net)
        self.layout = Layout(structure, tuple(x.shape for x in leaves), self.params.dtype)
        self.weights = (
            None
            if sample_weight is None
            else np.ascontiguousarray(sample_weight, self.params.dtype)
        )
        loss = losses.by_name(loss) if isinstance(loss, str) else loss
        self.objective = Objective(loss, penalty, self.n, self.weights is not None)
        self.t = 0
        self.epoch = 0  # of the next step
        self.position = 0  # in that epoch, in examples
        self._order: np.ndarray[Any, Any] | None = None
        self._start_state()
        self._runs: dict[int, _Run] = {}

    def _start_state(self) -> None:
        flat = self.optimizer.flat
        start = self.optimizer.init(self.params if flat else self.layout.views(self.params))
        leaves, _ = tree.flatten(start)
        arrays = [np.ascontiguousarray(x) for x in leaves if not isinstance(x, float)]
        count = 1 if flat else len(self.layout.shapes)
        self.slots = [
            np.concatenate([a.ravel() for a in arrays[i : i + count]])
            for i in range(0, len(arrays), count)
        ]
        self.scalars = [x for x in leaves if isinstance(x, float)]

    # -- the sequence of batches

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches in an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def _next_batches(self, most: int) -> tuple[int, int]:
        """(batch size, how many such batches follow one another in this epoch, at most `most`)."""
        end = self.n - self.n % self.batch_size if self.drop_last else self.n
        if self.position >= end:
            self.epoch += 1
            self.position = 0
            self._order = None
        if self._order is None:
            self._order = epoch_order(self.n, self.seed, self.epoch, replacement=self.replacement)
        left = end - self.position
        if left < self.batch_size:
            return left, 1
        return self.batch_size, min(most, left // self.batch_size)

    # -- running

    @property
    def chunk(self) -> int:
        """So many steps take about as long as a person waits for a sign of life."""
        known = [r.seconds for r in self._runs.values() if r.seconds]
        return max(1, int(CALL_SECONDS / max(known))) if known else 1

    def steps(self, n: int) -> np.ndarray[Any, Any]:
        """Take n steps; the loss of each. Raises DivergedError, with the parameters as they were before the step, if one is not finite."""
        losses = np.empty(n, self.params.dtype)
        done = 0
        while done < n:
            batch, count = self._next_batches(n - done)
            run = self._run(batch)
            count = min(count, run.rows)
            taken = run.steps(self, count, losses[done : done + count])
            self.t += taken
            self.position += taken * batch
            done += taken
            if taken < count:
                error = DivergedError(self._diagnosis(losses[done]), self.t + 1)
                error.losses = losses[:done]
                raise error
        return losses

    def _run(self, batch: int) -> _Run:
        found = self._runs.get(batch)
        if found is None:
            found = self._runs[batch] = _Run(self, self._plan(batch))
        return found

    def _plan(self, batch: int) -> StepPlan:
        X, y = (array_spec(a.shape, a.dtype) for a in (self.X, self.y))
        key = _key(self.layout, self.objective, self.optimizer, X, y, batch)
        found = _plans.get(key)
        if found is None:
            found = record_step(self.layout, self.objective, self.optimizer, X, y, batch)
            if len(_plans) >= _MOST_PLANS:
                _plans.pop(next(iter(_plans)))
            _plans[key] = found
        return found

    # -- looking

    def evaluate(self, X: Any, y: Any, link: str) -> tuple[float, float]:
        """Mean loss and share of right answers on other data, penalty not counted."""
        X, y = np.ascontiguousarray(X), np.ascontiguousarray(y)
        params = self.optimizer.eval_params(self.params, None)
        total, right = 0.0, 0
        for start in range(0, len(X), EVALUATION_ROWS):
            part = slice(start, start + EVALUATION_ROWS)
            plan = self._evaluation(
                array_spec(X[part].shape, X.dtype), array_spec(y[part].shape, y.dtype), link
            )
            loss, hits = plan.run(params, X[part], y[part])
            total += float(loss)
            right += int(hits)
        return total / len(X), right / len(X)

    def _evaluation(self, X: Spec, y: Spec, link: str) -> Any:
        key = (self.layout, self.objective.loss, link, X, y)
        if key not in _evaluations:
            if len(_evaluations) >= _MOST_PLANS:
                _evaluations.pop(next(iter(_evaluations)))
            _evaluations[key] = record_evaluation(self.layout, self.objective.loss, link, X, y)
        return _evaluations[key]

    def _diagnosis(self, loss: float) -> str:
        from fallline.train.diagnosis import diagnose

        return diagnose(self, loss)


class _Run:
    """A frame of a plan, bound to a trainer's arrays."""

    def __init__(self, trainer: Trainer, step: StepPlan) -> None:
        self.step = step
        self.rows = MOST_ROWS if step.plan.scalars else 1 << 20
        self.frame: Frame = step.plan.frame(rows=MOST_ROWS)
        self.seconds = 0.0  # of one step
        for node, array in [
            (step.params, trainer.params),
            *zip(step.slots, trainer.slots, strict=True),
            (step.X, trainer.X),
            (step.y, trainer.y),
        ]:
            self.frame.bind(step.plan.base_of[node][0], array)
        if trainer.weights is not None:
            self.frame.bind(step.plan.base_of[step.weights][0], trainer.weights)
        self.key = np.zeros((MOST_ROWS, 4), np.uint32)
        self.key[:] = philox.fold_in(philox.key(trainer.seed), "train")
        self.frame.bind(step.plan.base_of[step.key][0], self.key, 16)
        self._index = step.plan.base_of[step.index][0]
        root = step.plan.lowered.outputs[LOSS]
        self._loss = None if root is None else step.plan.base_of[root][0]
        self._constant = not any(callable(v) for v in trainer.optimizer.defaults.values())

    def steps(self, trainer: Trainer, count: int, losses: np.ndarray[Any, Any]) -> int:
        """Up to `count` steps over the next batches; returns how many were completed."""
        done = 0
        batch = self.step.index.spec.shape[0]
        while done < count:
            chunk = min(
                count - done,
                MOST_ROWS,
                max(1, int(CALL_SECONDS / self.seconds)) if self.seconds else 1,
            )
            self._numbers(trainer, trainer.t + done + 1, chunk)
            start = trainer.position + done * batch
            self.frame.bind(self._index, trainer._order[start : start + chunk * batch], 8 * batch)  # type: ignore[index]
            if self._loss is not None:
                self.frame.bind(self._loss, losses[done : done + chunk], losses.itemsize)
            began = time.perf_counter()
            status = self.frame.walk_steps(chunk)
            self.seconds = (time.perf_counter() - began) / chunk
            if status:
                done += self.frame.walk.steps_done
                if status != NOT_FINITE:
                    raise IndexError("fit: a label or an index is out of bounds.")
                self._settle(trainer, self.frame.walk.steps_done)
                return done
            done += chunk
            self._settle(trainer, chunk)
        return done

    def _numbers(self, trainer: Trainer, t: int, count: int) -> None:
        """The scalars of the next steps, by Python in float64: one row for each."""
        self.key[:count, 2] += np.arange(t, t + count, dtype=np.uint32) - self.key[:count, 2]
        optimizer, plan = trainer.optimizer, self.step.plan
        names = self.step.numbers
        hyper = optimizer.hyper(t)
        scalars = list(trainer.scalars)
        self._after: list[list[float]] = []
        for row in range(count):
            if not self._constant and row:
                hyper = optimizer.hyper(t + row)
            given = [t + row, *[hyper[n] for n in names[1 : len(names) - len(scalars)]], *scalars]
            found = self.frame.numbers(given, row)
            if scalars:
                scalars = [
                    found[plan._position[id(plan.graph.outputs[i])]]
                    for i in self.step.scalar_states
                ]
                self._after.append(scalars)

    def _settle(self, trainer: Trainer, done: int) -> None:
        if self._after and done:
            trainer.scalars = list(self._after[done - 1])


def _key(layout: Layout, objective: Objective, optimizer: Any, X: Spec, y: Spec, batch: int) -> Any:
    """What a step's graph depends on; rates and other changing numbers are not part of it."""
    parts = getattr(optimizer, "parts", None)
    if parts is None:
        return object()  # never found again
    formulas = tuple(
        (
            part.formula,
            part.only,
            tuple((n, v) for n, v in part.settings.items() if n not in part.changing),
        )
        for part in parts
    )
    return layout, objective, formulas, tuple(optimizer.changing), X, y, batch
