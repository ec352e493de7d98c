"""Reductions along axes. Sum, max, min, argmax, argmin, all, any and cumsum are operations; the others are said with them.

Ties: max and min share the derivative equally among the elements that attain them; argmax and argmin name the first one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.core.errors import UnsupportedError, at_user_line
from fallline.core.op import Op, implements, linear, primitive
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import METHODS, bind, operand

_MISSING = np._NoValue  # type: ignore[attr-defined]


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(given, ndim)))


def _kept(x: Any, axis: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axis else n for i, n in enumerate(shape_of(x)))


def _spread(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """A value of the reduced shape, broadcastable against x."""
    return np.reshape(g, _kept(x, axis))


def _reduced(function: Any) -> Any:
    """The spec of a reduction: the shape without the axes, the type that NumPy gives it."""

    def rule(x: Spec, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        shape = (
            _kept(x, axis) if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axis)
        )
        dtype = function(
            np.ones(1, x.dtype),
            axis=(0,) if function not in (np.argmax, np.argmin) else 0,
            keepdims=False,
        ).dtype
        return Spec(shape, dtype)

    return rule


def _extreme(function: Any, name: str) -> Op:
    def share(y: Any, x: Any, axis: tuple[int, ...]) -> tuple[Any, Any]:
        hit = x == _spread(y, x, axis)
        return hit, np.sum(hit, axis=axis, keepdims=True).astype(spec_of(x).dtype)

    def vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        hit, count = share(y, x, axis)
        return np.where(hit, _spread(g, x, axis) / count, 0)

    def jvp(y: Any, args: Any, tangents: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        hit, count = share(y, args[0], axis)
        return np.sum(np.where(hit, tangents[0] / count, 0), axis=axis, keepdims=keepdims)

    return primitive(
        lambda x, *, axis, keepdims: function(x, axis=axis, keepdims=keepdims),
        vjp,
        jvp=jvp,
        spec=_reduced(function),
        name=name,
        kind="reduce",
        kernel=name,
    )


sum_ = linear(
    lambda x, *, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    lambda g, x, *, axis, keepdims: np.broadcast_to(_spread(g, x, axis), shape_of(x)),
    spec=_reduced(np.sum),
    name="sum",
    kind="reduce",
    kernel="add",
)
max_ = _extreme(np.max, "max")
min_ = _extreme(np.min, "min")
all_ = primitive(
    lambda x, *, axis, keepdims: np.all(x, axis=axis, keepdims=keepdims),
    spec=_reduced(np.all),
    name="all",
    kind="reduce",
    kernel="all",
)
any_ = primitive(
    lambda x, *, axis, keepdims: np.any(x, axis=axis, keepdims=keepdims),
    spec=_reduced(np.any),
    name="any",
    kind="reduce",
    kernel="any",
)


def _arg(function: Any, name: str) -> Op:
    return primitive(
        lambda x, *, axis, keepdims: function(x, axis=axis[0], keepdims=keepdims),
        spec=_reduced(function),
        name=name,
        kind="argreduce",
        kernel=name,
    )


argmax_ = _arg(np.argmax, "argmax")
argmin_ = _arg(np.argmin, "argmin")

cumsum_ = linear(
    lambda x, *, axis: np.cumsum(x, axis=axis),
    lambda g, x, *, axis: np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis),
    name="cumsum",
    kind="scan",
)


# NumPy's own signatures.


def _only(caller: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None and value is not _MISSING:
            raise UnsupportedError(f"np.{caller}: the argument {name}= is not supported on traced arrays. Use np.where, .astype or a slice instead.")


def _reduction(op: Op, *functions: Any, name: str) -> Any:
    @implements(*functions)
    def reduction(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = _MISSING,
        where: Any = _MISSING,
    ) -> Any:
        _only(name, out=out, initial=initial, where=where)
        a = operand(a)
        if dtype is not None:
            a = a.astype(np.dtype(dtype))
        return bind(op, (a,), {"axis": _axes(axis, len(shape_of(a))), "keepdims": _flag(keepdims)})

    METHODS[name] = reduction
    return reduction


def _flag(keepdims: Any) -> bool:
    return False if keepdims is _MISSING else bool(keepdims)


def _choice(op: Op, *functions: Any, name: str) -> Any:
    """max, min, all, any: as a reduction, without dtype."""

    @implements(*functions)
    def reduction(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = _MISSING,
        where: Any = _MISSING,
    ) -> Any:
        _only(name, out=out, initial=initial, where=where)
        return bind(op, (a,), {"axis": _axes(axis, len(shape_of(a))), "keepdims": _flag(keepdims)})

    METHODS[name] = reduction
    return reduction


def _position(op: Op, function: Any, name: str) -> Any:
    @implements(function)
    def reduction(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        _only(name, out=out)
        if axis is None:
            a, axis = np.reshape(a, (-1,)), 0
        return bind(op, (a,), {"axis": _axes(axis, len(shape_of(a))), "keepdims": _flag(keepdims)})

    METHODS[name] = reduction
    return reduction


_reduction(sum_, np.sum, name="sum")
_choice(max_, np.max, np.amax, name="max")
_choice(min_, np.min, np.amin, name="min")
_choice(all_, np.all, name="all")
_choice(any_, np.any, name="any")
_position(argmax_, np.argmax, "argmax")
_position(argmin_, np.argmin, "argmin")


@implements(np.cumsum)
def _cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    _only("cumsum", dtype=dtype, out=out)
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    return bind(cumsum_, (a,), {"axis": _axes(axis, len(shape_of(a)))[0]})


@implements(np.mean)
def _mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = _MISSING,
) -> Any:
    _only("mean", out=out, where=where)
    return np.sum(a, axis=axis, dtype=dtype, keepdims=_flag(keepdims)) / _count(a, axis)


def _count(a: Any, axis: Any) -> int:
    return int(np.prod([shape_of(a)[i] for i in _axes(axis, len(shape_of(a)))], dtype=np.int64))


@implements(np.var)
def _var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = _MISSING,
    mean: Any = _MISSING,
    correction: Any = _MISSING,
) -> Any:
    _only("var", dtype=dtype, out=out, where=where, mean=mean)
    away = a - np.mean(a, axis=axis, keepdims=True)
    divisor = max(_count(a, axis) - (ddof if correction is _MISSING else correction), 0)
    return np.sum(away * away, axis=axis, keepdims=_flag(keepdims)) / divisor


@implements(np.std)
def _std(a: Any, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(_var(a, *args, **kwargs))


@implements(np.prod)
def _prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _MISSING,
    where: Any = _MISSING,
) -> Any:
    """Halving: pairs are multiplied until one is left. The derivative is right at zeros too, to any order, and costs O(n)."""
    _only("prod", dtype=dtype, out=out, initial=initial, where=where)
    axes = _axes(axis, len(shape_of(a)))
    kept = _kept(a, axes)
    rest = tuple(n for i, n in enumerate(shape_of(a)) if i not in axes)
    x = np.reshape(np.moveaxis(a, axes, range(len(axes))), (_count(a, axes), *rest))
    while (n := shape_of(x)[0]) > 1:
        pairs = x[0 : n - 1 : 2] * x[1:n:2]
        x = np.concatenate([pairs, x[n - 1 :]]) if n % 2 else pairs
    product = np.reshape(x, rest) if n else np.ones(rest, a.dtype)
    return np.reshape(product, kept) if _flag(keepdims) else product


@implements(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean (Frobenius) norm, and 1, 2, inf for vectors. Its derivative at 0 is 0, by convention."""
    vector = (
        isinstance(axis, int)
        or (axis is None and len(shape_of(x)) == 1)
        or (isinstance(axis, tuple) and len(axis) == 1)
    )
    if ord in (None, "fro") or (ord == 2 and vector):
        total = np.sum(x * x, axis=axis, keepdims=keepdims)
        zero = total == 0
        return np.where(zero, 0, np.sqrt(np.where(zero, 1, total)))
    if vector and ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if vector and ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    raise UnsupportedError(f"np.linalg.norm: ord={ord!r} is not supported on traced arrays; None, 'fro' and, for vectors, 1, 2, inf are.")


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along axes, with the largest element subtracted before exp, so that no finite input overflows.

    >>> float(logsumexp(np.array([1000.0, 1000.0]))) - 1000
    0.6931471805599...
    """
    from fallline.ops.elementwise import stop_gradient

    x = operand(x)
    top = stop_gradient(np.max(x, axis=axis, keepdims=True))  # its own derivative cancels
    top = np.where(np.isfinite(top), top, 0)  # inf - inf would be nan
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.reshape(total, _dropped(x, axis))


def _dropped(x: Any, axis: Any) -> tuple[int, ...]:
    axes = _axes(axis, len(shape_of(x)))
    return tuple(n for i, n in enumerate(shape_of(x)) if i not in axes)


METHODS["mean"], METHODS["var"], METHODS["std"], METHODS["prod"], METHODS["cumsum"] = (
    _mean,
    _var,
    _std,
    _prod,
    _cumsum,
)
