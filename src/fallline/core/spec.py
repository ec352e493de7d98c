"""What is known of a value before it is computed: its shape and its type, and if that is weak."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

_SHORT = {"float": "f", "int": "i", "uint": "u", "complex": "c"}
NUMBERS = (float, int, bool)
OF_PYTHON = {np.dtype(float): "float", np.dtype(int): "int", np.dtype(bool): "bool"}


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and type of an array.

    A weak spec stands for a Python number: it takes the type of the array that it meets, as in
    NumPy 2, and what is computed element by element from weak numbers alone stays weak.

    >>> Spec((64, 10), np.dtype("float32"))
    f32[64,10]
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    weak: bool = False

    def __post_init__(self) -> None:
        if self.dtype.__class__.__module__ != "numpy.dtypes":  # a name or a type: Spec((3,), "f4")
            object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.shape.__class__ is not tuple:
            object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        if self.weak:
            return OF_PYTHON[self.dtype]
        kind = self.dtype.name.rstrip("0123456789")
        short = _SHORT.get(kind, kind) + self.dtype.name[len(kind) :]
        return f"{short}[{','.join(map(str, self.shape))}]"


def array_spec(shape: tuple[int, ...], dtype: Any) -> Spec:
    """The spec of an array of this shape and type.

    >>> array_spec((3,), "float32")
    f32[3]
    """
    return Spec(tuple(shape), np.dtype(dtype))


def spec_of(value: Any) -> Spec:
    """The spec of an array, a NumPy scalar, a Python number, a tracer or a spec.

    >>> spec_of(np.float32(1)), spec_of(1.0)
    (f32[], float)
    """
    kind = value.__class__
    if kind is Spec:
        return value
    if kind is float or kind is int or kind is bool:
        return Spec((), np.dtype(kind), True)
    found = getattr(value, "spec", None)
    if found.__class__ is Spec:
        return found
    if hasattr(value, "dtype"):
        return Spec(tuple(value.shape), np.dtype(value.dtype))
    return spec_of(np.asarray(value))


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of anything that `spec_of` takes; () for Python numbers."""
    return getattr(value, "shape", ())


def is_masked(value: Any) -> bool:
    """Whether it is a masked array: then numpy.ma, slow to import, has been imported already."""
    module = sys.modules.get("numpy.ma")
    return module is not None and isinstance(value, module.MaskedArray)


def is_weak(value: Any) -> bool:
    """Whether the value is a Python number or a tracer that stands for one."""
    return value.__class__ in NUMBERS or getattr(value, "weak", False)
