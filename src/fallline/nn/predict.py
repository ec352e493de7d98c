"""Predictions: a network run compiled, piece by piece, and its outputs read through the link."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.compile.function import Compiled, compile
from fallline.core import tree
from fallline.ops.activation import sigmoid, softmax

if TYPE_CHECKING:
    from fallline.nn.module import Module

Array = np.ndarray[Any, Any]

LINKS = ("softmax", "sigmoid", "margin", "identity", "exp")


def check_link(link: str | None) -> str | None:
    """The link, if there is one of this name."""
    if link is not None and link not in LINKS:
        raise ValueError(f"link must be one of {', '.join(LINKS)}, or None; got {link!r}.")
    return link


def predict(net: Module, X: Any, batch_size: int) -> Array:
    """See `Module.predict`."""
    link = _link(net, "predict")
    z = outputs(net, X, batch_size)
    if link in ("identity", "exp"):
        values = np.exp(z) if link == "exp" else z
        return values[:, 0] if _single(z) else values
    if link in ("sigmoid", "margin") and (z.ndim == 1 or _single(z)):
        return _named(net, (z.reshape(-1) > 0).astype(np.int64))
    if link == "sigmoid":
        return (z > 0).astype(np.int64)
    return _named(net, np.argmax(z, axis=1))


def predict_proba(net: Module, X: Any, batch_size: int) -> Array:
    """See `Module.predict_proba`."""
    link = _link(net, "predict_proba")
    if link not in ("softmax", "sigmoid"):
        raise TypeError(
            f"predict_proba: outputs with the link {link!r} are not probabilities. Train with "
            "cross_entropy or binary_cross_entropy, or use predict."
        )
    z = outputs(net, X, batch_size)
    if link == "softmax":
        return softmax(z)
    if z.ndim == 1 or _single(z):
        p = sigmoid(z.reshape(-1, 1))
        return np.concatenate([1 - p, p], axis=1)
    return sigmoid(z)


def outputs(net: Module, X: Any, batch_size: int = 4096) -> Array:
    """What the network gives for each row of X, computed `batch_size` rows at a time."""
    X = np.asarray(X)
    if X.ndim < 2:
        cure = " Did you mean X[None]?" if X.ndim == 1 else ""
        raise ValueError(f"predict: X must have shape (n, ...); got {X.shape}.{cure}")
    if batch_size < 1:
        raise ValueError(f"predict: batch_size must be positive; got {batch_size}.")
    run = _forward(tree.structure(net))
    whole: Array | None = None
    for start in range(0, max(len(X), 1), batch_size):
        part = _in(net.dtype, X[start : start + batch_size])
        z = run(net, part)
        if len(part) == len(X):
            return z
        if whole is None:
            whole = np.empty((len(X), *z.shape[1:]), z.dtype)
        whole[start : start + len(part)] = z
    assert whole is not None
    return whole


@lru_cache(maxsize=16)
def _forward(structure: Any) -> Compiled:
    """One compiled function for all networks of one architecture; what it compiles, it keeps."""
    return compile(lambda net, X: net(X))


def _in(dtype: np.dtype[Any], X: Array) -> Array:
    """Numbers in the type of the network's parameters, as `fit` takes them."""
    return X if X.dtype == dtype else X.astype(dtype)


def _link(net: Module, caller: str) -> str:
    if net.link is None:
        raise RuntimeError(
            f"{caller}: what the outputs mean is not known, because fit has not trained this "
            f"network. Set net.link to one of {', '.join(LINKS)}, or call net(X)."
        )
    return net.link


def _single(z: Array) -> bool:
    return z.ndim == 2 and z.shape[1] == 1


def _named(net: Module, index: Array) -> Array:
    """Indices of classes as the classes themselves."""
    classes = net.classes
    if classes is None:
        return index
    if index.size and index.max() >= len(classes):
        raise ValueError(
            f"predict: net.classes has {len(classes)} entries, but an output says {index.max()}."
        )
    return classes[index]
