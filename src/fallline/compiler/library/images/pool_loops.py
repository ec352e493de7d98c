"""The kernels of pooling in plain loops; see `pool` for their parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

_SIZES = (
    'planes: "int", P: "int", Q: "int", kh: "int", kw: "int", '
    'down: "int", above: "int", H: "int", right: "int", left: "int", W: "int"'
)

_OVER_WINDOWS = """\
# name: pool_{name}_{dtype}_{lanes}
from fallline.compiler.library.machine import scratch
from fallline.compiler.library.mathematics import *

LANES = {lanes}


def kernel({sizes}, {operands}):
    for k in range(planes):
        for p in range(P):
            for q in range(Q):
                o = ((k * P + p) * Q + q) * LANES
                {start}
                for i in range(kh):
                    r = p * down + i - above
                    if r < 0 or r >= H:
                        continue
                    for j in range(kw):
                        c = q * right + j - left
                        if c < 0 or c >= W:
                            continue
                        t = int32(i * kw + j)
                        a = ((k * H + r) * W + c) * LANES
                        {step}
"""

_OVER_PIXELS = """\
# name: pool_{name}_{dtype}_{lanes}
from fallline.compiler.library.machine import scratch
from fallline.compiler.library.mathematics import *

LANES = {lanes}


def kernel({sizes}, {operands}):
    for k in range(planes):
        for r in range(H):
            for c in range(W):
                a = ((k * H + r) * W + c) * LANES
                for l in range(LANES):
                    x[a + l] = {dtype}(0)
                for i in range(kh):
                    p = r + above - i
                    if p < 0 or p % down != 0 or p // down >= P:
                        continue
                    p = p // down
                    for j in range(kw):
                        q = c + left - j
                        if q < 0 or q % right != 0 or q // right >= Q:
                            continue
                        q = q // right
                        t = int32(i * kw + j)
                        o = ((k * P + p) * Q + q) * LANES
                        for l in range(LANES):
                            x[a + l] = {dtype}(x[a + l] + {term})
"""

_FIRST = """\
best = scratch(x, LANES)
                t0 = int32(-1)"""
_BETTER = """\
if t0 < int32(0):
                            t0 = t
                            for l in range(LANES):
                                best[l] = x[a + l]
                                y[o + l] = t
                        else:
                            for l in range(LANES):
                                v, b = x[a + l], best[l]
                                better = (v > b){nan}
                                best[l] = v if better else b
                                y[o + l] = t if better else y[o + l]"""
_NAN = " | ((v != v) & (b == b))"
_ZERO = """\
for l in range(LANES):
                    y[o + l] = {dtype}(0)"""
_PICK = """\
for l in range(LANES):
                            y[o + l] = x[a + l] if place[o + l] == t else y[o + l]"""
_ADD = """\
for l in range(LANES):
                            y[o + l] = {dtype}(y[o + l] + x[a + l])"""


def text(name: str, dtype: DTypeLike, lanes: int) -> str:
    """The kernel of pool_place, pool_pick, pool_put, pool_sum or pool_spread."""
    dtype = np.dtype(dtype)
    names = {"name": name, "dtype": dtype.name, "lanes": lanes, "sizes": _SIZES}
    x, y, place = f'x: "{dtype.name}*"', f'y: "{dtype.name}*"', 'place: "int32*"'
    zero = _ZERO.format(dtype=dtype.name)
    if name == "place":
        better = _BETTER.format(nan=_NAN if dtype.kind == "f" else "")
        names |= {"operands": f'{x}, y: "int32*"', "start": _FIRST, "step": better}
        return _OVER_WINDOWS.format(**names)
    if name == "pick":
        names |= {"operands": f"{x}, {place}, {y}", "start": zero, "step": _PICK}
        return _OVER_WINDOWS.format(**names)
    if name == "sum":
        add = _ADD.format(dtype=dtype.name)
        names |= {"operands": f"{x}, {y}", "start": zero, "step": add}
        return _OVER_WINDOWS.format(**names)
    if name == "put":
        term = f"(y[o + l] if place[o + l] == t else {dtype.name}(0))"
        return _OVER_PIXELS.format(**names, operands=f"{y}, {place}, {x}", term=term)
    return _OVER_PIXELS.format(**names, operands=f"{y}, {x}", term="y[o + l]")
