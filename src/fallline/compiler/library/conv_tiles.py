# mypy: disable-error-code="no-untyped-def"
"""The parts of the image kernels: tiles of convolutions over samples that lie in lanes.

An array of images lies here as (blocks, channels, height, width, lanes): a vector holds the same
pixel of as many samples as it has lanes. So a kernel's weights are single numbers, a row may have
any width, and a window begins at any pixel without a shuffle.

A convolution is then a product of matrices whose rows are not one after the other in memory. As in
`gemm_tiles`, a tile of sums, some output channels by a few pixels, stays in registers while the
machine goes through everything that is summed up: channels, rows of the kernel, its columns.

Which pixel a sum meets is told by two steps for each of the two directions:

    pixel(output, tap) = output * along + tap * tapped + first

of which the ones outside the image count as 0. With along = stride and tapped = dilation that is a
convolution; with tapped = -1 its transpose.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fallline.compiler.library.machine import operation
from fallline.compiler.library.value import Value, where
from fallline.compiler.library.vector import Unit, Variable, loop, when

_INT = types.int64


def convolve_tile(dtype: str, lanes: int, rows: int, vectors: int) -> Any:
    """For kernels: convolve(x, x0, xc, xi, xj, xq, w, w0, wo, wc, wi, wj, y, y0, yo, yq,
    height, width, channels, first, last, taps, edge, pixel, along, tapped, columns).

    y[o, q] = sum over c, i, j of x[c, i, q, j] w[o, c, i, j] for o < `height`, no more than `rows`,
    q < `width`, no more than `vectors`, c < `channels`, i from `first` to `last`, j < `taps`. The
    steps from one element to the next are named by operand and index. Where `edge` is not 0, a
    column pixel + q along + j tapped that is not in [0, columns) counts as 0.
    """

    @operation(types.void, *_operands(4), *_operands(4), *_operands(2), *[_INT] * 11)
    def convolve(
        builder, x, x0, xc, xi, xj, xq, w, w0, wo, wc, wi, wj, y, y0, yo, yq,
        height, width, channels, first, last, taps, edge, pixel, along, tapped, columns,
    ):  # fmt: skip
        unit = Unit(builder, dtype, lanes)
        x0, xc, xi, xj, xq, w0, wo, wc, wi, wj, y0, yo, yq = _integers(
            builder, x0, xc, xi, xj, xq, w0, wo, wc, wi, wj, y0, yo, yq
        )
        height, width, channels, first, last, taps = _integers(
            builder, height, width, channels, first, last, taps
        )
        edge, pixel, along, tapped, columns = _integers(
            builder, edge, pixel, along, tapped, columns
        )
        # Rows beyond the last are the last one again: the same values, written once more.
        row = [where(height > i, i, height - 1) for i in range(rows)]

        def emit(count: int, at_edge: bool) -> None:
            """The tile of so many pixels."""
            cells = list(product(range(rows), range(count)))
            sums = {cell: Variable(builder, unit.type) for cell in cells}
            for cell in cells:
                sums[cell].set(unit.zero())
            starts = [w0 + i * wo for i in row]
            with (
                loop(first.constant(0), channels, 1) as c,
                loop(first, last, 1) as i,
                loop(first.constant(0), taps, 1) as j,
            ):
                at, tap = x0 + c * xc + i * xi + j * xj, c * wc + i * wi + j * wj
                pixels = []
                for v in range(count):
                    mask = None
                    if at_edge:
                        column = pixel + v * along + j * tapped
                        mask = unit.broadcast(((column >= 0) & (column < columns)).ir)
                    pixels.append(unit.load(x, at + v * xq, mask))
                for r, start in enumerate(starts):
                    factor = unit.broadcast(unit.load_scalar(w, start + tap))
                    for v, value in enumerate(pixels):
                        sums[r, v].set(unit.fma(factor, value, sums[r, v].get()))
            for r, v in cells:
                unit.store(sums[r, v].get(), y, y0 + row[r] * yo + v * yq)

        for count in range(1, vectors + 1):
            with when((width == count) if count < vectors else (width >= count)):
                with when(edge == 0):
                    emit(count, at_edge=False)
                with when(edge != 0):
                    emit(count, at_edge=True)

    return convolve


def correlate_tile(dtype: str, lanes: int, rows: int, vectors: int) -> Any:
    """For kernels: correlate(x, x0, xk, xp, xq, xc, xi, xj, y, y0, yk, yp, yq, yo, w, w0, wo,
    height, start, stop, n_i, n_j, blocks, samples, rows of y, columns of y,
    row_along, row_tapped, row_first, x_rows, column_along, column_tapped, column_first, x_columns).

    w[o, t] = sum over blocks k, pixels p, q and lanes of y[k, o, p, q] x[k, c, i + p, j + q] where
    t = (c n_i + i) n_j + j, for o < `height`, no more than `rows`, and t from `start` to `stop`, no
    more than `vectors`. Lanes beyond the number of samples do not count.
    """

    @operation(types.void, *_operands(6), *_operands(4), *_operands(1), *[_INT] * 17)
    def correlate(
        builder, x, x0, xk, xp, xq, xc, xi, xj, y, y0, yk, yp, yq, yo, w, w0, wo,
        height, start, stop, n_i, n_j, blocks, samples, y_rows, y_columns,
        row_along, row_tapped, row_first, x_rows, column_along, column_tapped, column_first,
        x_columns,
    ):  # fmt: skip
        unit = Unit(builder, dtype, lanes)
        x0, xk, xp, xq, xc, xi, xj = _integers(builder, x0, xk, xp, xq, xc, xi, xj)
        y0, yk, yp, yq, yo, w0, wo = _integers(builder, y0, yk, yp, yq, yo, w0, wo)
        height, start, stop, n_i, n_j = _integers(builder, height, start, stop, n_i, n_j)
        blocks, samples, y_rows, y_columns = _integers(builder, blocks, samples, y_rows, y_columns)
        row_along, row_tapped, row_first, x_rows = _integers(
            builder, row_along, row_tapped, row_first, x_rows
        )
        column_along, column_tapped, column_first, x_columns = _integers(
            builder, column_along, column_tapped, column_first, x_columns
        )
        zero = height.constant(0)
        row = [where(height > i, i, height - 1) for i in range(rows)]
        cells = list(product(range(rows), range(vectors)))
        sums = {cell: Variable(builder, unit.type) for cell in cells}
        for cell in cells:
            sums[cell].set(unit.zero())
        column = [where(start + v < stop, start + v, stop - 1) for v in range(vectors)]
        tap_j = [t % n_j for t in column]
        tap_i = [t / n_j % n_i for t in column]
        starts = [
            x0 + t / (n_i * n_j) * xc + i * xi + j * xj
            for t, i, j in zip(column, tap_i, tap_j, strict=True)
        ]
        lowest_i, highest_i = row_first + row_tapped * tap_i[0], row_first + row_tapped * tap_i[0]
        lowest_j, highest_j = [column_first + column_tapped * tap_j[0]] * 2
        for i, j in zip(tap_i[1:], tap_j[1:], strict=True):
            row_at, column_at = row_first + row_tapped * i, column_first + column_tapped * j
            lowest_i, highest_i = _extremes(lowest_i, highest_i, row_at)
            lowest_j, highest_j = _extremes(lowest_j, highest_j, column_at)

        def step(k: Value, p: Value, q: Value, full: Value | None) -> None:
            """One pixel of y; with `full`, lanes and pixels that do not count are left out."""
            mask = None if full is None else unit.first(samples - k * lanes)
            at = y0 + k * yk + p * yp + q * yq
            ys = [unit.load(y, at + r * yo, mask) for r in row]
            for v, begin in enumerate(starts):
                seen = mask
                if mask is not None:
                    i, j = p * row_along + row_first, q * column_along + column_first
                    i, j = i + tap_i[v] * row_tapped, j + tap_j[v] * column_tapped
                    valid = (i >= 0) & (i < x_rows) & (j >= 0) & (j < x_columns)
                    seen = builder.and_(mask, unit.broadcast(valid.ir))
                value = unit.load(x, begin + k * xk + p * xp + q * xq, seen)
                for r, other in enumerate(ys):
                    sums[r, v].set(unit.fma(other, value, sums[r, v].get()))

        with loop(zero, blocks, 1) as k, loop(zero, y_rows, 1) as p:
            above = p * row_along
            inside = (lowest_i + above >= 0) & (highest_i + above < x_rows)
            inside = inside & ((k + 1) * lanes <= samples)
            # The columns that all taps find inside: from `left` to `right`.
            left = where(lowest_j < 0, (column_along - 1 - lowest_j) / column_along, zero)
            room = x_columns - 1 - highest_j
            right = where(room < 0, zero, room / column_along + 1)
            right = where(right < y_columns, right, y_columns)
            left = where(inside & (left < right), left, y_columns)
            right = where(left < y_columns, right, y_columns)
            with loop(zero, left, 1) as q:
                step(k, p, q, zero)
            with loop(left, right, 1) as q:
                step(k, p, q, None)
            with loop(right, y_columns, 1) as q:
                step(k, p, q, zero)
        for r, v in cells:
            unit.store_scalar(unit.sum(sums[r, v].get()), w, w0 + row[r] * wo + column[v])

    return correlate


def _extremes(low: Value, high: Value, x: Value) -> tuple[Value, Value]:
    return where(x < low, x, low), where(x > high, x, high)


def turn_tile(dtype: str, lanes: int) -> Any:
    """For kernels: turn(x, x0, x_step, y, y0, y_step, height, width): y = x transposed.

    x has `height` rows of `width` elements, y `width` rows of `height`, `x_step` and `y_step`
    elements from one to the next; no more than `lanes` of either. Only these are touched.
    """

    @operation(types.void, *_operands(1), *_operands(1), _INT, _INT)
    def turn(builder, x, x0, x_step, y, y0, y_step, height, width):
        unit = Unit(builder, dtype, lanes)
        x0, x_step, y0, y_step = _integers(builder, x0, x_step, y0, y_step)
        height, width = _integers(builder, height, width)
        across, down = unit.first(width), unit.first(height)
        rows = [where(height > i, i, height - 1) for i in range(lanes)]
        block = unit.transpose([unit.load(x, x0 + i * x_step, across) for i in rows])
        for j, vector in enumerate(block):
            with when(width > j):
                unit.store(vector, y, y0 + j * y_step, down)

    return turn


def _operands(steps: int) -> tuple[types.Type | None, ...]:
    """A pointer, the index of its first element, and so many steps."""
    return None, *[_INT] * (1 + steps)


def _integers(builder: ir.IRBuilder, *values: ir.Value) -> map:
    return map(functools.partial(Value, builder, dtype=np.int64), values)
