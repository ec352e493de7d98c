"""Leaves of trees of parameters: as arrays, checked, joined to one vector and split again."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.core import tree
from fallline.core.spec import Spec, shape_of, spec_of
from fallline.core.trace import Tracer

Leaves = list[Any]


def arrays_of(params: Any) -> tuple[Leaves, Any]:
    """The leaves as arrays or tracers, and the structure."""
    leaves, structure = tree.flatten(params)
    return [x if x.__class__ is Tracer else np.asarray(x) for x in leaves], structure


def check_floats(caller: str, params: Any) -> None:
    """Raise TypeError for parameters that cannot have a gradient."""
    for name, p in tree.named_leaves(params):
        if spec_of(p).dtype.kind != "f":
            where = f" at {name}" if name else ""
            raise TypeError(
                f"{caller}: parameters must be of a float type; got {spec_of(p).dtype}{where}. "
                "Did you mean p.astype(float)?"
            )


def gradients_of(caller: str, grads: Any, params: Leaves, structure: Any) -> Leaves:
    """The leaves of the gradient, in the types of the parameters."""
    found, form = arrays_of(grads)
    if form != structure:
        raise TypeError(
            f"{caller}: the gradient must have the structure of the parameters, {structure}; "
            f"got {form}."
        )
    for g, p in zip(found, params, strict=True):
        if shape_of(g) != shape_of(p):
            raise ValueError(
                f"{caller}: a gradient must have the shape of its parameter; "
                f"got {shape_of(g)} for {shape_of(p)}."
            )
    return [
        g if g.dtype == p.dtype else g.astype(p.dtype) for g, p in zip(found, params, strict=True)
    ]


def joined(rows: list[list[Any]]) -> list[Any]:
    """One vector for each column of arrays."""
    return [
        np.concatenate([np.reshape(x, (-1,)) for x in column]) for column in zip(*rows, strict=True)
    ]


def split(columns: list[Any], shapes: list[tuple[int, ...]]) -> list[list[Any]]:
    """The inverse of `joined`, for each of several vectors: pieces of these shapes."""
    ends = np.cumsum([Spec(s, np.dtype(float)).size for s in shapes]).tolist()
    pieces = list(zip([0, *ends], ends, shapes, strict=False))
    return [[np.reshape(x[a:b], shape) for x in columns] for a, b, shape in pieces]


def strong(x: Any) -> Spec:
    """The spec of an array, also for a number."""
    return Spec(shape_of(x), spec_of(x).dtype)
