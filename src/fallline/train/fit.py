"""`fit`: train a network on arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.nn.module import Module
from fallline.ops.link import Link
from fallline.train import arguments
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
    link: str | None = None,
    optimizer: Any = "adam",
    epochs: int = 10,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | None = None,
    seed: int = 0,
    callbacks: Callback | Sequence[Callback] = (),
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

    data           X (n, ...), floats or integers, and y (n,) or (n, k); validation the same. Bytes
                   (uint8) stay bytes in memory and are cast when a batch is taken
    loss           a name of `fallline.ops.loss.LOSSES`, or a function (outputs, targets) -> one
                   value per example
    link           what the outputs mean, see `ops.link`; by default what the loss declares. For a
                   function that declares nothing it is net.link, if set; else "softmax" where y
                   holds labels (n,) and there are several outputs; else "identity"
    optimizer      bound, such as optim.adam(lr=1e-3), or a name with its defaults
    batch_size     None is the full batch, 1 a single example at a time; the last, smaller batch is
                   trained on unless `drop_last`
    replacement    draw the examples of each epoch independently instead of permuting them
    sample_weight  (n,) multiplies each example's loss; the mean still divides by B
    class_weight   {label: weight}, or "balanced": n / (classes * count of the class)
    penalty        `train.l2(...)`, `l1`, `elastic_net` or `max_norm`
    progress       None: a bar on a terminal, plain lines elsewhere; False: silent
    callbacks      one or several, called after every epoch with (trainer, history), and every n
                   steps if they have an attribute `every = n`; a true result ends the training

    Labels may be any k different whole numbers or names where there are classes (cross_entropy,
    hinge): numbers in [0, k) are indices of the outputs, others are sorted and kept in net.classes,
    and `net.predict` answers with them. The loss checks all targets before the first step.

    Returns the History. Ctrl-C ends the training and returns what was learned so far. Same seed,
    same bits, on any number of threads. Raises DivergedError, with the parameters as they were
    before the step, when the loss becomes nan or infinite, and ValueError or TypeError for data
    that do not fit.

    >>> from fallline import nn, optim
    >>> net, sgd = nn.mlp([1, 1], seed=0), optim.sgd(lr=0.2)
    >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> settings = {"loss": "squared_error", "optimizer": sgd, "epochs": 30, "progress": False}
    >>> history = fit(net, (X, 3 * X), **settings)
    >>> bool(abs(net.layers[0].W - 3).max() < 1e-3)
    True
    """
    arguments.check_count("epochs", epochs, 0)
    arguments.check_count("seed", seed, 0)
    function = arguments.as_loss(loss, label_smoothing)
    X, given = arguments.as_pair(data, net)
    arguments.check_batch(batch_size, len(X), drop_last)
    shape = arguments.output_shape(net, X)
    meaning = arguments.as_link(link, function, net, given, shape)
    targets = arguments.Targets(meaning, shape, net)
    y = targets.training(given)
    arguments.check_targets(function, shape, net.dtype, y, "training")
    held = None
    if validation is not None:
        Xv, yv = arguments.as_pair(validation, net, "validation ")
        held = Xv, targets.validation(yv)
        arguments.check_targets(function, shape, net.dtype, held[1], "validation")
    trainer = Trainer(
        net,
        (X, y),
        loss=function,
        optimizer=optimizer,
        batch_size=batch_size,
        seed=seed,
        sample_weight=arguments.as_weights(sample_weight, class_weight, given),
        penalty=penalty,
        drop_last=drop_last,
        replacement=replacement,
    )
    net.link, net.classes = meaning.name, targets.classes
    calls = [callbacks] if callable(callbacks) else callbacks
    return _Loop(trainer, held, meaning, calls, display(progress)).run(epochs)


class _Loop:
    """The loop over epochs, with what is recorded on the way."""

    def __init__(
        self,
        trainer: Trainer,
        held: tuple[Any, Any] | None,
        link: Link,
        callbacks: Sequence[Callback],
        shown: Silent,
    ) -> None:
        self.trainer, self.held, self.link, self.shown = trainer, held, link, shown
        self.callbacks = [(call, getattr(call, "every", 0)) for call in callbacks]
        self.history = History()
        self.losses: list[np.ndarray[Any, Any]] = []

    def run(self, epochs: int) -> History:
        try:
            if epochs:
                self._prepare()
            self.shown.start(epochs, epochs * self.trainer.steps_per_epoch)
            for epoch in range(1, epochs + 1):
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

    def _prepare(self) -> None:
        """Compile before the clock starts and before the progress is on the screen."""
        self.trainer.prepare()
        if self.held is not None:
            self.trainer.prepare_evaluation(*self.held, self.link.name)

    def _epoch(self, epoch: int) -> None:
        trainer, history = self.trainer, self.history
        left = trainer.steps_per_epoch
        own: list[np.ndarray[Any, Any]] = []
        while left and not history.stopped:
            began = time.perf_counter()
            try:
                part = trainer.steps(min(left, self._until_someone_looks()))
            finally:
                history.seconds += time.perf_counter() - began
            own.append(part)
            self.losses.append(part)
            left -= len(part)
            self.shown.step(trainer.t, float(part[-1]))
            if left:
                self._call([call for call, every in self.callbacks if _is_due(every, trainer.t)])
        row = self._row(epoch, np.concatenate(own) if own else np.zeros(0))
        history.epochs.append(row)
        self.shown.epoch(row)
        self._call([call for call, _ in self.callbacks])

    def _until_someone_looks(self) -> int:
        """Steps until a callback wants to look, or the bar, about twenty times a second."""
        t = self.trainer.t
        return min([self.trainer.chunk, *[n - t % n for _, n in self.callbacks if n]])

    def _row(self, epoch: int, losses: np.ndarray[Any, Any]) -> dict[str, float]:
        """What the history says of an epoch."""
        trainer = self.trainer
        row = {"epoch": epoch, "step": trainer.t, "loss": self._mean(losses)}
        row["seconds"] = self.history.seconds
        rate = trainer.optimizer.hyper(max(trainer.t, 1)).get("lr")
        if rate is not None:
            row["lr"] = rate
        if self.held is not None:
            row["val_loss"], accuracy = trainer.evaluate(*self.held, self.link.name)
            if self.link.right is not None:
                row["val_accuracy"] = accuracy
        return row

    def _mean(self, losses: np.ndarray[Any, Any]) -> float:
        """Over the examples of an epoch: the last batch may be smaller."""
        if not len(losses):
            return float("nan")
        trainer = self.trainer
        sizes = np.full(len(losses), trainer.batch_size)
        rest = trainer.n % trainer.batch_size
        if len(losses) == trainer.steps_per_epoch and rest and not trainer.drop_last:
            sizes[-1] = rest
        return float(np.average(losses.astype(np.float64), weights=sizes))

    def _call(self, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            self._record()
            if callback(self.trainer, self.history):
                self.history.stopped = "callback"

    def _record(self) -> None:
        if self.losses:
            self.losses = [np.concatenate(self.losses)]
            self.history.loss = self.losses[0]


def _is_due(every: int, t: int) -> bool:
    return every > 0 and t % every == 0
