"""Running one kernel from a test."""

from __future__ import annotations

import ctypes

import numpy as np

from fallline.compiler import store


def run(text: str, *operands: int | np.ndarray | np.generic) -> None:
    """Call a kernel: an int is an "int", an array a pointer, a NumPy scalar a scalar."""
    bases: list[int] = []
    args: list[int] = []
    arrays = []
    for operand in operands:
        if isinstance(operand, int):
            args.append(operand)
            continue
        arrays.append(operand if isinstance(operand, np.ndarray) else np.array([operand]))
        args += [len(bases), 0]
        bases.append(arrays[-1].ctypes.data)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(store.load(text))
    pointers, slots = np.array(bases, np.int64), np.array(args, np.int64)
    function(pointers.ctypes.data, slots.ctypes.data)
