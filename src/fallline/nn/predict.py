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
    X, pieces = _ready(net, X, batch_size, link.predict)
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
    X, pieces = _ready(net, X, batch_size, link.proba)
    return pieces(X)


def outputs(net: Module, X: Any, batch_size: int | None = None) -> Array:
    """What the network gives for each row of X, computed `batch_size` rows at a time."""
    X, pieces = _ready(net, X, batch_size, _themselves)
    return pieces(X)


def _themselves(z: Any) -> Any:
    return z


def _ready(net: Module, X: Any, batch_size: int | None, read: Read) -> tuple[Array, Pieces]:
    """X as an array of numbers, and what computes read(net(X))."""
    X = X if X.__class__ is np.ndarray else _array(X)
    if X.ndim < 2:
        cure = " Did you mean X[None]?" if X.ndim == 1 else ""
        raise ValueError(f"predict: X must have shape (n, ...); got {X.shape}.{cure}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"predict: batch_size must be positive; got {batch_size}.")
    inference = inference_of(net)
    if X.dtype.kind not in "fiub":
        X = _numbers(X, inference.dtype)
    return X, inference.pieces(read, X, batch_size)


def _array(X: Any) -> Array:
    if hasattr(X, "toarray"):
        raise TypeError(
            f"predict: X must be a dense array; got {type(X).__name__}. Did you mean X.toarray()?"
        )
    if is_masked(X):
        raise TypeError("predict: X must not be masked. Did you mean X.filled(value)?")
    return np.asarray(X)


def _numbers(X: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers that came as objects, as they do from tables of several types."""
    if X.dtype == object:
        return X.astype(dtype)
    raise TypeError(f"predict: X must hold real numbers; got {X.dtype}.")


def _link(net: Module, caller: str) -> Link:
    if net.link is None:
        raise RuntimeError(
            f"{caller}: what the outputs mean is not known, because fit has not trained this "
            f"network. Set net.link to one of {', '.join(LINKS)}, or call net(X)."
        )
    return LINKS[net.link]
