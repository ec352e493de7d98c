# name: correlate_lanes_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""w from x and y: for every element of a convolution's kernel, what it meets; see `conv_tiles`.

Elements of w are taken in tiles, some output channels by some of the elements (channel, row,
column) that follow one another. Everything is gone through for each tile.
"""

from fallline.compiler.library.conv_tiles import correlate_tile

LANES, ROWS, VECTORS = 16, 4, 6

correlate = correlate_tile("float32", LANES, ROWS, VECTORS)


def kernel(
    m: "int",
    start: "int",
    stop: "int",
    blocks: "int",
    samples: "int",
    row_taps: "int",
    taps: "int",
    y_rows: "int",
    row_along: "int",
    row_tapped: "int",
    row_first: "int",
    x_rows: "int",
    y_columns: "int",
    along: "int",
    tapped: "int",
    first: "int",
    x_columns: "int",
    x: "float32*",
    x_block: "int",
    x_channel: "int",
    x_row: "int",
    y: "float32*",
    y_block: "int",
    y_channel: "int",
    y_row: "int",
    w: "float32*",
    w_out: "int",
):
    x0 = row_first * x_row + first * LANES
    for o in range(0, m, ROWS):
        for t in range(start, stop, VECTORS):
            correlate(
                x, x0, x_block, row_along * x_row, along * LANES,
                x_channel, row_tapped * x_row, tapped * LANES,
                y, o * y_channel, y_block, y_row, LANES, y_channel,
                w, o * w_out, w_out,
                m - o, t, stop, row_taps, taps, blocks, samples, y_rows, y_columns,
                row_along, row_tapped, row_first, x_rows, along, tapped, first, x_columns,
            )  # fmt: skip
