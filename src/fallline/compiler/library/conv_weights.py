# name: correlate_lanes_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""w from x and y: for every element of a convolution's kernel, what it meets; see `conv_tiles`.

Elements of w are taken in tiles, some output channels by some of the elements (channel, row,
column) that follow one another. All tiles are brought on by a block of samples, which is then in a
near cache, before the next; at the end their lanes are summed up.
"""

from fallline.compiler.library.conv_tiles import correlate_tile, reduce_tile

LANES, ROWS, VECTORS = 16, 4, 6
SUMS = ROWS * VECTORS * LANES

correlate = correlate_tile("float32", LANES, ROWS, VECTORS)
reduce = reduce_tile("float32", LANES, ROWS, VECTORS)


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
    sums: "float32*",
):
    for k in range(blocks):
        x0 = k * x_block + row_first * x_row + first * LANES
        s0 = 0
        for o in range(0, m, ROWS):
            for t in range(start, stop, VECTORS):
                correlate(
                    x, x0, row_along * x_row, along * LANES,
                    x_channel, row_tapped * x_row, tapped * LANES,
                    y, k * y_block + o * y_channel, y_row, LANES, y_channel,
                    sums, s0, k,
                    m - o, t, stop, row_taps, taps, samples - k * LANES, y_rows, y_columns,
                    row_along, row_tapped, row_first, x_rows, along, tapped, first, x_columns,
                )  # fmt: skip
                s0 += SUMS
    s0 = 0
    for o in range(0, m, ROWS):
        for t in range(start, stop, VECTORS):
            reduce(sums, s0, w, o * w_out + t, w_out, m - o, stop - t)
            s0 += SUMS
