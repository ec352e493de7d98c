"""Workers: pure functions from a task to its record, the same in this process and in any other.

`run_one` is the only place where the lab trains anything.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fallline.lab.contenders import Contender, contender
from fallline.lab.problem import Problem
from fallline.lab.protocol import Hyper, MedianRule
from fallline.lab.records import Key, Phase, Record, Status, key, versions

OnEpoch = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Task:
    """One trial or run that is to be made; see `Record`. baseline  see `MedianRule`, or None."""

    optimizer: str
    phase: Phase
    index: int
    seed: int
    hyper: Hyper
    baseline: tuple[tuple[float, ...], ...] | None = None

    @property
    def key(self) -> Key:
        return key(self.optimizer, self.phase, self.index, self.seed, self.hyper)


@dataclass(frozen=True)
class RunResult:
    """What a training run gives back; the fields are those of `Record`."""

    status: Status
    loss: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    epochs: list[dict[str, Any]] = field(default_factory=list)
    validation: float | None = None
    test: dict[str, float] | None = None
    seconds: float = 0.0
    message: str = ""


Run = Callable[..., RunResult]


def run_one(
    problem: Problem,
    optimizer: str | Contender,
    hyper: Mapping[str, Any],
    seed: int,
    on_epoch: OnEpoch | None = None,
    *,
    test: bool = True,
) -> RunResult:
    """Train the problem's network once, and measure it on the test examples if asked to.

    on_epoch  receives a dict after every epoch and returns whether to stop there. Initial weights
    and the order of the batches depend on the seed alone. Any error of the user's code comes
    through.
    """
    from fallline.train import DivergedError, fit

    network = problem.network(seed)
    follow = _Follow(problem, network, on_epoch)
    status: Status = "ok"
    message = ""
    try:
        history = fit(
            network,
            problem.data.train,
            loss=problem.loss,
            optimizer=contender(optimizer).bind(**hyper),
            epochs=problem.epochs,
            batch_size=problem.batch_size,
            validation=problem.data.validation,
            seed=seed,
            callbacks=(follow,),
            progress=False,
        )
        if history.stopped == "interrupted":
            raise KeyboardInterrupt  # fit gives back what it has; a record is whole or none
        if history.stopped:
            status = "stopped"
    except DivergedError as diverged:
        if diverged.history is None:
            raise
        history, status, message = diverged.history, "diverged", str(diverged)
    epochs = [{**row, **more} for row, more in zip(history.epochs, follow.extra, strict=True)]
    return RunResult(
        status=status,
        loss=np.asarray(history.loss, dtype=np.float32),
        epochs=epochs,
        validation=epochs[-1].get("val_" + problem.metric.name) if status == "ok" else None,
        test=_tested(problem, network) if test and status == "ok" else None,
        seconds=float(history.seconds),
        message=message,
    )


def execute(
    task: Task,
    problem: Problem,
    optimizer: str | Contender,
    run: Run = run_one,
    on_epoch: Callable[[Task, dict[str, Any]], None] | None = None,
    jobs: int = 1,
) -> Record:
    """A task's record, whatever happens short of Ctrl-C: an exception is a record too."""
    rule = None if task.baseline is None else MedianRule(task.baseline, problem.epochs)
    scores: list[float] = []

    def each_epoch(epoch: dict[str, Any]) -> bool:
        if on_epoch is not None:
            on_epoch(task, epoch)
        scores.append(problem.metric.good(epoch.get("val_" + problem.metric.name)))
        return rule is not None and rule(scores)

    start = time.perf_counter()
    try:
        with np.errstate(all="ignore"):  # divergence is a result here, not a surprise
            result = run(
                problem, optimizer, task.hyper, task.seed, each_epoch, test=task.phase != "trial"
            )
    except Exception as error:
        result = RunResult(
            "failed", seconds=time.perf_counter() - start, message=_where_and_what(error)
        )
    return Record(
        optimizer=task.optimizer,
        phase=task.phase,
        index=task.index,
        seed=task.seed,
        hyper=dict(task.hyper),
        **vars(result),
        jobs=jobs,
        versions=_versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def execute_apart(
    task: Task, problem: Problem, optimizer: str | Contender, run: Run, jobs: int
) -> Record:
    """`execute` in another process: one thread, Ctrl-C and terminal left to the coordinator."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["FALLLINE_QUIET"] = "1"
    _one_thread()
    return execute(task, problem, optimizer, run, jobs=jobs)


class _Follow:
    """The callback that listens to `fit`: after every epoch, what the lab wants to know."""

    def __init__(self, problem: Problem, network: Any, on_epoch: OnEpoch | None) -> None:
        self.problem, self.network, self.on_epoch = problem, network, on_epoch
        self.extra: list[dict[str, float]] = []  # what fit does not measure itself

    def __call__(self, trainer: Any, history: Any) -> bool:
        """True ends the training."""
        metric, more = self.problem.metric, {}
        if metric.function is not None:
            held = self.problem.data.validation or self.problem.data.train
            more["val_" + metric.name] = self.problem.score(self.network, held)
        self.extra.append(more)
        return bool(self.on_epoch and self.on_epoch({**history.epochs[-1], **more}))


def _tested(problem: Problem, network: Any) -> dict[str, float]:
    examples = problem.data.test or problem.data.train
    return {problem.metric.name: problem.score(network, examples)}


def _where_and_what(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _one_thread() -> None:
    try:
        from fallline.compiler.threads import set_threads
    except ImportError:
        return
    set_threads(1)


@functools.cache
def _versions() -> dict[str, str]:
    return versions()
