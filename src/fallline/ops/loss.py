"""Losses: one value per example, (n,), of outputs z and targets y; who trains takes the mean.

Outputs are logits, or the values themselves; the link from outputs to predictions belongs to the
loss (`link_of`), and a loss of one's own names it with `@loss(link="softmax")`. Where outputs are
several values, (n, k), losses of single values take the mean over them by default; `reduction` says
otherwise:

    "mean"  1/k sum_j      "sum"  sum_j      "half"  1/2 sum_j  (of squares)

Outputs (n, 1) go with targets (n,) or (n, 1). Targets take the type of the outputs. Those out of
range are refused where their values are known: not inside a compiled function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from fallline.core.errors import did_you_mean
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import Tracer, operand
from fallline.ops import link as links
from fallline.ops.activation import relu, softplus
from fallline.ops.elementwise import stop_gradient

Loss = Callable[..., Any]
Function = TypeVar("Function", bound=Callable[..., Any])

LOSSES: dict[str, Loss] = {}


def by_name(name: str) -> Loss:
    """The loss of this name; a wrong one is answered with the nearest.

    >>> by_name("huber").__name__
    'huber'
    """
    if name in LOSSES:
        return LOSSES[name]
    raise ValueError(f"loss: there is none called {name!r}. {did_you_mean(name, LOSSES)}")


def loss(*, link: str) -> Callable[[Function], Function]:
    """Declare what the outputs mean that a loss of one's own is computed from.

    Without it `fit` guesses: see there. The links are those of `ops.link.LINKS`.

    >>> @loss(link="softmax")
    ... def focal(z, y):
    ...     nll = cross_entropy(z, y)
    ...     return (1 - np.exp(-nll)) ** 2 * nll
    >>> link_of(focal)
    'softmax'
    """
    links.by_name(link)

    def declare(function: Function) -> Function:
        function.link = link  # type: ignore[attr-defined]
        return function

    return declare


def link_of(loss: str | Loss, default: Any = "identity") -> Any:
    """The name of the link from outputs to predictions; `default` where none is declared.

    >>> link_of(cross_entropy), link_of(lambda z, y: (z - y)[:, 0] ** 4)
    ('softmax', 'identity')
    """
    found = by_name(loss) if isinstance(loss, str) else loss
    while isinstance(found, partial) and not hasattr(found, "link"):
        found = found.func
    return getattr(found, "link", default)


def _loss(link: str) -> Callable[[Function], Function]:
    """Declare one of ours, which has a name too."""

    def declare(function: Function) -> Function:
        LOSSES[function.__name__] = function
        return loss(link=link)(function)

    return declare


# Classes.


@_loss("softmax")
def cross_entropy(z: Any, y: Any, label_smoothing: float = 0.0) -> Any:
    """Softmax cross-entropy from logits, in nats.

        L_i = -sum_k t_ik log_softmax(z_i)_k,   t = (1 - s) y + s / k,  s = label_smoothing

    z  (n, k) logits; y  (n,) integer labels in [0, k), or (n, k) rows that sum to 1. Returns (n,).
    The largest logit is subtracted before exp, so no finite input overflows, and adding a number to
    all logits of an example changes nothing. Raises ValueError for a label outside [0, k).
    Bishop 2006, eq. 4.108; label smoothing: Szegedy et al. 2016, section 7.

    >>> cross_entropy(np.array([[1000.0, 0.0], [0.0, 0.0]]), np.array([0, 1])).round(4)
    array([0.    , 0.6931])
    """
    z, y = _pair("cross_entropy", z, y)
    k = _columns("cross_entropy", z, "binary_cross_entropy")
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"cross_entropy: label_smoothing must be in [0, 1); got {label_smoothing}."
        )
    shifted = z - stop_gradient(np.max(z, axis=1, keepdims=True))
    total = np.log(np.sum(np.exp(shifted), axis=1))
    if len(shape_of(y)) == 1:
        _check_labels("cross_entropy", z, y)
        value = total - np.sum(np.where(_hit(y, k), shifted, 0), axis=1)
    else:
        _check_rows("cross_entropy", z, y)
        value = np.sum(_like(y, z) * (total[:, None] - shifted), axis=1)
    if label_smoothing:
        even = total - np.mean(shifted, axis=1)
        value = (1 - label_smoothing) * value + label_smoothing * even
    return value


@lru_cache(maxsize=64)
def smoothed(label_smoothing: float) -> Loss:
    """cross_entropy with label smoothing; the same function for the same number."""
    return partial(cross_entropy, label_smoothing=label_smoothing)


@_loss("sigmoid")
def binary_cross_entropy(z: Any, y: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of a yes or no from its logit, in nats.

        L = -y log sigmoid(z) - (1 - y) log(1 - sigmoid(z)) = y softplus(-z) + (1 - y) softplus(z)

    z  (n,) or (n, 1) logits, or (n, k) for k independent labels; y  of that shape, in [0, 1], or
    bool. Returns (n,). No finite logit overflows, and an infinite one that is right costs 0. Raises
    ValueError for a y outside [0, 1].
    Bishop 2006, eq. 4.90.

    >>> binary_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 1])).round(4)
    array([0.6931, 0.    ])
    """
    z, y = _values("binary_cross_entropy", z, y)
    _check_range("binary_cross_entropy", y, 0, 1)
    # not softplus(z) - y z: the difference of two large numbers loses the digits of a small loss
    yes = np.where((y == 0) & (z == -np.inf), 0, softplus(-z))  # 0 * inf is 0 here
    no = np.where((y == 1) & (z == np.inf), 0, softplus(z))
    value = y * yes + (1 - y) * no
    return _reduced("binary_cross_entropy", value, reduction)


@_loss("margin")
def hinge(z: Any, y: Any) -> Any:
    """Hinge loss, of support vector machines.

        two classes    L = max(0, 1 - t z),  t = 1 for the labels 1, t = -1 for the labels 0 or -1
        k classes      L = max(0, 1 + max_(j != y) z_j - z_y)

    z  (n,) or (n, 1) with labels 0 and 1, or -1 and 1; or (n, k) with labels in [0, k). Returns
    (n,). At the margin itself the derivative is 0 for two classes; for k it is shared among the
    maxima. Crammer & Singer 2001 for k classes.

    >>> hinge(np.array([0.5, 2.0]), np.array([-1, 1]))
    array([1.5, 0. ])
    """
    z, y = _pair("hinge", z, y)
    if len(shape_of(z)) == 2 and shape_of(z)[1] > 1:
        k = shape_of(z)[1]
        if shape_of(y) != shape_of(z)[:1]:
            raise ValueError(
                f"hinge: labels for {spec_of(z)!r} must have shape {shape_of(z)[:1]}; "
                f"got {shape_of(y)}."
            )
        _check_labels("hinge", z, y, integers=False)
        hit = _hit(y, k)
        right = np.sum(np.where(hit, z, 0), axis=1)
        return np.max(np.where(hit, z, z + 1), axis=1) - right
    z, y = _values("hinge", z, y)
    known = _known(y)
    if known is not None and not (np.isin(known, (0, 1)).all() or np.isin(known, (-1, 1)).all()):
        shown = ", ".join(f"{label:g}" for label in np.unique(known)[:3])
        raise ValueError(f"hinge: labels must be 0 and 1, or -1 and 1; got {shown}.")
    return _reduced("hinge", relu(1 - np.where(y > 0, z, -z)), "mean")


# Values.


@_loss("identity")
def squared_error(z: Any, y: Any, reduction: str = "mean") -> Any:
    """(z - y)^2: the mean over an example's outputs, their sum, or half the sum.

    z, y  (n,) or (n, k). Returns (n,).

    >>> squared_error(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]), reduction="half")
    array([2.5])
    """
    z, y = _values("squared_error", z, y)
    return _reduced("squared_error", np.square(z - y), reduction)


@_loss("identity")
def absolute_error(z: Any, y: Any, reduction: str = "mean") -> Any:
    """|z - y|, whose derivative where they are equal is 0. z, y  (n,) or (n, k). Returns (n,).

    >>> absolute_error(np.array([1.0, 2.0]), np.array([3.0, 2.0]))
    array([2., 0.])
    """
    z, y = _values("absolute_error", z, y)
    return _reduced("absolute_error", np.abs(z - y), reduction)


@_loss("identity")
def huber(z: Any, y: Any, delta: Any = 1.0, reduction: str = "mean") -> Any:
    """Squared near 0, absolute far away.

        L = r^2 / 2 for r <= delta, else delta (r - delta / 2),   r = |z - y|

    z, y  (n,) or (n, k). Returns (n,). Huber 1964.

    >>> huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]))
    array([0.125, 2.5  ])
    """
    if delta.__class__ is not Tracer and not delta > 0:
        raise ValueError(f"huber: delta must be positive; got {delta}.")
    z, y = _values("huber", z, y)
    r = np.abs(z - y)
    near = np.minimum(r, delta)  # r near - near^2 / 2 is both branches
    return _reduced("huber", near * (r - 0.5 * near), reduction)


@_loss("exp")
def poisson(z: Any, y: Any, reduction: str = "mean") -> Any:
    """Negative log-likelihood of a count y whose rate is exp(z), without its constant log(y!).

        L = exp(z) - y z

    z, y  (n,) or (n, k), y >= 0. Returns (n,). McCullagh & Nelder 1989, ch. 6.

    >>> poisson(np.array([0.0]), np.array([3]))
    array([1.])
    """
    z, y = _values("poisson", z, y)
    _check_range("poisson", y, 0, math.inf)
    return _reduced("poisson", np.exp(z) - y * z, reduction)


# Shapes and types.


def _pair(caller: str, z: Any, y: Any) -> tuple[Any, Any]:
    z, y = operand(z), operand(y)
    if spec_of(z).dtype.kind != "f":
        raise TypeError(
            f"{caller}: outputs must be of a float type; got {spec_of(z).dtype}. "
            "Are outputs and targets exchanged?"
        )
    if not 1 <= len(shape_of(z)) <= 2:
        raise ValueError(f"{caller}: outputs must have shape (n,) or (n, k); got {shape_of(z)}.")
    return z, y


def _columns(caller: str, z: Any, other: str) -> int:
    shape = shape_of(z)
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"{caller}: logits must have shape (n, k), k >= 2; got {shape}. "
            f"For one output use {other}."
        )
    return shape[1]


def _values(caller: str, z: Any, y: Any) -> tuple[Any, Any]:
    """Outputs and targets of one shape and type."""
    z, y = _pair(caller, z, y)
    have, want = shape_of(y), shape_of(z)
    if have != want and have[:1] == want[:1] and have[1:] in ((), (1,)) and want[1:] in ((), (1,)):
        y = np.reshape(y, want)
    elif have != want:
        raise ValueError(
            f"{caller}: outputs and targets must have one shape; got {want} and {have}."
        )
    return z, _like(y, z)


def _like(y: Any, z: Any) -> Any:
    dtype = spec_of(z).dtype
    return y if spec_of(y).dtype == dtype else y.astype(dtype)


def _hit(y: Any, k: int) -> Any:
    """True where the column is the label's: compared, not gathered, so that it joins a loop."""
    return np.arange(k) == y[:, None]


def _reduced(caller: str, values: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "half"):
        raise ValueError(f'{caller}: reduction must be "mean", "sum" or "half"; got {reduction!r}.')
    shape = shape_of(values)
    if len(shape) == 2:
        one = shape[1] == 1
        values = np.reshape(values, shape[:1]) if one else np.sum(values, axis=1)
        if reduction == "mean" and not one:
            values = values / shape[1]
    return 0.5 * values if reduction == "half" else values


# Checks of values, where these are known.


def _known(x: Any) -> Any:
    """The array behind a tracer, or None while a function is compiled."""
    while x.__class__ is Tracer:
        x = x.value
    return None if x.__class__ is Spec else np.asarray(x)


def _check_labels(caller: str, z: Any, y: Any, integers: bool = True) -> None:
    n, k = shape_of(z)
    dtype = spec_of(y).dtype
    if shape_of(y) != (n,):
        raise ValueError(f"{caller}: {n} examples need {n} labels; got {shape_of(y)[0]}.")
    if integers and dtype.kind not in "iu":
        raise TypeError(
            f"{caller}: labels (n,) must be integers; got {dtype}. Did you mean y.astype(int)?"
        )
    known = _known(y)
    if known is not None and known.size:
        wrong = known.max() if known.max() >= k else known.min()
        if not 0 <= wrong < k:
            raise ValueError(
                f"{caller}: labels must be in [0, {k}); got {wrong}."
                + (" Do they count from 1?" if wrong == k and known.min() == 1 else "")
            )


def _check_rows(caller: str, z: Any, y: Any) -> None:
    if shape_of(y) != shape_of(z):
        cure = " Did you mean y[:, 0]?" if shape_of(y) == (*shape_of(z)[:1], 1) else ""
        raise ValueError(
            f"{caller}: targets for logits {shape_of(z)} must be labels {shape_of(z)[:1]} or rows "
            f"{shape_of(z)}; got {shape_of(y)}.{cure}"
        )
    known = _known(y)
    if known is not None and known.size:
        sums = known.sum(axis=1, dtype=np.float64)
        if not np.allclose(sums, 1, atol=1e-3):
            i = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(f"{caller}: rows of targets must sum to 1; row {i} sums to {sums[i]}.")


def _check_range(caller: str, y: Any, low: float, high: float) -> None:
    known = _known(y)
    if known is not None and known.size:
        wrong = known.min() if not known.min() >= low else known.max()
        if not low <= wrong <= high:
            within = f"in [{low}, {high}]" if high < math.inf else f"at least {low}"
            raise ValueError(f"{caller}: targets must be {within}; got {wrong:g}.")
