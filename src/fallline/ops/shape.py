"""Operations that move elements and compute nothing: views, joins, gathering, sorting.

All are linear (sort, at a given order), each with its transpose. Reshape, transpose, broadcast_to,
slice and diagonal are views in compiled code. Equal elements keep their order in sort and argsort,
and so do their derivatives. `rearrange` says NumPy's many other names with these, `indexing` x[i].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.core.op import Op, linear, primitive
from fallline.core.spec import Spec, shape_of

# Views.

reshape = linear(
    lambda x, *, shape: np.reshape(x, shape),
    lambda g, x, *, shape: np.reshape(g, shape_of(x)),
    spec=lambda x, *, shape: Spec(shape, x.dtype),
    name="reshape",
    kind="view",
)
transpose = linear(
    lambda x, *, axes: np.transpose(x, axes),
    lambda g, x, *, axes: np.transpose(g, tuple(int(i) for i in np.argsort(axes))),
    spec=lambda x, *, axes: Spec(tuple(x.shape[i] for i in axes), x.dtype),
    name="transpose",
    kind="view",
)
broadcast_to = linear(
    lambda x, *, shape: np.broadcast_to(x, shape),
    lambda g, x, *, shape: g,  # autodiff sums it back
    spec=lambda x, *, shape: Spec(shape, x.dtype),
    name="broadcast_to",
    kind="view",
)


def _cut(x: Any, index: tuple[tuple[int, int, int], ...]) -> Any:
    """x[start : : step] with a count, per axis; a stop below zero cannot be written as a slice."""
    slices = [
        slice(a, None if (stop := a + n * step) < 0 else stop, step) if n else slice(0, 0)
        for a, n, step in index
    ]
    return x[(*slices, ...)]  # ...: an array, to be written to, even without axes


def _embedded(x: Any, *, shape: tuple[int, ...], index: tuple[tuple[int, int, int], ...]) -> Any:
    out = np.zeros(shape, x.dtype)
    _cut(out, index)[...] = x
    return out


slice_ = linear(
    lambda x, *, index: _cut(x, index),
    lambda g, x, *, index: embed(g, shape=shape_of(x), index=index),
    spec=lambda x, *, index: Spec(tuple(n for _, n, _ in index), x.dtype),
    name="slice",
    kind="view",
)
embed: Op = linear(
    _embedded,
    lambda g, x, *, shape, index: slice_(g, index=index),
    spec=lambda x, *, shape, index: Spec(shape, x.dtype),
    name="embed",
    kind="embed",
)
diagonal = linear(
    lambda x, *, offset: np.diagonal(x, offset, -2, -1),
    lambda g, x, *, offset: diagonal_matrix(g, offset=offset, shape=shape_of(x)[-2:]),
    name="diagonal",
    kind="view",
)


def _diagonal_matrix(d: Any, *, offset: int, shape: tuple[int, int]) -> Any:
    out = np.zeros(d.shape[:-1] + shape, d.dtype)
    i = np.arange(d.shape[-1])
    out[..., i + max(-offset, 0), i + max(offset, 0)] = d
    return out


diagonal_matrix: Op = linear(
    _diagonal_matrix,
    lambda g, d, *, offset, shape: diagonal(g, offset=offset),
    name="diagonal_matrix",
    kind="embed_diagonal",
)

# Joins.


def _part(i: int, g: Any, *xs: Any, axis: int) -> Any:
    """The i-th part of a joined array."""
    start = sum(shape_of(x)[axis] for x in xs[:i])
    index = tuple(
        (start, shape_of(xs[i])[axis], 1) if k == axis else (0, n, 1)
        for k, n in enumerate(shape_of(g))
    )
    return slice_(g, index=index)


def _joined(*xs: Spec, axis: int) -> Spec:
    shape = list(xs[0].shape)
    for x in xs[1:]:
        if x.ndim != len(shape) or any(
            n != m for k, (n, m) in enumerate(zip(x.shape, shape, strict=True)) if k != axis
        ):
            raise ValueError(
                f"concatenate: shapes must agree except along axis {axis}; "
                f"got {', '.join(str(x.shape) for x in xs)}."
            )
    shape[axis] = sum(x.shape[axis] for x in xs)
    return Spec(tuple(shape), np.result_type(*[x.dtype for x in xs]))


concatenate = linear(
    lambda *xs, axis: np.concatenate(xs, axis=axis),
    _part,
    spec=_joined,
    name="concatenate",
    kind="concatenate",
    arrays=None,
)

# Indexing with integers.


def _scattered(g: Any, *index: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g)
    return out


def _gathered(x: Spec, *index: Spec) -> Spec:
    return Spec(np.broadcast_shapes(*[i.shape for i in index]) + x.shape[len(index) :], x.dtype)


gather: Op = primitive(
    lambda x, *index: x[index],
    lambda g, y, x, *index: scatter_add(g, *index, shape=shape_of(x)),
    jvp=lambda y, args, tangents: gather(tangents[0], *args[1:]),
    spec=_gathered,
    name="gather",
    kind="gather",
    arrays=None,
    analytic=True,
)
scatter_add: Op = primitive(
    _scattered,
    lambda g, y, x, *index, shape: gather(g, *index),
    jvp=lambda y, args, tangents, *, shape: scatter_add(tangents[0], *args[1:], shape=shape),
    spec=lambda g, *index, shape: Spec(shape, g.dtype),
    name="scatter_add",
    kind="scatter",
    arrays=None,
    analytic=True,
)


# Sorting.

argsort_ = primitive(
    lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"),
    spec=lambda x, *, axis: Spec(x.shape, np.dtype(np.intp)),
    name="argsort",
    kind="sort",
    eager_only="sorting has no kernel",
)
sort_ = primitive(
    lambda x, *, axis: np.sort(x, axis=axis, kind="stable"),
    lambda g, y, x, *, axis: np.take_along_axis(
        g, argsort_(argsort_(x, axis=axis), axis=axis), axis=axis
    ),
    jvp=lambda y, args, tangents, *, axis: np.take_along_axis(
        tangents[0], argsort_(args[0], axis=axis), axis=axis
    ),
    spec=lambda x, *, axis: x,
    name="sort",
    kind="sort",
    eager_only="sorting has no kernel",
)
