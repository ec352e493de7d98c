"""A problem: real data, a network, a loss, a metric and how long to train."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.core.errors import did_you_mean
from fallline.lab.identity import digest

if TYPE_CHECKING:
    from fallline.data import Dataset


@dataclass(frozen=True)
class Metric:
    """How well a network does on examples it was not trained on.

    function  of outputs (n, ...) and targets (n, ...); None for the two that `fit` measures itself
    worst     what a run that diverged scores; an infinity unless the metric has an end
    """

    name: str
    function: Callable[[np.ndarray, np.ndarray], float] | None = None
    higher_is_better: bool = True
    worst: float | None = None

    def good(self, value: float | None) -> float:
        """As a score: higher is better, and what is missing or not finite is the worst."""
        value = self.bounded(value)
        return value if self.higher_is_better else -value

    def bounded(self, value: float | None) -> float:
        """The value, or the worst one for a value that is missing or not finite."""
        if value is not None and np.isfinite(value):
            return value
        if self.worst is not None:
            return self.worst
        return -np.inf if self.higher_is_better else np.inf


PROBLEMS = ("digits", "mnist", "fashion-mnist")  # those that come with Fallline
ACCURACY = Metric("accuracy", worst=0.0)
LOSS = Metric("loss", higher_is_better=False)


@dataclass(frozen=True, eq=False)
class Problem:
    """What every optimizer of a comparison is given.

    data    a `fallline.data.Dataset`; validation or test examples that are missing are split off
            the training examples with a fixed seed
    model   a network with `init(seed)`, a function of a seed that returns one, or the widths of a
            multi-layer perceptron, (64, 100, 10) or "64-100-10"
    loss    a name or a function, as `fit` takes it
    metric  "accuracy", "loss" or a `Metric`; None takes accuracy for labels, the loss for numbers

    With jobs > 1 a problem travels to other processes: a function given here must be one that
    cloudpickle can send.
    """

    data: Dataset
    model: Any
    loss: Any = "cross_entropy"
    metric: Any = None
    epochs: int = 20
    batch_size: int = 32
    name: str = ""

    def __post_init__(self) -> None:
        _positive("epochs", self.epochs)
        _positive("batch_size", self.batch_size)
        settle = lambda field, value: object.__setattr__(self, field, value)
        settle("data", _three_parts(self.data))
        settle("metric", _metric(self.metric, self.data.task))
        settle("model", _widths(self.model))
        settle("name", self.name or self.data.name)

    @property
    def steps(self) -> int:
        """Steps of a whole run."""
        return self.epochs * -(-len(self.data.train.X) // self.batch_size)

    def network(self, seed: int) -> Any:
        """A network with the initial weights of this seed."""
        model = self.model
        if isinstance(model, tuple):
            from fallline import nn

            model = nn.mlp(list(model))
        if not hasattr(model, "init"):
            return model(seed)
        fresh = copy.deepcopy(model)
        made = fresh.init(seed)
        return fresh if made is None else made

    def score(self, network: Any, examples: tuple[np.ndarray, np.ndarray]) -> float:
        """The metric of a network on some examples (X, y)."""
        X, y = examples
        if self.metric.function is not None:
            return float(self.metric.function(_outputs(network, X), y))
        if self.metric.name == "accuracy":
            labels = y if y.ndim == 1 else y.argmax(axis=-1)
            return float(np.mean(network.predict(X) == labels))
        from fallline.ops.loss import by_name

        loss = by_name(self.loss) if isinstance(self.loss, str) else self.loss
        return float(np.mean(loss(_outputs(network, X), y)))

    def describe(self) -> dict[str, Any]:
        """What identifies the problem, as data; `fingerprint` is a hash of the rest of it."""
        network = self.network(0)
        data = self.data
        facts = {
            "name": self.name,
            "source": data.source,
            "task": data.task,
            "examples": {
                "train": len(data.train.X),
                "validation": len(data.validation.X) if data.validation else 0,
                "test": len(data.test.X) if data.test else 0,
            },
            "features": list(data.feature_shape),
            "classes": data.n_classes,
            "data_sha256": _digest(data),
            "model": _title(self.model, network),
            "network": _steady(repr(network)),
            "loss": self.loss if isinstance(self.loss, str) else _function_name(self.loss),
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "worst": self.metric.worst,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "steps": self.steps,
        }
        if not isinstance(self.loss, str):
            facts["loss_code"] = digest(self.loss)
        if self.metric.function is not None:
            facts["metric_code"] = digest(self.metric.function)
        text = json.dumps(facts, sort_keys=True)
        return {**facts, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}


def named(name: str, *, folder: Any = None) -> Problem:
    """A problem that comes with Fallline, one of `PROBLEMS`. folder  where files of mnist are."""
    from fallline import data

    key = name.lower().replace("_", "-")
    if key not in PROBLEMS:
        hint = did_you_mean(key, PROBLEMS)
        raise ValueError(f"compare: no problem is called {name!r}. {hint}")
    if key == "digits":
        return Problem(data.digits(), (64, 100, 10), epochs=20, batch_size=32, name=key)
    make = data.mnist if key == "mnist" else data.fashion_mnist
    return Problem(make(folder=folder), (784, 128, 10), epochs=10, batch_size=128, name=key)


def as_problem(problem: Any, *, folder: Any = None, model: Any = None, **changes: Any) -> Problem:
    """A problem from a name, a `Problem`, a `Dataset`, or arrays; `changes` that are None are none.

    Arrays are (X, y), split by us, or ((X, y), (X, y), (X, y)) to train, choose and report on.
    """
    if isinstance(problem, str):
        problem = named(problem, folder=folder)
    elif not isinstance(problem, Problem):
        data = _dataset(problem)
        if model is None:
            raise ValueError(
                "compare: arrays need a network beside them; got model=None. Pass for example "
                f'model="{np.prod(data.feature_shape, dtype=int)}-100-{max(data.n_classes, 1)}".'
            )
        loss = "cross_entropy" if data.task == "classification" else "squared_error"
        problem = Problem(data, model, loss)
    changes = {
        key: value for key, value in {**changes, "model": model}.items() if value is not None
    }
    return replace(problem, **changes) if changes else problem


def _dataset(problem: Any) -> Dataset:
    from fallline.data import Dataset, Examples, from_arrays

    if isinstance(problem, Dataset):
        return problem
    if isinstance(problem, (tuple, list)) and len(problem) == 2:
        return from_arrays(*problem, caller="compare")
    if isinstance(problem, (tuple, list)) and len(problem) == 3:
        whole = from_arrays(*problem[0], validation=0, test=0, caller="compare")
        held = (
            Examples(
                *from_arrays(*part, validation=0, test=0, task=whole.task, caller="compare").train
            )
            for part in problem[1:]
        )
        return replace(whole, validation=next(held), test=next(held))
    raise TypeError(
        "compare: a problem is a name, a Problem, (X, y), or three such pairs to train, choose and "
        f"report on; got {type(problem).__name__}."
    )


def _outputs(network: Any, X: np.ndarray, rows: int = 4096) -> np.ndarray:
    """The network's outputs, in pieces that fit into any memory."""
    return np.concatenate([np.asarray(network(X[k : k + rows])) for k in range(0, len(X), rows)])


def _three_parts(data: Dataset) -> Dataset:
    if data.test is None:
        kept = data.split(0.2, seed=1)
        data = replace(kept, test=kept.validation, validation=data.validation)
    return data if data.validation is not None else data.split(0.2, seed=0)


def _metric(metric: Any, task: str) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if metric is None:
        return ACCURACY if task == "classification" else LOSS
    known = {"accuracy": ACCURACY, "loss": LOSS}
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise ValueError(f"Problem: no metric is called {metric!r}. {hint}")
    if metric == "accuracy" and task != "classification":
        raise ValueError('Problem: accuracy needs labels; got a regression. Use metric="loss".')
    return known[metric]


def _widths(model: Any) -> Any:
    """ "64-100-10" or [64, 100, 10] as (64, 100, 10); any other model as it is."""
    if isinstance(model, str):
        if not re.fullmatch(r"\d+(-\d+)+", model):
            raise ValueError(f'Problem: a model is written as widths, "64-100-10"; got {model!r}.')
        model = [int(width) for width in model.split("-")]
    if isinstance(model, Sequence):
        return tuple(int(width) for width in model)
    if not (hasattr(model, "init") or callable(model)):
        raise TypeError(
            "Problem: a model is a network with init(seed), a function of a seed that makes one, "
            f"or widths; got {type(model).__name__}."
        )
    return model


def _title(model: Any, network: Any) -> str:
    if isinstance(model, tuple):
        return "-".join(map(str, model))
    first = _steady(repr(network)).strip().splitlines()[0]
    return first if len(first) <= 60 else first[:59] + "…"


def _digest(data: Dataset) -> str:
    """Of every array with its shape and dtype."""
    whole = hashlib.sha256()
    for part in (data.train, data.validation, data.test):
        for array in part or ():
            whole.update(f"{array.dtype.str}{array.shape}".encode())
            whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _steady(text: str) -> str:
    """A repr without addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _function_name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"Problem: {name} must be at least 1; got {value}.")
