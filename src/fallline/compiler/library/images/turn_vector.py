# name: turn_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""y = x transposed, in squares of as many rows and columns as a vector has lanes.

A template: `conv.turn_text` replaces the type and the number of lanes.
"""

from fallline.compiler.library.images.conv_tiles import turn_tile

LANES = 16

turn = turn_tile("float32", LANES)


def kernel(
    height: "int",
    width: "int",
    x: "float32*",
    x_step: "int",
    y: "float32*",
    y_step: "int",
):
    for i in range(0, height, LANES):
        for j in range(0, width, LANES):
            x0, y0 = i * x_step + j, j * y_step + i
            turn(x, x0, x_step, y, y0, y_step, min(LANES, height - i), min(LANES, width - j))
