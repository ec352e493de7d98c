"""Trials that train side by side: the same records as one after the other."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
import fallline.lab as lab
from fallline import optim
from fallline.data import Dataset, Examples
from fallline.lab import worker
from fallline.lab.problem import Metric, Problem
from fallline.lab.records import Journal, Record
from fallline.lab.study import Study
from fallline.lab.worker import Task

BUDGET = lab.Budget("tiny", trials=11, seeds=2, extra=2, extensions=1)
CLOCK = ("seconds", "finished", "jobs")


def examples(n: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6)).astype(np.float32)
    return Examples(X, (X[:, 0] + X[:, 1] > 0).astype(np.int64))


def problem(**more) -> Problem:
    data = Dataset("halves", examples(90, 0), examples(40, 1), examples(40, 2), classes=("0", "1"))
    return Problem(data, (6, 8, 2), epochs=6, batch_size=16, **more)


def one_by_one(*args, **kwargs) -> worker.RunResult:
    """A run that the study does not know: it makes them one after the other."""
    return worker.run_one(*args, **kwargs)


def timeless(records) -> dict:
    """What two ways of making the same records must agree in."""

    def plain(record: Record) -> dict:
        fields = {k: v for k, v in vars(record).items() if k not in CLOCK}
        fields["loss"] = record.loss.tobytes()
        fields["epochs"] = [{k: v for k, v in e.items() if k != "seconds"} for e in record.epochs]
        return fields

    return {record.key: plain(record) for record in records}


class Wide:
    """SGD with rates up to any that diverges."""

    name, defaults, space = "wide", {"lr": 0.01}, {"lr": optim.Log(1e-3, 1e25)}
    formula = doc = source = ""

    def bind(self, **hyper):
        return optim.sgd(**hyper)


@pytest.fixture(params=[1, 2, 3])
def n_threads(request):
    before = fl.get_threads()
    fl.set_threads(request.param)
    yield request.param
    fl.set_threads(before)


def compared(run=worker.run_one, optimizers=("sgd", "adam", "nadam"), settled=None, **more):
    return lab.compare(
        settled or problem(), list(optimizers), BUDGET, progress=False, run=run, **more
    )


def test_the_records_are_those_of_one_after_the_other(n_threads):
    optimizers = Wide(), "adam", "nadam"
    together = compared(optimizers=optimizers)
    apart = compared(one_by_one, optimizers=optimizers)
    assert timeless(together.records) == timeless(apart.records)
    ends = {record.status for record in together.records}
    assert ends == {"ok", "stopped", "diverged"}  # the median rule spoke too


def test_two_processes_give_the_same_records():
    assert timeless(compared(jobs=2).records) == timeless(compared().records)


def test_a_metric_of_ones_own_is_the_same(n_threads):
    margin = Metric("margin", lambda z, y: float(np.mean(z[:, 1] - z[:, 0])))
    settled = problem(metric=margin)
    assert timeless(compared(settled=settled).records) == timeless(
        compared(one_by_one, settled=settled).records
    )


def test_reported_runs_have_the_machine_to_themselves():
    fl.set_threads(2)
    try:
        found = compared()
    finally:
        fl.set_threads(None)
    assert {r.jobs for r in found.records if r.phase == "trial"} == {2}
    assert {r.jobs for r in found.records if r.phase != "trial"} == {1}
    assert all(r.seconds > 0 for r in found.records)
    assert not any("side by side" in note for note in found.summary["notes"])


class Moody:
    """Cannot be bound to some rates, and breaks down in the middle of a run at others."""

    name, defaults, space = "moody", {"lr": 0.01}, {"lr": optim.Log(1e-4, 1.0)}
    formula = doc = source = ""

    def bind(self, lr=0.01):
        if lr > 0.3:
            raise ValueError("too fast for me")
        return optim.sgd(lr=self.schedule(lr) if lr > 0.03 else lr)

    def schedule(self, lr):
        def rate(t):
            if t > 9:
                raise ZeroDivisionError("out of breath")
            return lr

        return rate


def test_a_run_that_fails_is_a_record_and_disturbs_no_other(n_threads):
    together = compared(optimizers=[Moody(), "adam"])
    apart = compared(one_by_one, optimizers=[Moody(), "adam"])
    assert timeless(together.records) == timeless(apart.records)
    messages = {r.message.partition(":")[0] for r in together.records if r.status == "failed"}
    assert messages == {"ValueError", "ZeroDivisionError"}


class Interrupts:
    """Ctrl-C while the n-th record is told, or in the middle of an epoch."""

    def __init__(self, records: int = 10**9, epochs: int = 10**9) -> None:
        self.records, self.epochs = records, epochs

    def begin(self, study):
        pass

    def epoch(self, task, epoch):
        self.epochs -= 1
        if self.epochs < 0:
            raise KeyboardInterrupt

    def record(self, record):
        self.records -= 1
        if self.records < 0:
            raise KeyboardInterrupt

    def end(self):
        pass


@pytest.mark.parametrize("watch", [Interrupts(records=3), Interrupts(epochs=60)])
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(watch, tmp_path):
    optimizers = [optim.sgd, optim.adam]
    with Journal(tmp_path) as journal:
        study = Study(problem(), optimizers, BUDGET, journal=journal)
        with pytest.raises(KeyboardInterrupt):
            study.go(watch)
    with Journal(tmp_path) as journal:
        kept = len(journal.records)
        study = Study(problem(), optimizers, BUDGET, journal=journal)
        study.go()
        whole = Study(problem(), optimizers, BUDGET)
        whole.go()
        assert 0 < kept < len(journal.records)
        assert timeless(journal.records.values()) == timeless(whole.records.values())


def test_large_networks_train_one_after_the_other(monkeypatch):
    monkeypatch.setattr("fallline.lab.study.LARGE", 10)
    fl.set_threads(2)
    try:
        found = compared(optimizers=["sgd"])
    finally:
        fl.set_threads(None)
    assert {record.jobs for record in found.records} == {1}


def test_what_is_traced_once_serves_the_whole_study(monkeypatch):
    import fallline.train.trainer as module

    traced = []
    record_step = module.record_step
    monkeypatch.setattr(module, "record_step", lambda *a: (traced.append(a), record_step(*a))[1])
    found = compared(optimizers=["sgd", "adam"])
    assert len(found.records) > 20 and len(traced) == 2 * 2  # batches of 16 and 10


def test_the_records_come_as_they_are_made():
    tasks = [Task("sgd", "trial", i, 0, {"lr": 0.01 * (i + 1)}) for i in range(20)]
    seen = []

    def on_epoch(task, epoch):
        seen.append(task.index)

    fl.set_threads(2)
    try:
        records = worker.execute_together(tasks, problem(), {"sgd": optim.sgd}, on_epoch)
        first = next(records)
    finally:
        fl.set_threads(None)
    assert len(first.epochs) == 6 and max(seen) < 19  # sixteen are on their way at a time
    records.close()
