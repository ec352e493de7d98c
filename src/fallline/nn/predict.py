"""Predictions: a network run compiled, piece by piece, and its outputs read through the link."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.compiler.function import Compiled, compile
from fallline.core import tree
from fallline.ops.link import LINKS, Link

if TYPE_CHECKING:
    from fallline.nn.module import Module

Array = np.ndarray[Any, Any]


def check_link(link: str | None) -> str | None:
    """The link, if there is one of this name."""
    if link is not None and link not in LINKS:
        raise ValueError(f"link must be one of {', '.join(LINKS)}, or None; got {link!r}.")
    return link


def predict(net: Module, X: Any, batch_size: int) -> Array:
    """See `Module.predict`."""
    link = _link(net, "predict")
    z = outputs(net, X, batch_size)
    found = link.predict(z)
    return _named(net, found) if link.classes(z.shape) else found


def predict_proba(net: Module, X: Any, batch_size: int) -> Array:
    """See `Module.predict_proba`."""
    link = _link(net, "predict_proba")
    if link.proba is None:
        raise TypeError(
            f"predict_proba: outputs with the link {link.name!r} are not probabilities. Train with "
            "cross_entropy or binary_cross_entropy, or use predict."
        )
    return link.proba(outputs(net, X, batch_size))


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


def _link(net: Module, caller: str) -> Link:
    if net.link is None:
        raise RuntimeError(
            f"{caller}: what the outputs mean is not known, because fit has not trained this "
            f"network. Set net.link to one of {', '.join(LINKS)}, or call net(X)."
        )
    return LINKS[net.link]


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
