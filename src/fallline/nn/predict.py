"""Predictions: a network run compiled, and its outputs read through the link in the same plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.core.spec import is_masked
from fallline.nn.inference import Pieces, Read, inference_of
from fallline.ops.link import LINKS, Link

if TYPE_CHECKING:
    from fallline.nn.module import Module

Array = np.ndarray[Any, Any]


def predict(net: Module, X: Any, batch_size: int | None) -> Array:
    """See `Module.predict`."""
    link = _link(net, "predict")
    X, pieces = _ready(net, X, batch_size, link.predict, "predict")
    found = pieces(X)
    classes = net.classes
    if classes is None or not link.classes((len(X), *pieces.outputs)):
        return found
    if found.size and found.max() >= len(classes):
        raise ValueError(
            f"predict: net.classes has {len(classes)} entries, but an output says {found.max()}."
        )
    return classes[found]


def predict_proba(net: Module, X: Any, batch_size: int | None) -> Array:
    """See `Module.predict_proba`."""
    link = _link(net, "predict_proba")
    if link.proba is None:
        raise TypeError(
            f"predict_proba: outputs with the link {link.name!r} are not probabilities. Train with "
            "cross_entropy or binary_cross_entropy, or use predict."
        )
    X, pieces = _ready(net, X, batch_size, link.proba, "predict_proba")
    return pieces(X)


def outputs(net: Module, X: Any, batch_size: int | None = None) -> Array:
    """What the network gives for each row of X, computed `batch_size` rows at a time."""
    X, pieces = _ready(net, X, batch_size, _themselves, "outputs")
    return pieces(X)


def _themselves(z: Any) -> Any:
    return z


def _ready(
    net: Module, X: Any, batch_size: int | None, read: Read, caller: str
) -> tuple[Array, Pieces]:
    """X as an array of numbers, and what computes read(net(X))."""
    X = X if X.__class__ is np.ndarray else _array(X, caller)
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: X must hold real numbers; got {X.dtype}.{_cure(X)}")
    if X.ndim < 2:
        cure = " Did you mean X[None]?" if X.ndim == 1 else ""
        raise ValueError(f"{caller}: X must have shape (n, ...); got {X.shape}.{cure}")
    if batch_size is not None:
        _check_batch(batch_size, caller)
    return X, inference_of(net).pieces(read, X, batch_size)


def _array(X: Any, caller: str) -> Array:
    if hasattr(X, "toarray"):
        raise TypeError(
            f"{caller}: X must be a dense array; got {type(X).__name__}. Did you mean X.toarray()?"
        )
    if is_masked(X):
        raise TypeError(f"{caller}: X must not be masked. Did you mean X.filled(value)?")
    try:
        return np.asarray(X)
    except ValueError:
        raise ValueError(
            f"{caller}: X must be an array of numbers; its rows differ in length. Make them "
            "equally long, or predict them one by one."
        ) from None


def _cure(X: Array) -> str:
    """What may be done about numbers that are none."""
    if X.dtype != object:
        return ""
    if any(x is None for x in X.flat):
        return " It holds None: fill what is missing, or drop the row."
    return " Did you mean X.astype(float)?"


def _check_batch(batch_size: Any, caller: str) -> None:
    whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(f"{caller}: batch_size must be a whole number >= 1; got {batch_size!r}.")


def _link(net: Module, caller: str) -> Link:
    if net.link is None:
        raise RuntimeError(
            f"{caller}: what the outputs mean is not known, because fit has not trained this "
            f"network. Set net.link to one of {', '.join(LINKS)}, or call net(X)."
        )
    return LINKS[net.link]
