"""The engine under `fit`: data and state in memory, compiled steps over them, many in one call."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from fallline.compiler.plan import Plan
from fallline.compiler.texts import NOT_FINITE
from fallline.compiler.threads import get_threads
from fallline.compiler.walker import STEPS_DONE, walk_together
from fallline.core import tree
from fallline.core.graph import Graph
from fallline.core.spec import spec_of
from fallline.data import epoch_order
from fallline.nn.module import Module
from fallline.ops import loss as losses
from fallline.ops import philox
from fallline.optim.catalogue import as_optimizer
from fallline.train.diagnosis import diagnose
from fallline.train.errors import DivergedError
from fallline.train.evaluation import record_evaluation
from fallline.train.step import (
    LOSS,
    FlatLayout,
    Objective,
    StepPlan,
    flat_vector,
    record_step,
)

CALL_SECONDS = 0.05  # a compiled call returns to Python about this often: Ctrl-C, progress
MOST_ROWS = 1024  # steps in one call
EVALUATION_ROWS = 2048  # examples in one evaluation call
MOST_PLANS = 64  # that are kept for other networks of the same shapes

Array = np.ndarray[Any, Any]
Made = TypeVar("Made")

_steps: dict[Any, StepPlan] = {}
_evaluations: dict[Any, Plan] = {}
_lock = threading.Lock()


class Trainer:
    """Trains a network in place, a number of steps at a time.

    Parameters and slots are flat vectors; X and y stay in memory and batches are gathered inside
    the step. `steps(n)` takes the next n steps of the endless sequence of epochs and returns their
    losses; however they are divided into calls, the bits are the same.

    t  steps taken. epoch, position  of the next step: the epoch, from 0, and the examples of it
    that were seen. seconds  spent on steps, with others beside it its own share of the threads.

    plans  a dict that several trainers are given: those of one loss and equal networks, data and
    optimizers but for numbers then trace their steps once.
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
        plans: dict[Any, Any] | None = None,
    ) -> None:
        self.net = net
        self.X, self.y = np.ascontiguousarray(data[0]), np.ascontiguousarray(data[1])
        self.n = len(self.X)
        self.batch_size = min(batch_size or self.n, self.n)
        self.optimizer, self.seed = as_optimizer(optimizer), seed
        self.drop_last, self.replacement = drop_last, replacement
        self.params = net.gather()
        leaves, structure = tree.flatten(net)
        self.layout = FlatLayout(structure, tuple(x.shape for x in leaves), self.params.dtype)
        self.weights: Array | None = None
        if sample_weight is not None:
            self.weights = np.ascontiguousarray(sample_weight, self.params.dtype)
        loss = losses.by_name(loss) if isinstance(loss, str) else loss
        self.objective = Objective(loss, penalty, self.n, self.weights is not None)
        self.slots, self.scalars = self._first_state()
        self.t = self.epoch = self.position = 0
        self.seconds = 0.0
        self._order: Array | None = None
        self._bound: dict[int, _BoundStep] = {}  # by batch size
        self._evaluated: dict[Any, Plan] = {}
        self._plans = {} if plans is None else plans  # traced by it or for others

    def _first_state(self) -> tuple[list[Array], list[float]]:
        """The optimizer's slots, each as one vector, and its scalars."""
        flat = self.optimizer.flat
        start = self.optimizer.init(self.params if flat else self.layout.views(self.params))
        leaves, self._state_structure = tree.flatten(start)
        self._is_scalar = [isinstance(x, float) for x in leaves]
        arrays = [np.asarray(x) for x in leaves if not isinstance(x, float)]
        run = 1 if flat else len(self.layout.shapes)
        slots = [
            np.concatenate([a.ravel() for a in arrays[i : i + run]])
            for i in range(0, len(arrays), run)
        ]
        return slots, [x for x in leaves if isinstance(x, float)]

    # -- training

    def steps(self, n: int) -> Array:
        """Take n steps; the loss of each.

        Raises DivergedError, with the parameters as they were before the step, where it is not
        finite.
        """
        found = np.empty(n, self.params.dtype)
        done = 0
        while done < n:
            batch, count = self._next_batches(n - done)
            taken = self._step_of(batch).take(found[done : done + count])
            done += taken
            if taken < count:
                raise self._diverged(found, done)
        return found

    def _diverged(self, losses: Array, done: int) -> DivergedError:
        """The error of a step whose loss, losses[done], is not finite."""
        error = DivergedError(diagnose(self, float(losses[done])), self.t + 1)
        error.losses = losses[:done]
        return error

    def prepare(self) -> None:
        """Trace, compile and load what `steps` needs, so that its time is that of training."""
        rest = self.n % self.batch_size
        for batch in [self.batch_size] + [rest] * (rest > 0 and not self.drop_last):
            self._step_of(batch)

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches in an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def chunk(self) -> int:
        """So many steps take about as long as a person waits for a sign of life."""
        known = [bound.seconds for bound in self._bound.values() if bound.seconds]
        return max(1, int(CALL_SECONDS / max(known))) if known else 1

    def rest(self) -> None:
        """Give back the memory that steps need, till the next one."""
        self._bound.clear()

    def explain(self) -> str:
        """The kernels of a step, in order, with their sources: `Plan.explain`."""
        return self._step_of(self.batch_size).step.plan.explain()

    def next_step(self) -> tuple[Graph, dict[int, Any]]:
        """The graph of the next step, and its arrays by the id of the node: to run it by hand."""
        batch, _ = self._next_batches(1)
        bound = self._step_of(batch)
        return bound.step.plan.graph, bound.arrays()

    def _next_batches(self, most: int) -> tuple[int, int]:
        """(batch size, how many of it follow one another in this epoch, at most `most`)."""
        end = self.n - self.n % self.batch_size if self.drop_last else self.n
        if self.position >= end:
            self.epoch += 1
            self.position = 0
            self._order = None
        left = end - self.position
        if left < self.batch_size:
            return left, 1
        return self.batch_size, min(most, left // self.batch_size)

    @property
    def order(self) -> Array:
        """The examples in the order of this epoch."""
        if self._order is None:
            self._order = _order(self.n, self.seed, self.epoch, self.replacement)
        return self._order

    def _step_of(self, batch: int) -> _BoundStep:
        found = self._bound.get(batch)
        if found is None:
            X, y = spec_of(self.X), spec_of(self.y)
            key = self.layout, self.objective, self.optimizer.form, X, y, batch
            given = self.layout, self.objective, self.optimizer, X, y, batch
            step = _kept(self._plans, key, lambda: _kept(_steps, *record_step(*given)))
            found = self._bound[batch] = _BoundStep(self, step)
        return found

    # -- looking

    @property
    def state(self) -> Any:
        """The optimizer's state, as it knows it; its arrays are views."""
        flat = self.optimizer.flat
        arrays = iter([a for s in self.slots for a in ([s] if flat else self.layout.views(s))])
        scalars = iter(self.scalars)
        leaves = [next(scalars if is_scalar else arrays) for is_scalar in self._is_scalar]
        return tree.unflatten(self._state_structure, leaves)

    def eval_params(self) -> Array:
        """The parameters that the optimizer would have evaluated, as one vector."""
        flat = self.optimizer.flat
        params = self.params if flat else self.layout.views(self.params)
        found = self.optimizer.eval_params(params, self.state)
        return found if flat else flat_vector(found)

    def evaluate(self, X: Any, y: Any, link: str) -> tuple[float, float]:
        """Mean loss and share of right answers on other data, penalty not counted."""
        X, y = np.ascontiguousarray(X), np.ascontiguousarray(y)
        params = self.eval_params()
        total, right = 0.0, 0
        for part in _parts(len(X)):
            loss, hits = self._evaluation(X[part], y[part], link).run(params, X[part], y[part])
            total += float(loss)
            right += int(hits)
        return total / len(X), right / len(X)

    def prepare_evaluation(self, X: Any, y: Any, link: str) -> None:
        """Trace, compile and load what `evaluate` needs for these data."""
        for part in {part.stop - part.start: part for part in _parts(len(X))}.values():
            self._evaluation(X[part], y[part], link).prepare()

    def _evaluation(self, X: Array, y: Array, link: str) -> Plan:
        key = self.layout, self.objective, link, spec_of(X), spec_of(y)
        if key not in self._evaluated:
            given = self.layout, self.objective.loss, link, spec_of(X), spec_of(y)
            make = lambda: _kept(_evaluations, *record_evaluation(*given))
            self._evaluated[key] = _kept(self._plans, key, make)
        return self._evaluated[key]


def steps_together(trainers: Sequence[Trainer], counts: Sequence[int]) -> list[Array | Exception]:
    """Take counts[i] steps of trainers[i], of all of them at the same time.

    Returns the losses of each, or the error that its `steps` would have raised. Each trainer is on
    one thread, and comes to stand where its own `steps` would have left it, to the bit. That is the
    way for many small networks, which the threads could not share: they take one each.
    """
    if len(set(map(id, trainers))) < len(trainers):
        raise ValueError("steps_together: each trainer may be given once; one is there twice.")
    tasks = [_Task(trainer, n) for trainer, n in zip(trainers, counts, strict=True)]
    while unfinished := [task for task in tasks if task.unfinished]:
        _take_together(unfinished)
    return [task.error or task.losses for task in tasks]


def _take_together(tasks: list[_Task]) -> None:
    """Take each task some steps further, in one call of about CALL_SECONDS, or in more."""
    n_threads = get_threads()
    budget = CALL_SECONDS * n_threads
    call: list[tuple[_Task, _BoundStep]] = []
    expected = 0.0
    for task in tasks:
        try:
            bound, losses = task.next()
            if not bound.seconds:
                task.advance(bound, bound.take(losses[:1]))
                continue
            bound.prepare(losses, bound.pace(budget / len(tasks)))
        except Exception as error:  # of a schedule, say; the others go on
            task.error = error
            continue
        call.append((task, bound))
        expected += bound.prepared * bound.seconds
        if expected > budget:
            _walk_together(call, n_threads)
            call, expected = [], 0.0
    if call:
        _walk_together(call, n_threads)


def _walk_together(call: list[tuple[_Task, _BoundStep]], n_threads: int) -> None:
    """Walk what was prepared, in one call."""
    steps = [bound.prepared for _, bound in call]
    began = time.perf_counter()
    try:
        walk_together([bound.frame.walk for _, bound in call], steps, n_threads)
        seconds = (time.perf_counter() - began) * min(n_threads, len(call))
    finally:
        taken = [bound.settle() for _, bound in call]
    expected = sum(n * bound.seconds for n, (_, bound) in zip(taken, call, strict=True))
    for n, (task, bound) in zip(taken, call, strict=True):
        bound.seconds *= seconds / expected if expected else 1.0
        task.trainer.seconds += n * bound.seconds
        task.advance(bound, n)


class _Task:
    """A number of steps that a trainer is to take, and how far it is."""

    def __init__(self, trainer: Trainer, n: int) -> None:
        self.trainer = trainer
        self.losses = np.empty(n, trainer.params.dtype)
        self.done = 0
        self.error: Exception | None = None

    @property
    def unfinished(self) -> bool:
        return self.error is None and self.done < len(self.losses)

    def next(self) -> tuple[_BoundStep, Array]:
        """The step of the next batches, and the places of their losses."""
        batch, count = self.trainer._next_batches(len(self.losses) - self.done)
        return self.trainer._step_of(batch), self.losses[self.done : self.done + count]

    def advance(self, bound: _BoundStep, taken: int) -> None:
        """Enter that so many steps were taken."""
        self.done += taken
        try:
            if not bound.succeeded():
                self.error = self.trainer._diverged(self.losses, self.done)
        except IndexError as error:
            self.error = error


class _BoundStep:
    """A step of one batch size, bound to a trainer's arrays."""

    def __init__(self, trainer: Trainer, step: StepPlan) -> None:
        self.trainer, self.step = trainer, step
        self.seconds = 0.0  # of one step
        self.frame = step.plan.frame(rows=MOST_ROWS)
        self.frame.bind(step.params, trainer.params)
        for node, array in zip(step.slots, trainer.slots, strict=True):
            self.frame.bind(node, array)
        self.frame.bind(step.X, trainer.X)
        self.frame.bind(step.y, trainer.y)
        if trainer.weights is not None:
            self.frame.bind(step.weights, trainer.weights)
        self.key = np.zeros((MOST_ROWS, 4), np.uint32)
        self.key[:] = philox.fold_in(philox.key(trainer.seed), "train")
        self.frame.bind(step.key, self.key, self.key.strides[0])
        self.loss = step.plan.lowered.outputs[LOSS]  # None: a constant
        self.has_schedules = any(map(callable, trainer.optimizer.defaults.values()))
        self.prepared = 0  # steps
        self.states: list[list[float]] = []  # the optimizer's scalars before each, and after all

    def take(self, losses: Array) -> int:
        """Steps over the next batches, one for each of the losses; how many were completed."""
        done = 0
        while done < len(losses):
            self.prepare(losses[done:], self.pace())
            began = time.perf_counter()
            try:
                self.frame.walk_steps(self.prepared)
                seconds = time.perf_counter() - began
                self.seconds = seconds / self.prepared
                self.trainer.seconds += seconds
            finally:
                done += self.settle()
            if not self.succeeded():
                break
        return done

    def pace(self, seconds: float = CALL_SECONDS) -> int:
        """Steps in so much time: the first is taken alone, to learn how long it takes."""
        return max(1, int(seconds / self.seconds)) if self.seconds else 1

    def prepare(self, losses: Array, most: int) -> None:
        """Make ready the next `prepared` steps, at most `most`; to be walked once."""
        began = time.perf_counter()
        trainer, frame, batch = self.trainer, self.frame, self.step.batch
        count = min(len(losses), most, MOST_ROWS)
        self.states = self._write_numbers(trainer.t + 1, count)
        order = trainer.order[trainer.position : trainer.position + count * batch]
        frame.bind(self.step.index, order, batch * order.itemsize)
        if self.loss is not None:
            frame.bind(self.loss, losses[:count], losses.itemsize)
        frame.walk.control[STEPS_DONE] = 0
        self.prepared = count
        trainer.seconds += time.perf_counter() - began

    def settle(self) -> int:
        """Enter into the trainer what was walked, all of it or less; the number of steps."""
        # Also after Ctrl-C. Python does not notice another one where nothing is called.
        trainer = self.trainer
        taken = int(self.frame.walk.control[STEPS_DONE])
        trainer.t += taken
        trainer.position += taken * self.step.batch
        trainer.scalars = self.states[taken]
        return taken

    def succeeded(self) -> bool:
        """Whether the walk was not stopped by a loss that is not finite."""
        status = self.frame.walk.status
        self.frame.raise_violation()
        if status not in (0, NOT_FINITE):
            raise IndexError("fit: a label or an index is out of bounds.")
        return status == 0

    def _write_numbers(self, t: int, count: int) -> list[list[float]]:
        """The numbers of the next steps, by Python in float64, a row each.

        Returns the optimizer's scalar states before each of the steps and after the last.
        """
        self.key[:count, 2] = np.arange(t, t + count)
        plan, outputs, state = self.step.plan, self.step.scalars, self.trainer.scalars
        states = [state]
        rates = self._rates(t)
        for row in range(count):
            if row and self.has_schedules:
                rates = self._rates(t + row)
            found = self.frame.numbers([t + row, *rates, *state], row)
            if outputs:
                state = [plan.number(node, found) for node in outputs]
            states.append(state)
        return states

    def _rates(self, t: int) -> list[float]:
        """The hyperparameters that are inputs of the step."""
        optimizer = self.trainer.optimizer
        hyper = optimizer.hyper(t)
        return [hyper[name] for name in optimizer.changing]

    def arrays(self) -> dict[int, Any]:
        """The arrays of the next step, by the id of the node."""
        trainer, step = self.trainer, self.step
        key = self.key[0].copy()
        key[2] = trainer.t + 1
        start = trainer.position
        found = {
            id(step.params): trainer.params,
            id(step.X): trainer.X,
            id(step.y): trainer.y,
            id(step.index): trainer.order[start : start + step.batch],
            id(step.key): key,
        }
        found |= {id(node): slot for node, slot in zip(step.slots, trainer.slots, strict=True)}
        if trainer.weights is not None:
            found[id(step.weights)] = trainer.weights
        return found


@functools.lru_cache(maxsize=16)
def _order(n: int, seed: int, epoch: int, replacement: bool) -> Array:
    """`epoch_order`: runs side by side often have the same seed."""
    order = epoch_order(n, seed, epoch, replacement=replacement)
    order.flags.writeable = False
    return order


def _parts(n: int) -> list[slice]:
    """The examples of each call of an evaluation."""
    return [slice(i, min(i + EVALUATION_ROWS, n)) for i in range(0, n, EVALUATION_ROWS)]


def _kept(plans: dict[Any, Made], key: Any, make: Callable[[], Made]) -> Made:
    """What was made for this key; the oldest is forgotten when there are too many."""
    found = plans.get(key)
    if found is None:
        made = make()
        with _lock:
            found = plans.setdefault(key, made)
            if len(plans) > MOST_PLANS:
                del plans[next(iter(plans))]
    return found
