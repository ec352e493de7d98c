"""NumPy's names for moving elements, said with the operations of `shape`."""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from typing import Any

import numpy as np

from fallline.core.errors import TracingError, UnsupportedError
from fallline.core.op import NOT_GIVEN, implements, refuse_extras
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import METHODS, Tracer, bind, operand
from fallline.ops.indexing import getitem
from fallline.ops.shape import (
    argsort_,
    broadcast_to,
    concatenate,
    diagonal,
    diagonal_matrix,
    embed,
    reshape,
    sort_,
    transpose,
)


def _axis(axis: Any, ndim: int) -> int:
    return int(np.lib.array_utils.normalize_axis_index(operator.index(axis), ndim))


@implements(np.reshape)
def _reshape(
    a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None
) -> Any:
    if order != "C":
        raise UnsupportedError(
            f"np.reshape: order={order!r} is not supported on traced arrays. Transpose first."
        )
    want = newshape if shape is None else shape
    want = [want] if isinstance(want, (int, np.integer)) else list(want)
    size = spec_of(a).size
    if want.count(-1) == 1:
        known = math.prod(n for n in want if n != -1)
        want[want.index(-1)] = size // known if known else 0
    want = tuple(operator.index(n) for n in want)
    if math.prod(want) != size:
        raise ValueError(
            f"reshape: {size} elements of shape {shape_of(a)} do not fit {tuple(want)}."
        )
    return a if want == shape_of(a) else bind(reshape, (a,), {"shape": want})


@implements(np.transpose, np.permute_dims)
def _transpose(a: Any, axes: Any = None) -> Any:
    ndim = len(shape_of(a))
    axes = tuple(range(ndim))[::-1] if axes is None else tuple(_axis(i, ndim) for i in axes)
    if sorted(axes) != list(range(ndim)):
        raise ValueError(f"transpose: axes must be a permutation of {ndim} axes; got {axes}.")
    return a if axes == tuple(range(ndim)) else bind(transpose, (a,), {"axes": axes})


@implements(np.swapaxes)
def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(len(shape_of(a))))
    i, j = _axis(axis1, len(axes)), _axis(axis2, len(axes))
    axes[i], axes[j] = axes[j], axes[i]
    return np.transpose(a, axes)


@implements(np.matrix_transpose)
def _matrix_transpose(x: Any, /) -> Any:
    return np.swapaxes(x, -1, -2)


@implements(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    ndim = len(shape_of(a))
    source = np.lib.array_utils.normalize_axis_tuple(
        tuple(source) if not isinstance(source, int) else source, ndim
    )
    destination = np.lib.array_utils.normalize_axis_tuple(
        tuple(destination) if not isinstance(destination, int) else destination, ndim
    )
    axes = [i for i in range(ndim) if i not in source]
    for to, at in sorted(zip(destination, source, strict=True)):
        axes.insert(to, at)
    return np.transpose(a, axes)


@implements(np.ravel)
def _ravel(a: Any, order: str = "C") -> Any:
    return _reshape(a, (-1,), order)


@implements(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = len(shape_of(a)) + len(given)
    at = np.lib.array_utils.normalize_axis_tuple(given, ndim)
    rest = iter(shape_of(a))
    return np.reshape(a, tuple(1 if i in at else next(rest) for i in range(ndim)))


@implements(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    shape = shape_of(a)
    ones = {i for i, n in enumerate(shape) if n == 1}
    at = ones if axis is None else set(np.lib.array_utils.normalize_axis_tuple(axis, len(shape)))
    if not at <= ones:
        raise ValueError(f"squeeze: an axis must have size 1; got shape {shape}, axis {axis}.")
    return np.reshape(a, tuple(n for i, n in enumerate(shape) if i not in at))


@implements(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if isinstance(shape, int) else tuple(map(operator.index, shape))
    if np.broadcast_shapes(shape_of(array), shape) != shape:
        raise ValueError(f"broadcast_to: shape {shape_of(array)} does not broadcast to {shape}.")
    return array if shape == shape_of(array) else bind(broadcast_to, (array,), {"shape": shape})


@implements(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    shape = np.broadcast_shapes(*map(shape_of, args))
    return tuple(np.broadcast_to(operand(a), shape) for a in args)


@implements(np.concatenate)
def _concatenate(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    refuse_extras("concatenate", out=out)
    parts = [operand(a) for a in arrays]
    if axis is None:
        parts, axis = [np.reshape(a, (-1,)) for a in parts], 0
    if not parts or not shape_of(parts[0]):
        raise ValueError(
            "concatenate: needs at least one array, none of dimension 0. Did you mean np.stack?"
        )
    axis = _axis(axis, len(shape_of(parts[0])))
    concatenate.spec(*map(spec_of, parts), axis=axis)  # refuses shapes that do not fit
    joined = parts[0] if len(parts) == 1 else bind(concatenate, parts, {"axis": axis})
    return joined if dtype is None else joined.astype(dtype)


@implements(np.stack)
def _stack(
    arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    refuse_extras("stack", out=out)
    parts = [operand(a) for a in arrays]
    if len({shape_of(a) for a in parts}) != 1:
        raise ValueError(
            "stack: all arrays must have one shape; "
            f"got {', '.join(str(shape_of(a)) for a in parts) or 'none'}."
        )
    return np.concatenate(
        [np.expand_dims(a, axis) for a in parts],
        axis=_axis(axis, len(shape_of(parts[0])) + 1),
        dtype=dtype,
    )


def _at_least(n: int, a: Any) -> Any:
    return np.reshape(operand(a), (1,) * (n - len(shape_of(a))) + shape_of(a))


@implements(np.hstack)
def _hstack(tup: Any, **ignored: Any) -> Any:
    parts = [_at_least(1, a) for a in tup]
    return np.concatenate(parts, axis=0 if len(shape_of(parts[0])) == 1 else 1)


@implements(np.vstack)
def _vstack(tup: Any, **ignored: Any) -> Any:
    return np.concatenate([_at_least(2, a) for a in tup], axis=0)


@implements(np.column_stack)
def _column_stack(tup: Any) -> Any:
    parts = [operand(a) for a in tup]
    return np.concatenate([np.reshape(a, (-1, 1)) if a.ndim < 2 else a for a in parts], axis=1)


@implements(np.append)
def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    return np.concatenate([arr, values], axis=axis)


@implements(np.atleast_1d)
def _atleast_1d(*arys: Any) -> Any:
    return _each(1, arys)


@implements(np.atleast_2d)
def _atleast_2d(*arys: Any) -> Any:
    return _each(2, arys)


def _each(n: int, arys: tuple[Any, ...]) -> Any:
    found = tuple(_at_least(n, a) for a in arys)
    return found if len(found) != 1 else found[0]


@implements(np.split)
def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    n = shape_of(ary)[axis]
    if isinstance(indices_or_sections, (int, np.integer)) and n % indices_or_sections:
        raise ValueError(
            f"split: {n} elements along axis {axis} do not divide into {indices_or_sections} "
            "equal parts. Did you mean np.array_split?"
        )
    return _array_split(ary, indices_or_sections, axis)


@implements(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    axis = _axis(axis, len(shape_of(ary)))
    n = shape_of(ary)[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        whole, more = divmod(n, int(indices_or_sections))
        edges = [i * whole + min(i, more) for i in range(int(indices_or_sections) + 1)]
    else:
        edges = [0, *indices_or_sections, n]
    lead = (slice(None),) * axis
    return [getitem(ary, (*lead, slice(a, b))) for a, b in pairwise(edges)]


@implements(np.flip)
def _flip(m: Any, axis: Any = None) -> Any:
    ndim = len(shape_of(m))
    axes = range(ndim) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, ndim)
    return getitem(
        m, tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(ndim))
    )


@implements(np.fliplr)
def _fliplr(m: Any) -> Any:
    return np.flip(m, 1)


@implements(np.flipud)
def _flipud(m: Any) -> Any:
    return np.flip(m, 0)


@implements(np.diff)
def _diff(
    a: Any, n: int = 1, axis: int = -1, prepend: Any = NOT_GIVEN, append: Any = NOT_GIVEN
) -> Any:
    refuse_extras("diff", prepend=prepend, append=append)
    lead = (slice(None),) * _axis(axis, len(shape_of(a)))
    for _ in range(n):
        a = a[(*lead, slice(1, None))] - a[(*lead, slice(None, -1))]
    return a


@implements(np.roll)
def _roll(a: Any, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return np.reshape(np.roll(np.reshape(a, (-1,)), shift, 0), shape_of(a))
    shifts, axes = np.broadcast_arrays(np.atleast_1d(shift), np.atleast_1d(axis))
    for s, ax in zip(shifts.tolist(), axes.tolist(), strict=True):
        ax = _axis(ax, len(shape_of(a)))
        n = shape_of(a)[ax]
        if n and s % n:
            lead = (slice(None),) * ax
            a = np.concatenate(
                [
                    getitem(a, (*lead, slice(n - s % n, None))),
                    getitem(a, (*lead, slice(0, n - s % n))),
                ],
                axis=ax,
            )
    return a


@implements(np.pad)
def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    if mode != "constant" or np.ndim(constant_values) != 0:
        raise UnsupportedError(
            "np.pad: on traced arrays only mode='constant' with one value is supported. "
            "Use np.concatenate for others."
        )
    shape = shape_of(array)
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(i, pad_width.get(i - len(shape), 0)) for i in range(len(shape))]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.intp), (len(shape), 2)).tolist()
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError(f"pad: widths must not be negative; got {pad_width}.")
    whole = tuple(a + n + b for n, (a, b) in zip(shape, widths, strict=True))
    index = tuple((a, n, 1) for n, (a, _) in zip(shape, widths, strict=True))
    padded = bind(embed, (array,), {"shape": whole, "index": index})
    if constant_values.__class__ is not Tracer and constant_values == 0:
        return padded
    inside = embed(np.ones(shape, bool), shape=whole, index=index)
    if constant_values.__class__ is not Tracer:
        constant_values = np.asarray(constant_values).astype(array.dtype)
    return np.where(inside, padded, constant_values)


@implements(np.tile)
def _tile(A: Any, reps: Any) -> Any:
    reps = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
    ndim = max(len(reps), len(shape_of(A)))
    reps = (1,) * (ndim - len(reps)) + reps
    A = _at_least(ndim, A)
    pairs = [m for r, n in zip(reps, shape_of(A), strict=True) for m in (r, n)]
    spaced = np.reshape(A, tuple(m for n in shape_of(A) for m in (1, n)))
    return np.reshape(
        np.broadcast_to(spaced, tuple(pairs)),
        tuple(r * n for r, n in zip(reps, shape_of(A), strict=True)),
    )


@implements(np.repeat)
def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    axis = _axis(axis, len(shape_of(a)))
    n = shape_of(a)[axis]
    if np.ndim(repeats) == 0:
        r = operator.index(repeats)
        shape = shape_of(a)
        spaced = np.broadcast_to(
            np.expand_dims(a, axis + 1), (*shape[: axis + 1], r, *shape[axis + 1 :])
        )
        return np.reshape(spaced, (*shape[:axis], n * r, *shape[axis + 1 :]))
    return np.take(a, np.repeat(np.arange(n), repeats), axis=axis)


@implements(np.take)
def _take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        raise UnsupportedError(
            "np.take: only mode='raise' is supported on traced arrays. "
            "Clip or wrap the indices first."
        )
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    axis = _axis(axis, len(shape_of(a)))
    refuse_extras("take", out=out)
    index = operand(indices)
    if spec_of(index).dtype.kind not in "iu":
        raise TypeError(f"take: indices must be integers; got {spec_of(index).dtype.name}.")
    return getitem(a, (*(slice(None),) * axis, index))


@implements(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        arr, axis = np.reshape(arr, (-1,)), 0
    ndim = len(shape_of(arr))
    axis = _axis(axis, ndim)
    shape = np.broadcast_shapes(
        *[tuple(1 if i == axis else n for i, n in enumerate(shape_of(x))) for x in (arr, indices)]
    )
    arr = np.broadcast_to(
        arr, tuple(shape_of(arr)[axis] if i == axis else n for i, n in enumerate(shape))
    )
    grid = [
        indices if i == axis else np.arange(n).reshape([-1 if k == i else 1 for k in range(ndim)])
        for i, n in enumerate(shape)
    ]
    return getitem(arr, tuple(grid))


@implements(np.sort)
def _sort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    return bind(sort_, (a,), {"axis": _axis(axis, len(shape_of(a)))})


@implements(np.argsort)
def _argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    if axis is None:
        a, axis = np.reshape(a, (-1,)), 0
    return bind(argsort_, (a,), {"axis": _axis(axis, len(shape_of(a)))})


def _triangle(function: Any) -> Any:
    @implements(function)
    def triangle(m: Any, k: int = 0) -> Any:
        return np.where(function(np.ones(shape_of(m)[-2:], bool), k), m, np.zeros((), m.dtype))

    return triangle


_triangle(np.tril)
_triangle(np.triu)


@implements(np.diagonal)
def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return bind(
        diagonal, (np.moveaxis(a, (axis1, axis2), (-2, -1)),), {"offset": operator.index(offset)}
    )


@implements(np.diag)
def _diag(v: Any, k: int = 0) -> Any:
    if len(shape_of(v)) not in (1, 2):
        raise ValueError(f"diag: the argument must have 1 or 2 dimensions; got {shape_of(v)}.")
    if len(shape_of(v)) == 2:
        return np.diagonal(v, k)
    n = shape_of(v)[0] + abs(k)
    return bind(diagonal_matrix, (v,), {"offset": k, "shape": (n, n)})


@implements(np.trace)
def _trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    refuse_extras("trace", out=out)
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@implements(np.shape)
def _shape(a: Any) -> Any:
    return a.shape


@implements(np.ndim)
def _ndim(a: Any) -> int:
    return a.ndim


@implements(np.result_type)
def _result_type(*arrays_and_dtypes: Any) -> Any:
    """A traced array speaks by its type, a traced Python number by its kind."""
    known = [a.spec if a.__class__ is Tracer else a for a in arrays_and_dtypes]
    samples = [
        np.zeros((), a.dtype).item() if a.weak else a.dtype for a in known if a.__class__ is Spec
    ]
    return np.result_type(*samples, *[a for a in known if a.__class__ is not Spec])


@implements(np.size)
def _size(a: Any, axis: Any = None) -> int:
    return a.size if axis is None else a.shape[axis]


@implements(np.zeros_like, np.empty_like)
def _zeros_like(
    a: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    return np.zeros(shape_of(a) if shape is None else shape, dtype or spec_of(a).dtype)


@implements(np.ones_like)
def _ones_like(a: Any, *args: Any, **kwargs: Any) -> Any:
    hollow = _zeros_like(a, *args, **kwargs)
    return np.ones(hollow.shape, hollow.dtype)


@implements(np.full_like)
def _full_like(a: Any, fill_value: Any, *args: Any, **kwargs: Any) -> Any:
    hollow = _zeros_like(a, *args, **kwargs)
    return np.where(True, fill_value, hollow).astype(hollow.dtype)


def _refuse_copyto(*args: Any, **kwargs: Any) -> Any:
    raise TracingError(
        "np.copyto: a traced array cannot be written into an existing one. "
        "Return the new array instead."
    )


implements(np.copyto, np.put, np.place, np.putmask, np.fill_diagonal)(_refuse_copyto)


def _unpacked(args: tuple[Any, ...]) -> Any:
    """Both x.reshape(2, 3) and x.reshape((2, 3))."""
    return args if len(args) != 1 or isinstance(args[0], (int, np.integer)) else args[0]


METHODS["__getitem__"] = getitem
METHODS["reshape"] = lambda a, *shape, order="C", copy=None: _reshape(a, _unpacked(shape), order)
METHODS["transpose"] = lambda a, *axes: _transpose(a, _unpacked(axes) or None)
METHODS["ravel"] = METHODS["flatten"] = _ravel
METHODS["squeeze"] = _squeeze
METHODS["swapaxes"] = _swapaxes
METHODS["repeat"] = _repeat
METHODS["take"] = _take
METHODS["diagonal"] = _diagonal
METHODS["trace"] = _trace
METHODS["argsort"] = _argsort
METHODS["dot"] = lambda a, b: np.dot(a, b)
