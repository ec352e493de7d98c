"""What `fit` is given, checked and settled: an error says what was wrong and the likely cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.core.spec import spec_of
from fallline.data import as_arrays
from fallline.nn.module import Module
from fallline.ops import loss as losses
from fallline.train.step import as_inputs


def as_loss(loss: str | Callable[..., Any], smoothing: float) -> tuple[Callable[..., Any], str]:
    """The loss as a function, and its link from outputs to predictions."""
    found = losses.by_name(loss) if isinstance(loss, str) else loss
    if not callable(found):
        raise TypeError(
            "fit: loss must be a name or a function of outputs and targets; "
            f"got {type(loss).__name__}."
        )
    link = losses.link_of(found)
    if not smoothing:
        return found, link
    if found is not losses.cross_entropy:
        raise ValueError(f"fit: label_smoothing belongs to cross_entropy; got loss={loss!r}.")
    return losses.smoothed(smoothing), link


def as_examples(data: Any, link: str, net: Module, what: str = "") -> tuple[Any, Any]:
    """X and y in the network's type; labels stay integers. `what` names the data in errors."""
    if not isinstance(data, tuple) or len(data) != 2:
        name = f"{what}data" if what else "data"
        raise TypeError(f"fit: {name} must be a pair (X, y); got {type(data).__name__}.")
    X, y = as_arrays(
        data[0],
        data[1],
        task="classification" if link == "softmax" else None,
        caller="fit",
        names=(f"{what}X", f"{what}y"),
    )
    dtype = net.gather().dtype
    X = X.astype(dtype, copy=False) if X.dtype.kind == "f" else X
    return X, y if link == "softmax" and y.ndim != 2 else y.astype(dtype)


def check_outputs(net: Module, X: Any, y: Any, link: str) -> None:
    """The network and the data fit together, found out on one example."""
    z = net(as_inputs(X[:1], net.gather().dtype))
    if link == "softmax" and z.ndim != 2:
        raise ValueError(
            "fit: cross-entropy needs outputs (n, classes); "
            f"the network gives {spec_of(z)!r} for one example."
        )
    if link in ("softmax", "margin") and z.ndim == 2 and z.shape[1] > 1 and y.ndim == 1:
        _check_labels(y, z.shape[1])
    elif z.shape[1:] != y.shape[1:] and not (z.shape[1:] == (1,) and y.ndim == 1):
        raise ValueError(
            f"fit: outputs and targets must agree; the network gives {z.shape[1:]} per example, "
            f"y has {y.shape[1:]}."
        )


def _check_labels(y: Any, classes: int) -> None:
    low, high = (int(y.min()), int(y.max())) if len(y) else (0, 0)
    if low < 0 or high >= classes:
        bad = high if high >= classes else low
        cure = f" Did you mean a last layer of {bad + 1} units?" if bad > 0 else ""
        raise ValueError(
            f"fit: labels must be in [0, {classes}), the network's outputs; got {bad}.{cure}"
        )


def as_weights(sample_weight: Any, class_weight: Any, y: Any) -> Any:
    """The weight of each example's loss, (n,), or None where all are 1."""
    of_examples = None if sample_weight is None else _of_examples(sample_weight, len(y))
    if class_weight is None:
        return of_examples
    of_classes = _of_classes(class_weight, y)
    return of_classes if of_examples is None else of_examples * of_classes


def _of_examples(sample_weight: Any, n: int) -> Any:
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(
            f"fit: sample_weight must be {n} finite numbers >= 0; got shape {weights.shape}."
        )
    bad = weights[~np.isfinite(weights) | (weights < 0)]
    if len(bad):
        raise ValueError(f"fit: sample_weight must be {n} finite numbers >= 0; got {bad[0]}.")
    return weights


def _of_classes(class_weight: Any, y: Any) -> Any:
    """The weight of the class of each example."""
    if y.ndim != 1:
        raise ValueError("fit: class_weight needs labels y (n,).")
    labels, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    if isinstance(class_weight, dict):
        for label in class_weight:
            if label not in labels:
                raise ValueError(
                    f"fit: class_weight names {label!r}, which is not among the labels."
                )
        weights = np.array([float(class_weight.get(label.item(), 1.0)) for label in labels])
    elif class_weight == "balanced":
        weights = len(y) / (len(labels) * counts)
    else:
        raise ValueError(
            "fit: class_weight must be a dict of label and weight, 'balanced' or None; "
            f"got {class_weight!r}."
        )
    return weights[place]


def check_count(name: str, n: Any, least: int) -> None:
    """A whole number, at least so large."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"fit: {name} must be a whole number >= {least}; got {n!r}.")
