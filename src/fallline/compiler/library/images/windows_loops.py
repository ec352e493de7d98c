# name: windows_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""The windows of some rows of a convolution of one sample, as the columns of a matrix.

m[(c, i, j), (p, q)] = x[c, p down + i tall - above, q right + j wide - left], 0 outside the image,
for rows p of the result from `first` on.
"""

from numpy import float32


def kernel(
    channels: "int",
    n_rows: "int",
    n_columns: "int",
    first: "int",
    kh: "int",
    kw: "int",
    down: "int",
    tall: "int",
    above: "int",
    height: "int",
    right: "int",
    wide: "int",
    left: "int",
    width: "int",
    x: "float32*",
    m: "float32*",
):
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                row = ((c * kh + i) * kw + j) * n_rows * n_columns
                for p in range(n_rows):
                    r = (first + p) * down + i * tall - above
                    at = row + p * n_columns
                    if r < 0 or r >= height:
                        for q in range(n_columns):
                            m[at + q] = float32(0)
                    else:
                        begin = (c * height + r) * width
                        for q in range(n_columns):
                            s = q * right + j * wide - left
                            inside = s >= 0 and s < width
                            m[at + q] = x[begin + s] if inside else float32(0)
