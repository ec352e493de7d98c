"""What the outputs z of a network mean: one object for each link between them and predictions.

A loss names its link; predictions, probabilities, right answers and the way in which labels are
read follow from it.

    softmax   scores of k classes          p = softmax(z), the largest wins
    sigmoid   logits of yes or no          p = sigmoid(z), yes where z > 0
    margin    signed distances             the largest wins, or yes where z > 0; no probabilities
    identity  the values themselves
    exp       logarithms of rates
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.core.errors import did_you_mean
from fallline.ops.activation import sigmoid, softmax

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Link:
    """A link: functions of the outputs z, (n, k) or (n,).

    loss     the name of the loss that usually goes with it
    mean     z -> what z says of the targets, in the shape of z: probabilities, rates, values
    predict  z -> indices of classes, yes or no, or values
    proba    z -> probabilities of the classes; None: there are none
    right    (z, y) -> whether the prediction for each row is right; None: there is no such thing
    classes  shape of z -> how many classes `predict` tells apart; 0: it gives values
    codes    whether targets (n,) for several outputs are labels 0, 1, ..., k - 1
    """

    name: str
    loss: str
    mean: Callable[[Any], Any]
    predict: Callable[[Array], Array]
    proba: Callable[[Array], Array] | None = None
    right: Callable[[Any, Any], Any] | None = None
    classes: Callable[[tuple[int, ...]], int] = lambda shape: 0
    codes: bool = False

    def hits(self, z: Any, y: Any) -> Any:
        """How many rows of outputs name the right class; 0 where there are no classes."""
        return np.zeros((), np.int64) if self.right is None else np.sum(self.right(z, y))


def by_name(name: str) -> Link:
    """The link of this name; a wrong one is answered with the nearest.

    >>> by_name("exp").predict(np.zeros((2, 1)))
    array([1., 1.])
    """
    if isinstance(name, str) and name in LINKS:
        return LINKS[name]
    raise ValueError(f"link: there is none called {name!r}. {did_you_mean(name, LINKS)}")


def several(z: Any) -> bool:
    """Whether there are several outputs for an example; (n,) and (n, 1) are one."""
    return len(z.shape) > 1 and z.shape[1:] != (1,)


def _values(z: Array) -> Array:
    return z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z


def _largest(z: Array) -> Array:
    return np.argmax(z, axis=1)


def _positive(z: Array) -> Array:
    return (_values(z) > 0).astype(np.int64)


def _largest_is_right(z: Any, y: Any) -> Any:
    return np.argmax(z, axis=1) == (y if len(y.shape) == 1 else np.argmax(y, axis=1))


def _signs_are_right(z: Any, y: Any, threshold: float) -> Any:
    z = np.reshape(z, (z.shape[0], -1))
    return np.all((z > 0) == (np.reshape(y, z.shape) > threshold), axis=1)


def _two_sided(z: Array) -> Array:
    """The probabilities of no and yes; of several outputs each one's own."""
    if several(z):
        return sigmoid(z)
    p = sigmoid(z.reshape(-1, 1))
    return np.concatenate([1 - p, p], axis=1)


LINKS = {
    link.name: link
    for link in (
        Link(
            "softmax",
            "cross_entropy",
            mean=softmax,
            predict=_largest,
            proba=softmax,
            right=_largest_is_right,
            classes=lambda shape: shape[-1],
            codes=True,
        ),
        Link(
            "sigmoid",
            "binary_cross_entropy",
            mean=sigmoid,
            predict=_positive,
            proba=_two_sided,
            right=lambda z, y: _signs_are_right(z, y, 0.5),
            classes=lambda shape: 2 if shape[1:] in ((), (1,)) else 0,
        ),
        Link(
            "margin",
            "hinge",
            mean=lambda z: z,
            predict=lambda z: _largest(z) if several(z) else _positive(z),
            right=lambda z, y: _largest_is_right(z, y) if several(z) else _signs_are_right(z, y, 0),
            classes=lambda shape: 2 if shape[1:] in ((), (1,)) else shape[-1],
            codes=True,
        ),
        Link("identity", "squared_error", mean=lambda z: z, predict=_values),
        Link("exp", "poisson", mean=np.exp, predict=lambda z: np.exp(_values(z))),
    )
}
