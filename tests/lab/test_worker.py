"""`run_one` against a `fit` that keeps its promises, and `execute` around any run."""

import sys
import types

import numpy as np
import pytest
from tests.lab import fake

from fallline.lab import worker
from fallline.lab.problem import Metric, as_problem
from fallline.lab.worker import RunResult, Task

X = np.arange(40, dtype=np.float32)[:, None]
y = np.arange(40) % 2


class Net:
    """Learns nothing: its outputs say 1 for odd inputs."""

    seed = None

    def init(self, seed):
        net = Net()
        net.seed = seed
        return net

    def __call__(self, X):
        odd = X[:, 0] % 2
        return np.stack([1 - odd, odd], axis=1)

    def predict(self, X):
        return self(X).argmax(axis=1)


class History:
    def __init__(self):
        self.loss, self.epochs, self.stopped, self.seconds = [], [], "", 0.0


class Diverged(ArithmeticError):
    def __init__(self, message, history, step):
        super().__init__(message)
        self.history, self.step = history, step


def fit(net, data, *, loss, optimizer, epochs, batch_size, validation, seed, callbacks, progress):
    assert progress is False and net.seed == seed
    history = History()
    per_epoch = -(-len(data[0]) // batch_size)
    for epoch in range(1, epochs + 1):
        history.loss += [1.0 / epoch] * per_epoch
        if optimizer["lr"] > 1:
            history.loss[-1] = np.nan
            raise Diverged("fit: the loss became nan", history, len(history.loss))
        history.seconds = 0.1 * epoch
        numbers = {"val_loss": 1.0 / epoch, "val_accuracy": 0.5, "seconds": history.seconds}
        history.epochs.append({"epoch": epoch, "step": len(history.loss), "loss": 1.0, **numbers})
        for callback in callbacks:
            if callback(None, history):
                history.stopped = "callback"
        if history.stopped:
            break
        if optimizer["lr"] == 0.5 and epoch == 2:  # Ctrl-C: what was learned so far
            history.stopped = "interrupted"
            break
    return history


@pytest.fixture(autouse=True)
def train(monkeypatch):
    module = types.ModuleType("fallline.train")
    module.fit, module.DivergedError = fit, Diverged
    losses = types.ModuleType("fallline.ops.loss")
    losses.by_name = lambda name: lambda outputs, y: np.full(len(y), 0.25)
    monkeypatch.setitem(sys.modules, "fallline.train", module)
    monkeypatch.setitem(sys.modules, "fallline.ops.loss", losses)


def problem(**more):
    return as_problem((X, y), model=Net(), epochs=4, batch_size=8, **more)


SGD = fake.TEN[0]


def test_a_run_that_came_through():
    result = worker.run_one(problem(), SGD, {"lr": 0.1}, 3)
    assert result.status == "ok" and result.validation == 0.5 and result.test == {"accuracy": 1.0}
    assert result.loss.dtype == np.float32 and len(result.loss) == problem().steps
    assert [e["step"] for e in result.epochs] == [3, 6, 9, 12]
    assert result.seconds == pytest.approx(0.4)


def test_a_trial_is_not_tested():
    assert worker.run_one(problem(), SGD, {"lr": 0.1}, 3, test=False).test is None


def test_a_run_that_diverged():
    result = worker.run_one(problem(), SGD, {"lr": 2.0}, 3)
    assert result.status == "diverged" and "became nan" in result.message
    assert len(result.loss) == 3 and np.isnan(result.loss[-1])
    assert result.validation is None and result.test is None


def test_a_run_that_is_stopped():
    result = worker.run_one(problem(), SGD, {}, 3, lambda epoch: epoch["epoch"] == 2)
    assert result.status == "stopped" and len(result.epochs) == 2 and result.test is None


def test_an_interrupted_run_is_no_result():
    with pytest.raises(KeyboardInterrupt):
        worker.run_one(problem(), SGD, {"lr": 0.5}, 3)


def test_a_metric_of_ones_own_is_measured_every_epoch_and_on_the_test():
    share = Metric("share", lambda outputs, y: float(np.mean(outputs[:, 1])))
    result = worker.run_one(problem(metric=share), SGD, {}, 3)
    assert all(0 <= epoch["val_share"] <= 1 for epoch in result.epochs)
    assert result.validation == result.epochs[-1]["val_share"] and set(result.test) == {"share"}


def test_the_loss_as_a_metric():
    result = worker.run_one(problem(metric="loss"), SGD, {}, 3)
    assert result.validation == 0.25 and result.test == {"loss": 0.25}


def task(**changes):
    fields = {"optimizer": "sgd", "phase": "tuned", "index": 2, "seed": 7, "hyper": {"lr": 0.1}}
    return Task(**{**fields, **changes})


def test_a_record_says_all_about_its_task():
    record = worker.execute(task(), problem(), SGD)
    assert record.key == task().key and record.status == "ok"
    assert record.versions["numpy"] == np.__version__ and record.finished.endswith("+00:00")


def test_an_exception_is_a_record():
    def broken(*args, **kwargs):
        raise ZeroDivisionError("oh")

    record = worker.execute(task(), problem(), SGD, broken)
    assert record.status == "failed"
    assert record.message.startswith("ZeroDivisionError: oh (test_worker.py:")


def test_the_median_rule_reaches_the_run():
    baseline = ((0.9,) * 4,) * 5
    record = worker.execute(task(phase="trial", baseline=baseline), problem(), SGD)
    assert record.status == "stopped" and len(record.epochs) == 2


def test_only_reported_runs_see_the_test_examples():
    seen = []

    def spy(*args, test):
        seen.append(test)
        return RunResult("ok")

    for phase in ("trial", "tuned", "default"):
        worker.execute(task(phase=phase), problem(), SGD, spy)
    assert seen == [False, True, True]
