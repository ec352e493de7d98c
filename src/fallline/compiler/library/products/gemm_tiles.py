# mypy: disable-error-code="no-untyped-def"
"""The parts of `gemm_vector.py`: a tile of a matrix product, the packing of a panel, its memory.

A tile of C, some rows by a few vectors, stays in registers while the machine goes through k:

    C[i, :] += A[i, k] * B[k, :]        for each row i of the tile

Each turn loads a row of B as vectors and, for each row of the tile, one element of A into all
lanes of another. So 8 rows of 3 vectors are 24 multiply-adds for 11 loads, and 24 sums that do not
wait for each other: what the processor needs to start two multiply-adds in every cycle.

An element of C is summed up over k from first to last, by one fma each. Its bits depend neither on
the tile that it is in, nor on the lane, nor on the number of lanes.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from numba.core import types
from numba.core.extending import intrinsic

from fallline.compiler.library.machine import operation, private_array
from fallline.compiler.library.value import Value, integers, where
from fallline.compiler.library.vector import Unit, Variable, loop, when

AHEAD = 4  # vectors: so far before it is packed, a row of B is asked for
_INT = types.int64
_MATRIX = (None, _INT, _INT)  # a pointer, the index of the first element, and from row to row


def tile(dtype: str, lanes: int, rows: int, vectors: int, trans_a: int) -> Any:
    """For kernels: multiply(a, a0, lda, b, b0, ldb, c, c0, ldc, height, width, depth, add).

    C = op(A) B of `height` rows, `width` columns and `depth` products, or C += where `add` is not
    0. No more than `rows` rows and `vectors` vectors of columns are computed; C has at least one.
    """

    @operation(types.void, *_MATRIX, *_MATRIX, *_MATRIX, _INT, _INT, _INT, _INT)
    def multiply(builder, a, a0, lda, b, b0, ldb, c, c0, ldc, height, width, depth, add):
        unit = Unit(builder, dtype, lanes)
        a0, lda, b0, ldb, c0, ldc = integers(builder, a0, lda, b0, ldb, c0, ldc)
        height, width, depth, add = integers(builder, height, width, depth, add)

        def emit(most: int) -> None:
            """The tile of `most` rows and as many vectors as there are."""
            # Rows beyond the last are the last one again: the same values, written once more.
            row = [where(height > i, i, height - 1) for i in range(most)]
            side = (a, [a0 + i * (1 if trans_a else lda) for i in row], lda if trans_a else 1)
            places = [c0 + i * ldc for i in row]
            for count in range(1, vectors + 1):
                before = lanes * (count - 1)
                with when((width > before) & ((width <= before + lanes) | (count == vectors))):
                    masks = [None] * (count - 1) + [unit.first(width - before)]
                    _tile(unit, side, (b, b0, ldb), (c, places), masks, depth, add)

        with when(height == 1):  # one sample at a time must not wait for eight
            emit(1)
        with when(height > 1):
            emit(rows)

    return multiply


def _tile(unit: Unit, a, b, c, masks, depth: Value, add: Value) -> None:
    """The tile of as many vectors as there are masks."""
    (a, starts, a_step), (b, b0, ldb), (c, places) = a, b, c
    columns = [v * unit.lanes for v in range(len(masks))]
    cells = list(product(range(len(places)), range(len(masks))))
    sums = {cell: Variable(unit.builder, unit.type) for cell in cells}
    with unit.builder.if_else((add != 0).ir) as (given, new):
        with given:
            for i, v in cells:
                sums[i, v].set(unit.load(c, places[i] + columns[v], masks[v]))
        with new:
            for cell in cells:
                sums[cell].set(unit.zero())
    with loop(depth.constant(0), depth, 1) as k:
        ys = [unit.load(b, b0 + k * ldb + j, mask) for j, mask in zip(columns, masks)]
        for i, start in enumerate(starts):
            x = unit.broadcast(unit.load_scalar(a, start + k * a_step))
            for v, y in enumerate(ys):
                sums[i, v].set(unit.fma(x, y, sums[i, v].get()))
    for i, v in cells:
        unit.store(sums[i, v].get(), c, places[i] + columns[v], masks[v])


def pack(dtype: str, lanes: int) -> Any:
    """For kernels: transpose(b, b0, ldb, panel, p0, stride, height, width).

    Rows of B become columns of the panel: panel[j, i] = B[i, j] for i < `height`, j < `width`.
    No more than `lanes` rows are read. `lanes` columns are written, those beyond the last with
    some element of B, and rows up to a multiple of `lanes`.
    """

    @operation(types.void, *_MATRIX, *_MATRIX, _INT, _INT)
    def transpose(builder, b, b0, ldb, panel, p0, stride, height, width):
        unit = Unit(builder, dtype, lanes)
        b0, ldb, p0, stride = integers(builder, b0, ldb, p0, stride)
        height, width = integers(builder, height, width)
        starts = [b0 + where(height > i, i, height - 1) * ldb for i in range(lanes)]
        with loop(width.constant(0), width, lanes) as j:
            mask = unit.first(width - j)
            for start in starts:
                unit.prefetch(b, start + (j + AHEAD * lanes))
            block = unit.transpose([unit.load(b, start + j, mask) for start in starts])
            for i, vector in enumerate(block):
                unit.store(vector, panel, p0 + (j + i) * stride)

    return transpose


def private_array_of(count: int) -> Any:
    """For kernels: allocate(like), a private array of so many of the pointer's elements.

    It begins at a cache line, lies on the stack, is not initialised, and is gone when the kernel
    returns.
    """

    def allocate(context, like):
        def lower(context, builder, signature, values):
            return private_array(builder, values[0], count, align=64)

        return like(like), lower

    return intrinsic(allocate)
