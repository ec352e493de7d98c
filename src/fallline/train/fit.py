"""`fit`: train a network on arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline import optim
from fallline.core.spec import spec_of
from fallline.data import as_arrays
from fallline.nn.module import Module
from fallline.ops import loss as losses
from fallline.train.errors import DivergedError
from fallline.train.history import History
from fallline.train.penalty import MaxNorm, Penalty
from fallline.train.progress import Silent, display
from fallline.train.trainer import Trainer

Callback = Callable[[Trainer, History], Any]


def fit(
    net: Module,
    data: tuple[Any, Any],
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    optimizer: Any = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    progress: bool | Silent | None = None,
    sample_weight: Any = None,
    class_weight: dict[Any, float] | str | None = None,
    penalty: Penalty | MaxNorm | None = None,
    label_smoothing: float = 0.0,
    drop_last: bool = False,
    replacement: bool = False,
) -> History:
    """Train a network in place, by mini-batches: shuffle, partition, step; one pass is an epoch.

        E(W) = (1/B) sum_i w_i L(net(x_i), y_i) + penalty

    data           X (n, ...), floats or uint8, and y (n,) or (n, k); validation the same
    loss           a name of `fallline.ops.loss.LOSSES` or a function (outputs, targets) -> one value per example
    optimizer      bound, such as optim.adam(lr=1e-3), or a name with its defaults
    batch_size     None is the full batch, 1 a single example at a time; the last, smaller batch is trained on unless `drop_last`
    replacement    draw the examples of each epoch independently instead of permuting them
    sample_weight  (n,) multiplies each example's loss; the mean still divides by B
    class_weight   {label: weight}, or "balanced": n / (classes * count of the class)
    penalty        `train.l2(...)`, `l1`, `elastic_net` or `max_norm`
    progress       None: a bar on a terminal, plain lines elsewhere; False: silent
    callbacks      called after every epoch with (trainer, history), or every n steps for one that has an attribute `every = n`; a true result ends the training

    Returns the History. Ctrl-C ends the training and returns what was learned so far. Same seed, same bits, on any number of threads. Raises
    DivergedError, with the parameters as they were before the step, when the loss becomes nan or infinite, and ValueError or TypeError for data that do not fit.

    >>> from fallline import nn
    >>> net = nn.mlp([1, 1], seed=0)
    >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> history = fit(net, (X, 3 * X), loss="squared_error", optimizer=optim.sgd(lr=0.2), epochs=30, progress=False)
    >>> bool(abs(net.layers[0].W - 3).max() < 1e-3)
    True
    """
    found, link = _loss(loss, label_smoothing)
    X, y = _checked(data, link, net, "X", "y")
    held = (
        None
        if validation is None
        else _checked(validation, link, net, "validation X", "validation y")
    )
    _check_outputs(net, X, y, link)
    bound = optim.by_name(optimizer)() if isinstance(optimizer, str) else optimizer
    weights = _weights(sample_weight, class_weight, y)
    trainer = Trainer(
        net,
        (X, y),
        loss=found,
        optimizer=bound,
        batch_size=_batch_size(batch_size),
        seed=seed,
        sample_weight=weights,
        penalty=penalty,
        drop_last=drop_last,
        replacement=replacement,
    )
    _check_count("epochs", epochs, 0)
    net.link = link
    return _Run(trainer, held, link, list(callbacks), display(progress)).epochs(epochs)


class _Run:
    """The loop over epochs, with what is recorded on the way."""

    def __init__(
        self, trainer: Trainer, held: Any, link: str, callbacks: list[Callback], shown: Silent
    ) -> None:
        self.trainer, self.held, self.link = trainer, held, link
        self.callbacks, self.shown = callbacks, shown
        self.history = History()
        self.losses: list[np.ndarray[Any, Any]] = []
        self.every = min(
            [c.every for c in callbacks if isinstance(getattr(c, "every", None), int)], default=0
        )  # type: ignore[attr-defined]

    def epochs(self, count: int) -> History:
        trainer = self.trainer
        self.shown.start(count, count * trainer.steps_per_epoch)
        try:
            for epoch in range(1, count + 1):
                self._epoch(epoch)
                if self.history.stopped:
                    break
        except KeyboardInterrupt:
            self.history.stopped = "interrupted"
        except DivergedError as error:
            self.losses.append(error.losses)
            self._record()
            error.history = self.history
            raise
        finally:
            self.shown.stop()
        self._record()
        return self.history

    def _epoch(self, epoch: int) -> None:
        trainer, history = self.trainer, self.history
        left = trainer.steps_per_epoch
        own: list[np.ndarray[Any, Any]] = []
        while left and not history.stopped:
            began = time.perf_counter()
            try:
                part = trainer.steps(min(left, self._chunk(left)))
            finally:
                history.seconds += time.perf_counter() - began
            own.append(part)
            self.losses.append(part)
            left -= len(part)
            self.shown.step(trainer.t, float(part[-1]))
            if self.every and left:
                self._call(lambda c: getattr(c, "every", 0) and trainer.t % c.every == 0)
        row = self._row(epoch, np.concatenate(own) if own else np.zeros(0))
        history.epochs.append(row)
        self.shown.epoch(row)
        self._call(lambda c: True)

    def _chunk(self, left: int) -> int:
        """Steps until somebody wants to look: a callback, or the bar about ten times a second."""
        chunk = self.trainer.chunk
        return (
            min(left, chunk, self.every - self.trainer.t % self.every)
            if self.every
            else min(left, chunk)
        )

    def _row(self, epoch: int, own: np.ndarray[Any, Any]) -> dict[str, float]:
        trainer = self.trainer
        n, b = trainer.n, trainer.batch_size
        sizes = np.full(len(own), b)
        if len(own) == trainer.steps_per_epoch and n % b and not trainer.drop_last:
            sizes[-1] = n % b
        mean = (
            float(np.average(own.astype(np.float64), weights=sizes)) if len(own) else float("nan")
        )
        row = {"epoch": epoch, "step": trainer.t, "loss": mean, "seconds": self.history.seconds}
        row |= {k: v for k, v in trainer.optimizer.hyper(max(trainer.t, 1)).items() if k == "lr"}
        if self.held is not None:
            loss, right = trainer.evaluate(*self.held, self.link)
            row["val_loss"] = loss
            if self.link in ("softmax", "sigmoid", "margin"):
                row["val_accuracy"] = right
        return row

    def _call(self, due: Callable[[Any], Any]) -> None:
        for callback in self.callbacks:
            if due(callback):
                self._record()
                if callback(self.trainer, self.history):
                    self.history.stopped = "callback"

    def _record(self) -> None:
        if self.losses:
            self.losses = [np.concatenate(self.losses)]
            self.history.loss = self.losses[0]


# ---- arguments -------------------------------------------------------------------------------------------------------


def _loss(loss: str | Callable[..., Any], smoothing: float) -> tuple[Callable[..., Any], str]:
    found = losses.by_name(loss) if isinstance(loss, str) else loss
    if not callable(found):
        raise TypeError(
            f"fit: loss must be a name or a function of outputs and targets; got {type(loss).__name__}."
        )
    link = losses.link_of(found)
    if not smoothing:
        return found, link
    if found is not losses.cross_entropy:
        raise ValueError(f"fit: label_smoothing belongs to cross_entropy; got loss={loss!r}.")
    return losses.smoothed(smoothing), link


def _checked(data: Any, link: str, net: Module, *names: str) -> tuple[Any, Any]:
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(
            f"fit: {names[0].replace(' X', '')} data must be a pair (X, y); got {type(data).__name__}."
        )
    task = "classification" if link == "softmax" else None
    X, y = as_arrays(data[0], data[1], task=task, caller="fit", names=(names[0], names[1]))
    dtype = net.gather().dtype
    if X.dtype.kind == "f" and X.dtype != dtype:
        X = X.astype(dtype)
    if link != "softmax" or y.ndim == 2:
        y = y.astype(dtype)
    return X, y


def _check_outputs(net: Module, X: Any, y: Any, link: str) -> None:
    """The network and the data fit together, found out on one example."""
    x = X[:1].astype(net.gather().dtype) if X.dtype.kind in "iub" else X[:1]
    z = net(x)
    if link == "softmax" and z.ndim != 2:
        raise ValueError(
            "fit: cross-entropy needs outputs (n, classes); "
            f"the network gives {spec_of(z)!r} for one example."
        )
    if link in ("softmax", "margin") and z.ndim == 2 and z.shape[1] > 1 and y.ndim == 1:
        low, high = (int(y.min()), int(y.max())) if len(y) else (0, 0)
        if low < 0 or high >= z.shape[1]:
            bad = high if high >= z.shape[1] else low
            cure = f" Did you mean a last layer of {bad + 1} units?" if bad > 0 else ""
            raise ValueError(
                f"fit: labels must be in [0, {z.shape[1]}), the network's outputs; got {bad}.{cure}"
            )
    elif z.shape[1:] != y.shape[1:] and not (z.shape[1:] == (1,) and y.ndim == 1):
        raise ValueError(
            f"fit: outputs and targets must agree; the network gives {z.shape[1:]} per example, "
            f"y has {y.shape[1:]}."
        )


def _weights(sample_weight: Any, class_weight: Any, y: Any) -> Any:
    weights = None
    if sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=np.float64)
        if weights.shape != (len(y),) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                f"fit: sample_weight must be {len(y)} finite numbers >= 0; got shape {weights.shape}."
            )
    if class_weight is None:
        return weights
    if y.ndim != 1:
        raise ValueError("fit: class_weight needs labels y (n,).")
    found, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    if class_weight == "balanced":
        of_class = len(y) / (len(found) * counts)
    elif isinstance(class_weight, dict):
        unknown = [k for k in class_weight if k not in found]
        if unknown:
            raise ValueError(
                f"fit: class_weight names {unknown[0]!r}, which is not among the labels."
            )
        of_class = np.array([float(class_weight.get(k.item(), 1.0)) for k in found])
    else:
        raise ValueError(
            f"fit: class_weight must be a dict of label and weight, 'balanced' or None; got {class_weight!r}."
        )
    return of_class[place] if weights is None else weights * of_class[place]


def _batch_size(n: Any) -> int | None:
    if n is not None:
        _check_count("batch_size", n, 1)
    return n


def _check_count(name: str, n: Any, least: int) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"fit: {name} must be a whole number >= {least}; got {n!r}.")
