# name: convolve_lanes_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""y = x * w for a block of images whose samples lie in lanes; see `conv_tiles`.

Rows of y go one after the other; of each, tiles of some pixels by some channels. The rows of the
kernel that meet the image are known for a row of y; its columns only at the left and right edges
are not all of them.

A template: `conv.convolve_text` replaces the type and the line of constants.
"""

from fallline.compiler.library.images.conv_tiles import convolve_tile

LANES, ROWS, VECTORS = 16, 8, 3

convolve = convolve_tile("float32", LANES, ROWS, VECTORS)


def kernel(
    m: "int",
    channels: "int",
    n_rows: "int",
    row_along: "int",
    row_tapped: "int",
    row_first: "int",
    x_rows: "int",
    row_taps: "int",
    n_columns: "int",
    along: "int",
    tapped: "int",
    first: "int",
    x_columns: "int",
    taps: "int",
    x: "float32*",
    x_channel: "int",
    x_row: "int",
    w: "float32*",
    w_out: "int",
    w_channel: "int",
    w_row: "int",
    w_column: "int",
    y: "float32*",
    y_channel: "int",
    y_row: "int",
    y_column: "int",
):
    x_i, x_j, x_q = row_tapped * x_row, tapped * LANES, along * LANES
    reach = (taps - 1) * tapped
    for o in range(0, m, ROWS):
        for p in range(n_rows):
            above = p * row_along + row_first
            low, high = 0, row_taps
            while low < high and not 0 <= above + low * row_tapped < x_rows:
                low += 1
            while low < high and not 0 <= above + (high - 1) * row_tapped < x_rows:
                high -= 1
            for q in range(0, n_columns, VECTORS):
                width = min(VECTORS, n_columns - q)
                left = q * along + first
                right = left + (width - 1) * along
                lowest, highest = left + min(reach, 0), right + max(reach, 0)
                edge = 0 if lowest >= 0 and highest < x_columns else 1
                x0 = above * x_row + left * LANES
                y0 = o * y_channel + p * y_row + q * y_column
                convolve(
                    x, x0, x_channel, x_i, x_j, x_q,
                    w, o * w_out, w_out, w_channel, w_row, w_column,
                    y, y0, y_channel, y_column,
                    m - o, width, channels, low, high, taps, edge, left, along, tapped, x_columns,
                )  # fmt: skip
