# name: correlate_lanes_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""w from x and y: for every element of a convolution's kernel, what it meets; see `conv_tiles`.

Elements of w are taken in tiles, some output channels by some of the elements (channel, row,
column) that follow one another. All tiles are brought on by a block of samples, which is then in a
near cache, before the next; at the end their lanes are summed up. Where the image is padded, or
lanes are empty, the channels that are needed are copied first, with zeros.

A template: `conv.correlate_text` replaces the type and the line of constants.
"""

from numpy import float32

from fallline.compiler.library.images.conv_tiles import correlate_tile, reduce_tile

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
    y_columns: "int",
    down: "int",
    tall: "int",
    right: "int",
    wide: "int",
    x_rows: "int",
    x_columns: "int",
    above: "int",
    below: "int",
    before: "int",
    after: "int",
    x: "float32*",
    x_block: "int",
    y: "float32*",
    y_block: "int",
    w: "float32*",
    w_out: "int",
    sums: "float32*",
    image: "float32*",
):
    first_channel = start // (row_taps * taps)
    channels = (stop - 1) // (row_taps * taps) + 1 - first_channel
    skipped = first_channel * row_taps * taps
    height, width = above + x_rows + below, before + x_columns + after
    y_row, y_channel = y_columns * LANES, y_rows * y_columns * LANES
    row, channel = width * LANES, height * width * LANES
    is_padded = above + below + before + after > 0
    for k in range(blocks):
        valid = min(samples - k * LANES, LANES)
        x0 = k * x_block + first_channel * x_rows * x_columns * LANES
        copied = is_padded or valid < LANES
        for c in range(channels if copied else 0):
            for r in range(height):
                at = c * channel + r * row
                outside = r < above or r >= above + x_rows
                for s in range(width):
                    if outside or s < before or s >= before + x_columns:
                        for i in range(LANES):
                            image[at + s * LANES + i] = float32(0)
                    else:
                        place = ((c * x_rows + r - above) * x_columns + s - before) * LANES
                        for i in range(LANES):
                            value = x[x0 + place + i]
                            image[at + s * LANES + i] = value if i < valid else float32(0)
        s0 = 0
        for o in range(0, m, ROWS):
            for t in range(start, stop, VECTORS):
                correlate(
                    image if copied else x, 0 if copied else x0,
                    down * row, right * LANES, channel, tall * row, wide * LANES,
                    y, k * y_block + o * y_channel, y_row, LANES, y_channel,
                    sums, s0, k,
                    m - o, t - skipped, stop - skipped, row_taps, taps, valid, y_rows, y_columns,
                )  # fmt: skip
                s0 += SUMS
    s0 = 0
    for o in range(0, m, ROWS):
        for t in range(start, stop, VECTORS):
            reduce(sums, s0, w, o * w_out + t, w_out, m - o, stop - t)
            s0 += SUMS
