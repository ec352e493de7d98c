# name: pool_float32
# ruff: noqa: F722, F821
# mypy: ignore-errors
"""Pooling of images whose samples lie in lanes: over windows, or back to pixels; see `pool_tiles`.

A plane is a channel of a block of samples. The window of output (p, q) begins at pixel
(p down - above, q right - left).
"""

from fallline.compiler.library import pool_tiles

LANES = 16

act = pool_tiles.window_max("float32", LANES)


def over_windows(
    planes: "int",
    rows: "int",
    columns: "int",
    kh: "int",
    kw: "int",
    down: "int",
    above: "int",
    height: "int",
    right: "int",
    left: "int",
    width: "int",
    x: "float32*",
    OPERANDS: "float32*",
):
    x_row = width * LANES
    for k in range(planes):
        for p in range(rows):
            top = p * down - above
            i0, i1 = max(0, -top), min(kh, height - top)
            for q in range(columns):
                begin = q * right - left
                j0, j1 = max(0, -begin), min(kw, width - begin)
                x0 = (k * height + top) * x_row + begin * LANES
                y0 = ((k * rows + p) * columns + q) * LANES
                act(x, x0, x_row, i0, i1, j0, j1, kw, y0, OPERANDS)


def over_pixels(
    planes: "int",
    rows: "int",
    columns: "int",
    kh: "int",
    kw: "int",
    down: "int",
    above: "int",
    height: "int",
    right: "int",
    left: "int",
    width: "int",
    y: "float32*",
    OPERANDS: "float32*",
):
    y_row = columns * LANES
    for k in range(planes):
        for r in range(height):
            # Elements i, i + down, ... of windows p, p - 1, ... lie on this row.
            i, p = (r + above) % down, (r + above) // down
            k0 = max(0, p - rows + 1)
            k1 = max(k0, min((kh - i + down - 1) // down, p + 1))
            for c in range(width):
                j, q = (c + left) % right, (c + left) // right
                m0 = max(0, q - columns + 1)
                m1 = max(m0, min((kw - j + right - 1) // right, q + 1))
                y0 = ((k * rows + p) * columns + q) * LANES
                x0 = ((k * height + r) * width + c) * LANES
                act(y, y0, y_row, k0, k1, m0, m1, TAPS, x0, OPERANDS)
