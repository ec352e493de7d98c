"""Reductions along axes; what is not an operation here is said with those that are.

Ties and kinks, by convention: max and min share the derivative equally among the elements that
attain them; argmax and argmin name the first one; norm, std and var have derivative 0 at 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fallline.core.errors import UnsupportedError
from fallline.core.op import NOT_GIVEN, Op, implements, linear, primitive, refuse_extras
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import METHODS, bind, operand
from fallline.ops.elementwise import stop_gradient


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


def _dropped(x: Any, axis: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape_of(x)) if i not in axis)


_NEED_ELEMENTS = (np.max, np.min, np.argmax, np.argmin)


def _reduced(function: Any) -> Any:
    """The spec of a reduction: the shape without the axes, the type that NumPy gives it."""

    def rule(x: Spec, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        shape = _kept(x, axis) if keepdims else _dropped(x, axis)
        if function in _NEED_ELEMENTS and any(x.shape[i] == 0 for i in axis):
            name = function.__name__
            raise ValueError(f"{name}: there is no {name} of nothing; got {x!r}, axis {axis}.")
        return Spec(shape, function(np.ones(1, x.dtype)).dtype)

    return rule


def _extreme(function: Any, name: str) -> Op:
    def share(y: Any, x: Any, axis: tuple[int, ...]) -> tuple[Any, Any]:
        hit = x == _spread(y, x, axis)
        count = np.sum(hit, axis=axis, keepdims=True)
        return hit, np.maximum(count, 1).astype(spec_of(x).dtype)  # a nan equals nothing

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


def _keep(keepdims: Any) -> bool:
    return False if keepdims is NOT_GIVEN else bool(keepdims)


def _reduction(op: Op, *functions: Any, has_dtype: bool = False) -> None:
    def reduction(a: Any, axis: Any, keepdims: Any, **extras: Any) -> Any:
        refuse_extras(op.name, **extras)
        params = {"axis": _axes(axis, len(shape_of(a))), "keepdims": _keep(keepdims)}
        return bind(op, (a,), params)

    def plain(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = NOT_GIVEN,
        where: Any = NOT_GIVEN,
    ) -> Any:
        return reduction(a, axis, keepdims, out=out, initial=initial, where=where)

    def typed(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = NOT_GIVEN,
        where: Any = NOT_GIVEN,
    ) -> Any:
        a = a if dtype is None else a.astype(dtype)
        return reduction(a, axis, keepdims, out=out, initial=initial, where=where)

    METHODS[op.name] = implements(*functions)(typed if has_dtype else plain)


def _position(op: Op, function: Any) -> None:
    @implements(function)
    def position(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        refuse_extras(op.name, out=out)
        flat, along = (np.reshape(a, (-1,)), 0) if axis is None else (a, axis)
        params = {"axis": _axes(along, len(shape_of(flat))), "keepdims": _keep(keepdims)}
        found = bind(op, (flat,), params)
        if axis is None and params["keepdims"]:
            return np.reshape(found, (1,) * len(shape_of(a)))
        return found

    METHODS[op.name] = position


_reduction(sum_, np.sum, has_dtype=True)
_reduction(max_, np.max, np.amax)
_reduction(min_, np.min, np.amin)
_reduction(all_, np.all)
_reduction(any_, np.any)
_position(argmax_, np.argmax)
_position(argmin_, np.argmin)


# What is said with them.


@implements(np.cumsum)
def _cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    refuse_extras("cumsum", dtype=dtype, out=out)
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    return bind(cumsum_, (a,), {"axis": _axes(axis, len(shape_of(a)))[0]})


@implements(np.cumprod)
def _cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Doubling: after k rounds an element holds the product of the 2^k that end with it."""
    refuse_extras("cumprod", dtype=dtype, out=out)
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    x, step = np.moveaxis(a, axis, 0), 1
    while step < shape_of(x)[0]:
        x = np.concatenate([x[:step], x[step:] * x[:-step]])
        step *= 2
    return np.moveaxis(x, 0, axis)


@implements(np.mean)
def _mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = NOT_GIVEN,
) -> Any:
    refuse_extras("mean", out=out, where=where)
    return np.sum(a, axis=axis, dtype=dtype, keepdims=_keep(keepdims)) / _count(a, axis)


def _count(a: Any, axis: Any) -> int:
    return math.prod(shape_of(a)[i] for i in _axes(axis, len(shape_of(a))))


@implements(np.average)
def _average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    if returned:
        raise UnsupportedError("np.average: returned=True is not supported on traced arrays.")
    if weights is None:
        return np.mean(a, axis=axis, keepdims=_keep(keepdims))
    a, w = operand(a), operand(weights)
    if shape_of(w) != shape_of(a):  # one weight for each place along the axis
        w = np.reshape(w, [-1 if i in _axes(axis, a.ndim) else 1 for i in range(a.ndim)])
    total = np.sum(np.broadcast_to(w, shape_of(a)), axis=axis, keepdims=_keep(keepdims))
    return np.sum(a * w, axis=axis, keepdims=_keep(keepdims)) / total


@implements(np.var)
def _var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = NOT_GIVEN,
    mean: Any = NOT_GIVEN,
    correction: Any = NOT_GIVEN,
) -> Any:
    refuse_extras("var", dtype=dtype, out=out, where=where, mean=mean)
    away = a - np.mean(a, axis=axis, keepdims=True)
    divisor = max(_count(a, axis) - (ddof if correction is NOT_GIVEN else correction), 0)
    return np.sum(away * away, axis=axis, keepdims=_keep(keepdims)) / divisor


@implements(np.std)
def _std(a: Any, *args: Any, **kwargs: Any) -> Any:
    return _root(_var(a, *args, **kwargs))


def _root(x: Any) -> Any:
    """The square root with derivative 0 at 0, where it has none."""
    zero = x == 0
    return np.where(zero, x, np.sqrt(np.where(zero, 1, x)))


@implements(np.ptp)
def _ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    refuse_extras("ptp", out=out)
    k = _keep(keepdims)
    return np.max(a, axis=axis, keepdims=k) - np.min(a, axis=axis, keepdims=k)


@implements(np.count_nonzero)
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(a != 0, axis=axis, keepdims=keepdims)


@implements(np.isclose)
def _isclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    a, b = operand(a), operand(b)
    with np.errstate(invalid="ignore"):  # inf - inf
        near = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@implements(np.allclose)
def _allclose(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
    return np.all(_isclose(a, b, *args, **kwargs))


@implements(np.array_equal)
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a, b = operand(a1), operand(a2)
    if shape_of(a) != shape_of(b):
        return False
    return np.all((a == b) | (np.isnan(a) & np.isnan(b)) if equal_nan else a == b)


@implements(np.prod)
def _prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = NOT_GIVEN,
    where: Any = NOT_GIVEN,
) -> Any:
    """Halving: pairs are multiplied until one is left.

    The derivative is right at zeros too, to any order, and costs O(n).
    """
    refuse_extras("prod", out=out, initial=initial, where=where)
    a = a.astype(np.prod(np.ones(1, spec_of(a).dtype), dtype=dtype).dtype)
    axes = _axes(axis, len(shape_of(a)))
    rest = _dropped(a, axes)
    x = np.reshape(np.moveaxis(a, axes, range(len(axes))), (_count(a, axes), *rest))
    while (n := shape_of(x)[0]) > 1:
        pairs = x[0 : n - 1 : 2] * x[1:n:2]
        x = np.concatenate([pairs, x[n - 1 :]]) if n % 2 else pairs
    product = np.reshape(x, rest) if n else np.ones(rest, a.dtype)
    return np.reshape(product, _kept(a, axes)) if _keep(keepdims) else product


@implements(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean (Frobenius) norm, and for vectors 1, 2, inf and -inf."""
    over = len(shape_of(x)) if axis is None else len(_axes(axis, len(shape_of(x))))
    if ord is None or (ord == "fro" and over == 2) or (ord == 2 and over == 1):
        return _root(np.sum(x * x, axis=axis, keepdims=keepdims))
    if over == 1 and ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if over == 1 and ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    raise UnsupportedError(
        f"np.linalg.norm: ord={ord!r} is not supported on traced arrays; "
        "None, 'fro' and, for vectors, 1, 2, inf are."
    )


@implements(np.linalg.vector_norm)
def _vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    if axis is None:
        norm = _norm(np.reshape(x, (-1,)), ord)
        return np.reshape(norm, (1,) * len(shape_of(x))) if keepdims else norm
    return _norm(x, None if ord == 2 else ord, axis, keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along axes.

    The largest element is subtracted before exp, so that no finite input overflows.

    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    x = operand(x)
    top = stop_gradient(np.max(x, axis=axis, keepdims=True))  # its own derivative cancels
    top = np.where(np.isfinite(top), top, 0)  # inf - inf would be nan
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.reshape(total, _dropped(x, _axes(axis, len(shape_of(x)))))


METHODS["mean"], METHODS["var"], METHODS["std"] = _mean, _var, _std
METHODS["prod"], METHODS["cumsum"], METHODS["cumprod"] = _prod, _cumsum, _cumprod
