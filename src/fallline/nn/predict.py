"""Predictions: a network run compiled, and its outputs read through the link in the same plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.nn.inference import Pieces, Read, inference_of
from fallline.ops.link import LINKS, Link

if TYPE_CHECKING:
    from fallline.nn.module import Module

Array = np.ndarray[Any, Any]

PIECE = 1024  # rows: more are not faster, and their activations need more memory


def check_link(link: str | None) -> str | None:
    """The link, if there is one of this name."""
    if link is not None and link not in LINKS:
        raise ValueError(f"link must be one of {', '.join(LINKS)}, or None; got {link!r}.")
    return link


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
    X = np.asarray(X)
    if X.ndim < 2:
        cure = " Did you mean X[None]?" if X.ndim == 1 else ""
        raise ValueError(f"predict: X must have shape (n, ...); got {X.shape}.{cure}")
    most = PIECE if batch_size is None else batch_size
    if most < 1:
        raise ValueError(f"predict: batch_size must be positive; got {batch_size}.")
    inference = inference_of(net)
    if X.dtype.kind not in "fiub":
        X = _numbers(X, inference.dtype)
    return X, inference.pieces(read, X, most)


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
