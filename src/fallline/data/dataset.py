"""A data set: examples to train on, to choose by, and to report on, kept apart from the start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fallline.data.arrays import Task, as_arrays
from fallline.data.batches import epoch_order

Array = np.ndarray[Any, Any]


class Examples(NamedTuple):
    """Inputs and their targets; a tuple, so `X, y = data.train` and `fit(net, data.train)` work."""

    X: Array
    y: Array

    def take(self, rows: Array | slice) -> Examples:
        return Examples(self.X[rows], self.y[rows])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test examples with what is known about them.

    Choose settings by `validation`, report on `test`; either may be None. `classes` holds the names
    of the labels 0, 1, ... of a classification and is empty for a regression.

    Images are (n, channels, height, width) everywhere, with one channel where they are grey, or
    rows of their pixels in this order. `image_shape` is (channels, height, width), whichever of the
    two they are now, and () where the examples are no images: `as_images` and `as_rows` turn one
    form into the other and copy nothing.

    >>> from fallline.data import digits
    >>> digits().feature_shape, digits().as_images().feature_shape
    ((64,), (1, 8, 8))
    """

    name: str
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    source: str = field(default="", repr=False)
    image_shape: tuple[int, ...] = ()

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of one example: (64,), or (1, 28, 28) for images with their channel first."""
        return self.train.X.shape[1:]

    def split(self, validation: float | int, *, seed: int = 0, stratify: bool = True) -> Dataset:
        """The same with validation examples taken out of the training examples; see `split`."""
        train, held = split(
            self.train, validation, seed=seed, stratify=stratify and self.task == "classification"
        )
        return replace(self, train=train, validation=held)

    def map_X(self, change: Callable[[Array], Array]) -> Dataset:
        """The inputs of every part changed alike, as in `data.map_X(minmax(data.train.X))`."""

        def changed(part: Examples | None) -> Examples | None:
            return None if part is None else Examples(change(part.X), part.y)

        train = Examples(change(self.train.X), self.train.y)
        images = math.prod(train.X.shape[1:]) == math.prod(self.image_shape)
        return replace(
            self,
            train=train,
            validation=changed(self.validation),
            test=changed(self.test),
            image_shape=self.image_shape if images else (),
        )

    def as_images(self) -> Dataset:
        """The same with examples (channels, height, width), as convolutional networks take them."""
        if not self.image_shape:
            raise ValueError(
                f"as_images: the examples of {self.name!r}, of {_shape(self.feature_shape)}, must "
                "be images. Did you mean .map_X(lambda X: X.reshape(-1, channels, height, width))?"
            )
        return self.map_X(lambda X: X.reshape(len(X), *self.image_shape))

    def as_rows(self) -> Dataset:
        """The same with each example as one row of numbers, as dense networks take them."""
        return self.map_X(lambda X: X.reshape(len(X), -1))

    def _parts(self) -> dict[str, Examples | None]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def __repr__(self) -> str:
        what = f"{self.n_classes} classes" if self.task == "classification" else "regression"
        lines = [f"Dataset {self.name!r}: {what}, examples of {_shape(self.feature_shape)}"]
        for name, part in self._parts().items():
            if part is not None:
                x, y = (f"{a.dtype} {_shape(a.shape)}" for a in part)
                lines.append(f"  {name:<10}  X {x}  y {y}")
        return "\n".join(lines)


def from_arrays(
    X: Any,
    y: Any,
    *,
    validation: float | int = 0.2,
    test: float | int = 0.2,
    task: Task | None = None,
    seed: int = 0,
    stratify: bool = True,
    name: str = "arrays",
    classes: tuple[str, ...] = (),
    caller: str = "from_arrays",
) -> Dataset:
    """A data set of a user's own arrays, split at random with a fixed seed; a part of 0 is None.

    Integer or boolean targets of one dimension make a classification, all others a regression,
    unless `task` says so. Rows of class probabilities are labels of the classification: pass
    task="classification".

    >>> from_arrays(np.zeros((10, 3)), np.arange(10) % 2, validation=2, test=2)
    Dataset 'arrays': 2 classes, examples of 3
      train       X float64 6 x 3  y int64 6
      validation  X float64 2 x 3  y int64 2
      test        X float64 2 x 3  y int64 2
    """
    X, y = as_arrays(X, y, task=task, caller=caller)
    if task is None:
        task = "classification" if y.dtype == np.int64 else "regression"
    if task == "classification":
        classes = classes or tuple(map(str, range(_count_classes(y))))
        as_arrays(X, y, task=task, n_classes=len(classes), caller=caller)
    rest, held = Examples(X, y), []
    stratify = stratify and task == "classification"
    validation, test = (_size(part, len(X), caller) for part in (validation, test))
    for size in (test, validation):
        part = None
        if size:
            rest, part = split(rest, size, seed=seed, stratify=stratify, caller=caller)
        held.append(part)
    return Dataset(name, rest, held[1], held[0], task, classes)


def split(
    examples: Examples | tuple[Array, Array],
    held: float | int,
    *,
    seed: int = 0,
    stratify: bool = True,
    caller: str = "split",
) -> tuple[Examples, Examples]:
    """Examples to keep and `held` examples, a number or a share, drawn out with a seed.

    Stratified, each class gives its share, rounded so that the total is exact. Both parts stay in
    the order of the originals, and the same arguments always give the same parts.

    >>> kept, held = split((np.arange(8.0)[:, None], np.array([0, 0, 0, 0, 1, 1, 1, 1])), 0.5)
    >>> held.y
    array([0, 0, 1, 1])
    """
    X, y = examples
    n = len(X)
    size = _size(held, n, caller)
    if not 0 < size < n:
        raise ValueError(
            f"{caller}: both parts must hold an example; got {size} of {n} to hold out. "
            f"Pass a number in [1, {n - 1}] or a share."
        )
    order = epoch_order(n, seed, 0)
    if stratify:
        order = order[_spread(_labels(y)[order])]
    mask = np.zeros(n, dtype=bool)
    mask[order[:size]] = True
    return Examples(X[~mask], y[~mask]), Examples(X[mask], y[mask])


def _spread(labels: Array) -> Array:
    """An order in which every prefix holds each class in proportion, within one example.

    The k-th of the m examples of a class stands at (k + 1/2) / m of the way.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(place, kind="stable")


def _labels(y: Array) -> Array:
    return y.argmax(axis=1) if y.ndim == 2 else y


def _count_classes(y: Array) -> int:
    return y.shape[1] if y.ndim == 2 else int(y.max()) + 1


def _size(part: float | int, n: int, caller: str) -> int:
    """How many of n examples a number or a share is."""
    if isinstance(part, (int, np.integer)) and not isinstance(part, bool) and part >= 0:
        return int(part)
    if isinstance(part, (float, np.floating)) and 0 <= part < 1:
        return round(float(part) * n)
    raise ValueError(
        f"{caller}: a part must be a number of examples or a share in [0, 1); got {part!r}."
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape)
