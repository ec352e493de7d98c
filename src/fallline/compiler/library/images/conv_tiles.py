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

from itertools import product
from typing import Any

from llvmlite import ir
from numba.core import types

from fallline.compiler.library.machine import operation
from fallline.compiler.library.value import Value, integers, where
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
        x0, xc, xi, xj, xq, w0, wo, wc, wi, wj, y0, yo, yq = integers(
            builder, x0, xc, xi, xj, xq, w0, wo, wc, wi, wj, y0, yo, yq
        )
        height, width, channels, first, last, taps = integers(
            builder, height, width, channels, first, last, taps
        )
        edge, pixel, along, tapped, columns = integers(builder, edge, pixel, along, tapped, columns)
        zero = height.constant(0)
        # Rows beyond the last are the last one again: the same values, written once more.
        row = [where(height > i, i, height - 1) for i in range(rows)]

        def emit(count: int, at_edge: bool) -> None:
            """The tile of so many pixels."""
            cells = list(product(range(rows), range(count)))
            sums = {cell: Variable(builder, unit.type) for cell in cells}
            for cell in cells:
                sums[cell].set(unit.zero())
            starts = [w0 + i * wo for i in row]

            def turn(c: Value, i: Value, j: Value, masks: list[ir.Value | None]) -> None:
                at, tap = x0 + c * xc + i * xi + j * xj, c * wc + i * wi + j * wj
                pixels = [unit.load(x, at + v * xq, mask) for v, mask in enumerate(masks)]
                for r, start in enumerate(starts):
                    factor = unit.broadcast(unit.load_scalar(w, start + tap))
                    for v, value in enumerate(pixels):
                        sums[r, v].set(unit.fma(factor, value, sums[r, v].get()))

            if at_edge:  # columns first: what a mask depends on
                with loop(zero, taps, 1) as j:
                    masks: list[ir.Value | None] = []
                    for v in range(count):
                        column = pixel + v * along + j * tapped
                        masks.append(unit.broadcast(((column >= 0) & (column < columns)).ir))
                    with loop(zero, channels, 1) as c, loop(first, last, 1) as i:
                        turn(c, i, j, masks)
            else:
                nothing: list[ir.Value | None] = [None] * count
                with (
                    loop(zero, channels, 1) as c,
                    loop(first, last, 1) as i,
                    loop(zero, taps, 1) as j,
                ):
                    turn(c, i, j, nothing)
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
    """For kernels: correlate(x, x0, xp, xq, xc, xi, xj, y, y0, yp, yq, yo, sums, s0, again,
    height, start, stop, n_i, n_j, samples, y_rows, y_columns).

    Sums over pixels p, q, a lane for each sample: of y[o, p, q] x[c, i + p, j + q], where
    t = (c n_i + i) n_j + j, for o < `height`, no more than `rows`, and t from `start` to `stop`, no
    more than `vectors`. They are `rows` times `vectors` vectors; where `again` is not 0 they are
    added to. Lanes of y beyond `samples` do not count; those of x must be 0.
    """

    @operation(types.void, *_operands(5), *_operands(3), *_operands(0), *[_INT] * 9)
    def correlate(
        builder, x, x0, xp, xq, xc, xi, xj, y, y0, yp, yq, yo, sums, s0, again,
        height, start, stop, n_i, n_j, samples, y_rows, y_columns,
    ):  # fmt: skip
        unit = Unit(builder, dtype, lanes)
        x0, xp, xq, xc, xi, xj = integers(builder, x0, xp, xq, xc, xi, xj)
        y0, yp, yq, yo, s0, again = integers(builder, y0, yp, yq, yo, s0, again)
        height, start, stop, n_i, n_j = integers(builder, height, start, stop, n_i, n_j)
        samples, y_rows, y_columns = integers(builder, samples, y_rows, y_columns)
        zero = height.constant(0)
        row = [where(height > i, i, height - 1) for i in range(rows)]
        cells = list(product(range(rows), range(vectors)))
        places = {cell: s0 + k * lanes for k, cell in enumerate(cells)}
        totals = {cell: Variable(builder, unit.type) for cell in cells}
        with builder.if_else((again != 0).ir) as (given, new):
            with given:
                for cell, total in totals.items():
                    total.set(unit.load(sums, places[cell]))
            with new:
                for total in totals.values():
                    total.set(unit.zero())
        taps = [where(start + v < stop, start + v, stop - 1) for v in range(vectors)]
        starts = [x0 + t / (n_i * n_j) * xc + t / n_j % n_i * xi + t % n_j * xj for t in taps]

        def over_pixels(valid: ir.Value | None) -> None:
            with loop(zero, y_rows, 1) as p, loop(zero, y_columns, 1) as q:
                at, pixel = y0 + p * yp + q * yq, p * xp + q * xq
                ys = [unit.load(y, at + r * yo, valid) for r in row]
                for v, begin in enumerate(starts):
                    value = unit.load(x, begin + pixel)
                    for r, other in enumerate(ys):
                        totals[r, v].set(unit.fma(other, value, totals[r, v].get()))

        with when(samples >= lanes):
            over_pixels(None)
        with when(samples < lanes):
            over_pixels(unit.first(samples))
        for cell, total in totals.items():
            unit.store(total.get(), sums, places[cell])

    return correlate


def reduce_tile(dtype: str, lanes: int, rows: int, vectors: int) -> Any:
    """For kernels: reduce(sums, s0, w, w0, wo, height, width): the sums of `correlate` over lanes.

    w[o, t] for o < `height`, no more than `rows`, t < `width`, no more than `vectors`.
    """

    @operation(types.void, *_operands(0), *_operands(1), _INT, _INT)
    def reduce(builder, sums, s0, w, w0, wo, height, width):
        unit = Unit(builder, dtype, lanes)
        s0, w0, wo, height, width = integers(builder, s0, w0, wo, height, width)
        for k, (r, v) in enumerate(product(range(rows), range(vectors))):
            with when((height > r) & (width > v)):
                total = unit.sum(unit.load(sums, s0 + k * lanes))
                unit.store_scalar(total, w, w0 + r * wo + v)

    return reduce


def turn_tile(dtype: str, lanes: int) -> Any:
    """For kernels: turn(x, x0, x_step, y, y0, y_step, height, width): y = x transposed.

    x has `height` rows of `width` elements, y `width` rows of `height`, `x_step` and `y_step`
    elements from one to the next; no more than `lanes` of either. Only these are touched, but where
    the rows of y are vectors: they are filled up with the last row of x.
    """

    @operation(types.void, *_operands(1), *_operands(1), _INT, _INT)
    def turn(builder, x, x0, x_step, y, y0, y_step, height, width):
        unit = Unit(builder, dtype, lanes)
        x0, x_step, y0, y_step = integers(builder, x0, x_step, y0, y_step)
        height, width = integers(builder, height, width)
        across = unit.first(width)
        down = unit.first(where(y_step == lanes, y_step, height))
        rows = [where(height > i, i, height - 1) for i in range(lanes)]
        block = unit.transpose([unit.load(x, x0 + i * x_step, across) for i in rows])
        for j, vector in enumerate(block):
            with when(width > j):
                unit.store(vector, y, y0 + j * y_step, down)

    return turn


def _operands(steps: int) -> tuple[types.Type | None, ...]:
    """A pointer, the index of its first element, and so many steps."""
    return None, *[_INT] * (1 + steps)
