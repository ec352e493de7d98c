"""The parameters of a network as one vector, with the arrays of its layers as views of it.

What it keeps but does not train is another such vector.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.core import tree

Array = np.ndarray[Any, Any]

ALIGNMENT = 64  # a cache line

# The memory of all vectors made here, while it lives. Arrays that a user cut out of another may
# lie as neatly, but training must not write into that one.
_ours: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()


def gathered(module: Any) -> Array:
    """One vector with all parameters of a module, which become views of it."""
    named = tree.named_leaves(module)
    dtype = _check("gather", type(module).__name__, named)
    return _one_vector(named, dtype, lambda views: _replace(module, views, kept=False))


def gathered_buffers(module: Any) -> Array:
    """One vector with all arrays of a module that are not trained, likewise."""
    named = module.named_buffers()
    dtype = _check("gather_buffers", type(module).__name__, named)
    return _one_vector(named, dtype, lambda views: _replace(module, views, kept=True))


def _one_vector(
    named: Sequence[tuple[str, Any]], dtype: np.dtype[Any], replace: Callable[[Any], Any]
) -> Array:
    leaves = [leaf for _, leaf in named]
    there = _where_they_are(leaves)
    if there is not None:
        return there
    whole = _aligned(sum(leaf.size for leaf in leaves), dtype)
    for leaf, view in zip(leaves, _views(whole, leaves)):
        view[...] = leaf
    replace(iter(_views(whole, leaves)))
    return whole


def is_gathered(leaves: Sequence[Any], whole: Array) -> bool:
    """Whether these arrays are, in this order, all of the vector."""
    return sum(map(np.size, leaves)) == whole.size and _follow(leaves, _address(whole))


def _check(caller: str, name: str, named: Sequence[tuple[str, Any]]) -> np.dtype[Any]:
    dtypes: dict[np.dtype[Any], str] = {}
    seen: dict[int, str] = {}
    for path, leaf in named:
        if not isinstance(leaf, np.ndarray):
            raise TypeError(
                f"{caller}: {path} of {name} must be an array; got {type(leaf).__name__}."
            )
        if leaf.dtype.kind != "f":
            raise TypeError(
                f"{caller}: {path} of {name} must be of a float type to be trained; got "
                f"{leaf.dtype}. Keep a fixed array as a tuple, or outside."
            )
        if id(leaf) in seen:
            raise ValueError(
                f"{caller}: {seen[id(leaf)]} and {path} of {name} are one array. Give each layer "
                "its own (layer.copy()), or hold it once and use it twice in __call__."
            )
        seen[id(leaf)] = path
        dtypes.setdefault(leaf.dtype, path)
    if len(dtypes) > 1:
        mixed = ", ".join(f"{path} {dtype}" for dtype, path in dtypes.items())
        raise TypeError(f"{caller}: all arrays of {name} must have one type; got {mixed}.")
    return next(iter(dtypes), np.dtype(np.float32))


def _where_they_are(leaves: Sequence[Array]) -> Array | None:
    """The vector that the arrays already make up, if they do."""
    base = leaves[0].base if leaves else None
    owner = _ours.get(id(base))
    if owner is None or owner is not base:
        return None
    start = _address(leaves[0])
    if any(leaf.base is not owner for leaf in leaves) or not _follow(leaves, start):
        return None
    size = sum(leaf.size for leaf in leaves)
    return np.ndarray((size,), leaves[0].dtype, owner.data, start - _address(owner))


def _follow(leaves: Sequence[Any], address: int) -> bool:
    """Whether the arrays lie one after the other, from this address on."""
    for leaf in leaves:
        if not isinstance(leaf, np.ndarray) or not leaf.flags.c_contiguous:
            return False
        if _address(leaf) != address:
            return False
        address += leaf.nbytes
    return True


def _views(whole: Array, leaves: Sequence[Array]) -> list[Array]:
    ends = np.cumsum([leaf.size for leaf in leaves])
    return [
        whole[end - leaf.size : end].reshape(leaf.shape) for leaf, end in zip(leaves, ends.tolist())
    ]


def _replace(value: Any, views: Any, *, kept: bool) -> Any:
    """Put the views where the arrays are, in the order of the tree: parameters, or what is kept."""
    if hasattr(value, "_child_names"):  # a module
        for name in value._child_names():
            if name not in value.buffers:
                value.__dict__[name] = _replace(value.__dict__[name], views, kept=kept)
            elif kept:
                value.__dict__[name] = next(views)
        return value
    if isinstance(value, np.ndarray):
        return value if kept else next(views)
    if isinstance(value, dict):
        value.update({key: _replace(value[key], views, kept=kept) for key in sorted(value)})
        return value
    if isinstance(value, list):
        value[:] = [_replace(part, views, kept=kept) for part in value]
        return value
    if isinstance(value, tuple):
        parts = [_replace(part, views, kept=kept) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _aligned(size: int, dtype: np.dtype[Any]) -> Array:
    raw = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    _ours[id(raw)] = raw
    start = -_address(raw) % ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0]
