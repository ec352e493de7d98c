"""The memory of a plan: numbered bases, aligned, and buffers that share one of them by lifetime.

    base 0  control block        base 3  scalars (the prologue's results)
    base 1  workspace            base 4  memory of the thread: other bytes in each
    base 2  constants            base 5 ...  inputs, then outputs

Where something lies is a base and an offset in bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CONTROL, WORKSPACE, CONSTANTS, SCALARS, PRIVATE, FIRST_INPUT = range(6)
ALIGNMENT = 64
LINE = 128  # bytes that processors hand to one another, two cache lines at a time
SCALAR_BYTES = 8


_byte_at: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


def aligned(n: int) -> int:
    """The next multiple of the alignment.

    >>> aligned(0), aligned(1), aligned(64)
    (0, 64, 64)
    """
    return -(-n // ALIGNMENT) * ALIGNMENT


def allocate(nbytes: int) -> Array:
    """Bytes that begin at a multiple of the alignment."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + nbytes]


def words(n: int) -> Array:
    """n zeros, int64, on cache lines of their own: no other thread's writing disturbs them."""
    raw = np.zeros(-(-8 * n // LINE) * LINE // 8 + LINE // 8, np.int64)
    start = -address(raw) % LINE // 8
    return raw[start : start + n]


def address(array: Array) -> int:
    """Where an array's memory begins."""
    if array.flags.carray and array.size:
        return ctypes.addressof(_byte_at(array))  # a quarter of the time of the other way
    return int(array.__array_interface__["data"][0])


def share(buffers: Iterable[tuple[Any, int, int, int]]) -> tuple[dict[Any, int], int]:
    """An offset for each (key, bytes, first use, last use), and how many bytes that takes.

    The largest first, each at the first place that is free: a buffer may lie where another lies
    whose life does not meet its own.

    >>> share([("a", 64, 0, 1), ("b", 128, 1, 2), ("c", 64, 2, 3)])
    ({'b': 0, 'a': 128, 'c': 128}, 192)
    """
    offsets: dict[Any, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # start, end, first use, last use
    for key, nbytes, first, last in sorted(buffers, key=lambda buffer: -buffer[1]):
        start = 0
        for begin, end, since, until in sorted(placed):
            if since <= last and first <= until:
                if start + nbytes <= begin:
                    break
                start = max(start, end)
        offsets[key] = start
        placed.append((start, aligned(start + nbytes), first, last))
    return offsets, max((end for _, end, _, _ in placed), default=0)
