# name: gemm_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""C = op(A) op(B), or C += op(A) op(B), by the BLAS function whose address is passed."""

from numpy import float32

from fallline.compiler.library.machine import gemm_cblas


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
    if accumulate == 0 and k == 0:
        for i in range(m):
            for j in range(n):
                c[i * ldc + j] = 0
    elif m > 0 and n > 0 and k > 0:
        # BLAS refuses a leading dimension below the width, even where there is but one row.
        lda = max(lda, m if trans_a else k)
        ldb = max(ldb, k if trans_b else n)
        ldc = max(ldc, n)
        beta = float32(accumulate)
        gemm_cblas(function, trans_a, trans_b, m, n, k, a, lda, b, ldb, c, ldc, beta)
