"""x[index] as slices and gathering: `getitem`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.core.errors import UnsupportedError
from fallline.core.spec import shape_of
from fallline.core.trace import Tracer
from fallline.ops.shape import gather, slice_


def getitem(x: Any, index: Any) -> Any:
    """x[index], with slices, integers, None, Ellipsis, integer arrays and boolean arrays."""
    items = [_item(i) for i in (index if isinstance(index, tuple) else (index,))]
    arrays = [k for k, i in enumerate(items) if i.__class__ in (np.ndarray, Tracer)]
    x, rest = _basic(x, _expand_ellipsis(items, len(shape_of(x))))
    if not arrays:
        return x
    # Beside arrays, an integer counts as one: it may part two of them, or stand apart.
    advanced = [k for k, i in enumerate(items) if k in arrays or isinstance(i, int)]
    together = advanced == list(range(advanced[0], advanced[-1] + 1))
    return _advanced(x, rest, together)


def _item(i: Any) -> Any:
    """Slices, None and Ellipsis stay; integers become int; anything else an array."""
    if i is None or i is Ellipsis or isinstance(i, slice) or i.__class__ is Tracer:
        return i
    if isinstance(i, (int, np.integer)) and not isinstance(i, bool):
        return int(i)
    array = np.asarray(i)
    if array.dtype.kind == "b" and not array.ndim:
        raise UnsupportedError("x[True]: a single bool as index is not supported on traced arrays.")
    if array.dtype.kind not in "iub":
        if array.size == 0:
            return array.astype(np.intp)
        raise IndexError(
            "an index must be an integer, a slice, None, Ellipsis or an integer or boolean array; "
            f"got {array.dtype.name}."
        )
    return array


def _used(item: Any) -> int:
    """How many axes an item consumes."""
    if item is None:
        return 0
    if item.__class__ in (np.ndarray, Tracer) and item.dtype.kind == "b":
        return item.ndim
    return 1


def _expand_ellipsis(items: list[Any], ndim: int) -> list[Any]:
    used = sum(_used(i) for i in items if i is not Ellipsis)
    if used > ndim:
        raise IndexError(f"too many indices: the array has {ndim} dimensions, {used} were indexed.")
    at = [k for k, i in enumerate(items) if i is Ellipsis]
    if len(at) > 1:
        raise IndexError("an index can have only one Ellipsis.")
    fill = [slice(None)] * (ndim - used)
    return items + fill if not at else items[: at[0]] + fill + items[at[0] + 1 :]


def _basic(x: Any, items: list[Any]) -> tuple[Any, list[Any]]:
    """Do slices, integers and None; leave arrays as items over the axes that remain."""
    cuts: list[tuple[int, int, int]] = []
    shape: list[int] = []
    rest: list[Any] = []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            rest.append(slice(None))
        elif item.__class__ in (np.ndarray, Tracer):
            for k in range(_used(item)):
                n = shape_of(x)[axis + k]
                cuts.append((0, n, 1))
                shape.append(n)
            rest.append(item)
            axis += _used(item)
        else:
            n = shape_of(x)[axis]
            if isinstance(item, slice):
                start, stop, step = item.indices(n)
                count = len(range(start, stop, step))
                cuts.append((start if count else 0, count, step))
                shape.append(count)
                rest.append(slice(None))
            else:
                if not -n <= item < n:
                    raise IndexError(
                        f"index {item} is out of bounds for axis {axis} with size {n}."
                    )
                cuts.append((item % n, 1, 1))
            axis += 1
    if any((a, m, s) != (0, n, 1) for (a, m, s), n in zip(cuts, shape_of(x), strict=True)):
        x = slice_(x, index=tuple(cuts))
    return np.reshape(x, tuple(shape)), rest


def _advanced(x: Any, items: list[Any], together: bool) -> Any:
    """Integer and boolean arrays: bring their axes to the front, and gather.

    NumPy puts the result's new axes where the arrays stood together, else in front.
    """
    index: list[Any] = []
    axes: list[int] = []
    axis = 0
    for item in items:
        if isinstance(item, slice):
            axis += 1
            continue
        parts = (
            [_wrap(item, shape_of(x)[axis])]
            if item.dtype.kind != "b"
            else _hits(item, shape_of(x)[axis : axis + item.ndim])
        )
        for part in parts:
            index.append(part)
            axes.append(axis)
            axis += 1
    others = [a for a in range(len(shape_of(x))) if a not in axes]
    y = gather(np.transpose(x, (*axes, *others)), *index)
    lead = len(shape_of(y)) - len(others)
    if together and axes[0] > 0:
        before = axes[0]
        y = np.transpose(
            y, (*range(lead, lead + before), *range(lead), *range(lead + before, len(shape_of(y))))
        )
    return y


def _wrap(index: Any, n: int) -> Any:
    """Indices in range, negative ones from the end; known ones are checked here."""
    if index.__class__ is Tracer:
        return index
    index = index.astype(np.intp)
    if index.size and not (-n <= index.min() and index.max() < n):
        bad = index[(index < -n) | (index >= n)].flat[0]
        raise IndexError(f"index {bad} is out of bounds for axis with size {n}.")
    return np.where(index < 0, index + n, index)


def _hits(mask: Any, shape: tuple[int, ...]) -> list[Any]:
    if mask.__class__ is Tracer:
        value = mask._concrete("indexing with a boolean array", "np.where(mask, x, 0)")
        mask = np.asarray(value)
    if mask.shape != shape:
        raise IndexError(
            f"a boolean index must have the shape of what it indexes; got {mask.shape} for {shape}."
        )
    return list(np.nonzero(mask))
