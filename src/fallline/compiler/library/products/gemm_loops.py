# name: gemm_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""C = op(A) op(B), or C += op(A) op(B), in plain loops: for dtypes, and machines, without BLAS.

A block of op(B) is copied, row by row, to where it fits the first cache; then every row of C over
that block is summed up from it, four rows of the block at a time, in the order of k.
"""

from fallline.compiler.library.machine import scratch

ROWS, COLUMNS = 64, 128  # of a block


def kernel(
    function: "int",
    trans_a: "int",
    trans_b: "int",
    m: "int",
    n: "int",
    k: "int",
    a: "float32*",
    lda: "int",
    b: "float32*",
    ldb: "int",
    c: "float32*",
    ldc: "int",
    accumulate: "int",
):
    block = scratch(b, 8192)
    a_row, a_column = (1, lda) if trans_a else (lda, 1)
    b_row, b_column = (1, ldb) if trans_b else (ldb, 1)
    if accumulate == 0:
        for i in range(m):
            for j in range(n):
                c[i * ldc + j] = 0
    for j0 in range(0, n, COLUMNS):
        width = min(COLUMNS, n - j0)
        for k0 in range(0, k, ROWS):
            height = min(ROWS, k - k0)
            for q in range(height):
                for j in range(width):
                    block[q * COLUMNS + j] = b[(k0 + q) * b_row + (j0 + j) * b_column]
            for i in range(m):
                c0 = i * ldc + j0
                a0 = i * a_row + k0 * a_column
                for q in range(0, height - 3, 4):
                    f0 = a[a0 + q * a_column]
                    f1 = a[a0 + (q + 1) * a_column]
                    f2 = a[a0 + (q + 2) * a_column]
                    f3 = a[a0 + (q + 3) * a_column]
                    p = q * COLUMNS
                    for j in range(width):
                        s = c[c0 + j] + f0 * block[p + j]
                        s += f1 * block[p + COLUMNS + j]
                        s += f2 * block[p + 2 * COLUMNS + j]
                        c[c0 + j] = s + f3 * block[p + 3 * COLUMNS + j]
                for q in range(height - height % 4, height):
                    f0 = a[a0 + q * a_column]
                    for j in range(width):
                        c[c0 + j] += f0 * block[q * COLUMNS + j]
