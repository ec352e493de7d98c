"""Initialisers: how the weights of a layer are drawn.

Shapes are (n_in, n_out), or (..., n_in, n_out) for filters: the last axis counts outputs, the one
before it inputs, and axes in front of these are places that one unit looks at.

    fan_in  = places * n_in        the numbers that one output adds up
    fan_out = places * n_out       the outputs that one input goes to

An initialiser is a function (key, shape, dtype) of a random key (`ops.random`). `initialiser(name,
**settings)` gives one by name, which can be compared and saved.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.core.errors import did_you_mean
from fallline.ops import philox
from fallline.ops.philox import Key

Array = np.ndarray[Any, Any]
Shape = Sequence[int]

_made = itertools.count()


def fans(shape: Shape) -> tuple[int, int]:
    """fan_in and fan_out; for fewer than two axes both are the size.

    >>> fans((784, 100)), fans((3, 3, 16, 32))
    ((784, 100), (144, 288))
    """
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    places = math.prod(shape[:-2])
    return places * shape[-2], places * shape[-1]


def _uniform(key: Key, shape: Shape, dtype: Any, variance: float) -> Array:
    limit = math.sqrt(3 * variance)  # U(-a, a) has variance a^2 / 3
    return philox.uniform(key, tuple(shape), dtype, -limit, limit)


def _normal(key: Key, shape: Shape, dtype: Any, variance: float) -> Array:
    return philox.normal(key, tuple(shape), dtype) * np.dtype(dtype).type(math.sqrt(variance))


def glorot_uniform(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010, eq. 16."""
    return _uniform(key, shape, dtype, 2 / max(sum(fans(shape)), 1))


def glorot_normal(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """N(0, s^2), s^2 = 2 / (fan_in + fan_out). Glorot & Bengio 2010, eq. 12."""
    return _normal(key, shape, dtype, 2 / max(sum(fans(shape)), 1))


def he_uniform(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """U(-a, a), a = sqrt(6 / fan_in): the variance of He et al. 2015, eq. 10, for ReLU."""
    return _uniform(key, shape, dtype, 2 / max(fans(shape)[0], 1))


def he_normal(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """N(0, s^2), s^2 = 2 / fan_in, for ReLU. He et al. 2015, eq. 10."""
    return _normal(key, shape, dtype, 2 / max(fans(shape)[0], 1))


def lecun_uniform(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """U(-a, a), a = sqrt(3 / fan_in). LeCun et al. 1998, Efficient BackProp, eq. 16."""
    return _uniform(key, shape, dtype, 1 / max(fans(shape)[0], 1))


def lecun_normal(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """N(0, s^2), s^2 = 1 / fan_in; what SELU needs. LeCun et al. 1998, eq. 16."""
    return _normal(key, shape, dtype, 1 / max(fans(shape)[0], 1))


def uniform(
    key: Key, shape: Shape, dtype: Any = np.float32, *, low: float = -0.05, high: float = 0.05
) -> Array:
    """U(low, high)."""
    return philox.uniform(key, tuple(shape), dtype, low, high)


def normal(key: Key, shape: Shape, dtype: Any = np.float32, *, std: float = 0.05) -> Array:
    """N(0, std^2)."""
    return _normal(key, shape, dtype, std * std)


def truncated_normal(
    key: Key, shape: Shape, dtype: Any = np.float32, *, std: float = 0.05
) -> Array:
    """N(0, std^2) given that |w| <= 2 std; its own standard deviation is 0.88 std."""
    return philox.truncated_normal(key, tuple(shape), dtype) * np.dtype(dtype).type(std)


def orthogonal(key: Key, shape: Shape, dtype: Any = np.float32, *, gain: float = 1.0) -> Array:
    """gain * Q, with orthonormal columns, or rows where there are more outputs than inputs.

    Axes before the last are taken together. Q is uniform over all such matrices: the signs of R's
    diagonal are fixed. Saxe, McClelland & Ganguli 2014; Mezzadri 2007 for the signs.
    """
    if not shape:
        return constant(key, shape, dtype, value=gain)
    tall = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(philox.normal(key, (max(tall), min(tall)), np.float64))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray((q if tall[0] >= tall[1] else q.T) * gain, dtype).reshape(shape)


def constant(key: Key, shape: Shape, dtype: Any = np.float32, *, value: float = 0.0) -> Array:
    """The same value everywhere. Equal units stay equal: not for the weights of hidden layers."""
    return np.full(shape, value, dtype)


def zeros(key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
    """0 everywhere, the usual start of biases."""
    return np.zeros(shape, dtype)


INITIALISERS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        *(glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal),
        *(uniform, normal, truncated_normal, orthogonal, constant, zeros),
    )
}


@dataclass(frozen=True)
class Initialiser:
    """An initialiser by name, with settings."""

    name: str
    settings: tuple[tuple[str, float], ...] = ()

    def __call__(self, key: Key, shape: Shape, dtype: Any = np.float32) -> Array:
        return INITIALISERS[self.name](key, shape, dtype, **dict(self.settings))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{n}={v}' for n, v in self.settings)})"


def initialiser(
    which: str | Initialiser | Callable[..., Array], **settings: float
) -> Initialiser | Callable[..., Array]:
    """An initialiser by name, or a function (key, shape, dtype) as it is.

    >>> initialiser("uniform", low=-1, high=1)
    uniform(high=1, low=-1)
    """
    if not isinstance(which, str):
        known = INITIALISERS.get(getattr(which, "__name__", ""))
        if known is None or known is not which:
            return which
        which = known.__name__
    if which not in INITIALISERS:
        hint = did_you_mean(which, INITIALISERS)
        raise ValueError(f"initialiser: there is none called {which!r}. {hint}")
    parameters = inspect.signature(INITIALISERS[which]).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in settings:
        if name not in allowed:
            what = f"its settings are {', '.join(allowed)}" if allowed else "it has no settings"
            raise TypeError(f"initialiser: {which} has no setting {name!r}: {what}.")
    return Initialiser(which, tuple(sorted(settings.items())))


def layer_key(seed: int | Key | None) -> Key:
    """The key of a layer that is made with this seed; every layer without one gets another."""
    if seed is None:  # a name of its own: no seed of the user's gives the same numbers
        return philox.fold_in(philox.fold_in(philox.key(0), "a layer without a seed"), next(_made))
    return seed if isinstance(seed, np.ndarray) else philox.fold_in(philox.key(seed), "")


def bias_of(n: int, bias: bool | float, dtype: Any) -> tuple[Array | None, float]:
    """The bias of a layer of n units, or None, and what it starts at: a float says it."""
    start = bias if isinstance(bias, float) else 0.0
    return np.full(n, start, dtype) if isinstance(bias, float) or bias else None, start
