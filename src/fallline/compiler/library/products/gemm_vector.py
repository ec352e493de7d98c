# name: gemm_vector_float32
# ruff: noqa: F722
# mypy: ignore-errors
"""C = op(A) op(B), or C += op(A) op(B), in explicit vectors: tiles of C, panel by panel.

A panel is as many columns of op(B) as a tile has, and of its rows as many as fit a near cache; all
rows of C are brought on by it before the next. A transposed B is packed into a panel of its own.
Another is read where it lies, unless there are so many rows of C that copying it first costs less,
or it is so wide that its rows come to lie in the same few places of a cache.

A template: `gemm.gemm_text` replaces the type, the name and the two lines of constants.
"""

from numpy import float32

from fallline.compiler.library.products.gemm_tiles import pack, private_array_of, tile

LANES, ROWS, VECTORS, DEPTH = 16, 8, 3, 256
TRANS_A, TRANS_B = 0, 0
WIDTH = LANES * VECTORS

# Rows whose distance is a multiple of PAGE bytes, 64 cache lines, share the places of a near cache.
# Each tile reads its panel again, and a copy costs about what a few tiles lose if rows drive one
# another out: so FEW rows of C, some tiles, are worth one then. Where rows do not, what it saves
# (pages to look up, lines to fetch ahead) is less, and takes MANY.
PAGE, FEW, MANY = 4096, 32, 256
ITEM = float32(0).itemsize

allocate = private_array_of(DEPTH * WIDTH)
transpose = pack("float32", LANES)
multiply = tile("float32", LANES, ROWS, VECTORS, TRANS_A)


def kernel(
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
    panel = allocate(b)
    blocks = max(1, (k + DEPTH - 1) // DEPTH)  # without k, one of depth 0 writes the zeros
    most = (k + blocks - 1) // blocks
    j, rest = 0, n
    while rest > 0:
        # As many panels as are needed, of nearly equal width: 4 vectors are 2 and 2, not 3 and 1.
        vectors = (rest + LANES - 1) // LANES
        panels = (vectors + VECTORS - 1) // VECTORS
        width = min(rest, (vectors + panels - 1) // panels * LANES)
        for block in range(blocks):
            q = block * most
            depth = min(most, k - q)
            rows, r0, ldr = b, q * ldb + j, ldb
            if TRANS_B:
                for v in range(0, width, LANES):
                    transpose(b, (j + v) * ldb + q, ldb, panel, v, WIDTH, width - v, depth)
                rows, r0, ldr = panel, 0, WIDTH
            elif m >= MANY or (m >= FEW and ldb % (PAGE // ITEM) == 0):
                for r in range(depth):
                    for s in range(width):
                        panel[r * WIDTH + s] = b[(q + r) * ldb + j + s]
                rows, r0, ldr = panel, 0, WIDTH
            add = accumulate if block == 0 else 1
            for i in range(0, m, ROWS):
                a0 = i + q * lda if TRANS_A else i * lda + q
                c0 = i * ldc + j
                multiply(a, a0, lda, rows, r0, ldr, c, c0, ldc, m - i, width, depth, add)
        j += width
        rest -= width
