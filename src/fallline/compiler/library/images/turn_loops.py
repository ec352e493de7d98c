# name: turn_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""y = x transposed, in plain loops: for types that have no vectors here."""


def kernel(
    height: "int",
    width: "int",
    x: "float32*",
    x_step: "int",
    y: "float32*",
    y_step: "int",
):
    for j in range(width):
        for i in range(height):
            y[j * y_step + i] = x[i * x_step + j]
