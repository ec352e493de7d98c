"""Matrix products in vectors: against NumPy, against their own parts, and against their borders."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os

import numpy as np
import pytest
from tests.compiler.running import run

from fallline.compiler.function import compile
from fallline.compiler.library.products import blas, gemm
from fallline.compiler.threads import get_threads, set_threads

needs_vectors = pytest.mark.skipif(not gemm.available(), reason="no vector kernels for this host")
BLOCKINGS = [b for b in gemm.BLOCKINGS if gemm.available() and b <= gemm.instruction_set()] or [""]
DTYPES = ["float32", "float64"]
RAGGED = (1, 2, 15, 16, 17, 31, 33, 48, 49, 100, 127)
EDGES = list(itertools.product((0, 1, 2, 7, 17), repeat=3))
LARGER = [(128, 100, 784), (33, 64, 513), (6, 200, 1100), (200, 6, 257), (9, 49, 1025)]


def stored(x: np.ndarray, trans: bool, gap: int = 3) -> np.ndarray:
    """x as it lies in memory: its transpose where `trans`; with NaN between the rows."""
    x = x.T if trans else x
    memory = np.full((x.shape[0], x.shape[1] + gap), np.nan, x.dtype)
    memory[:, : x.shape[1]] = x
    return memory


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    form: str = "NN",
    blocking: str = "",
    c: np.ndarray | None = None,
    accumulate: int = 0,
) -> np.ndarray:
    """A B by the vector kernel of a form; C is written over, or added to, in rows with gaps."""
    trans = [letter == "T" for letter in form]
    text = gemm.gemm_text(a.dtype, *trans, gemm.BLOCKINGS.get(blocking))
    x, y = stored(a, trans[0]), stored(b, trans[1])
    (m, k), n = a.shape, b.shape[1]
    z = np.full((m, n + 5), np.nan, a.dtype)
    if c is not None:
        z[:, :n] = c
    sides = [e for array in (x, y, z) for e in (array, array.shape[1])]
    run(text, m, n, k, *sides, accumulate)
    assert np.isnan(z[:, n:]).all()  # nothing between the rows is touched
    return z[:, :n].copy()


def normal(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(a: np.ndarray, b: np.ndarray, found: np.ndarray, c: np.ndarray | None = None) -> None:
    """Each of k multiply-adds rounds once: |error| <= k eps (|A| |B| + |C|)."""
    wide = np.longdouble if a.dtype == np.float64 else np.float64
    expected = a.astype(wide) @ b.astype(wide)
    bound = np.abs(a).astype(wide) @ np.abs(b).astype(wide)
    if c is not None:
        expected, bound = expected + c, bound + np.abs(c)
    assert found.shape == expected.shape
    assert np.all(np.abs(found - expected) <= (a.shape[1] + 1) * np.finfo(a.dtype).eps * bound)


@needs_vectors
@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", gemm.FORMS)
def test_products_of_all_sizes(form: str, dtype: str, blocking: str) -> None:
    rng = np.random.default_rng(0)
    ragged = [tuple(rng.choice(RAGGED, 3).tolist()) for _ in range(40)]
    for i, (m, n, k) in enumerate([*EDGES, *ragged, *LARGER]):
        a, b = normal(i, m, k, dtype=dtype), normal(i + 1, k, n, dtype=dtype)
        check(a, b, multiply(a, b, form, blocking))
        c = normal(i + 2, m, n, dtype=dtype)
        check(a, b, multiply(a, b, form, blocking, c, 1), c)


@needs_vectors
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, n, k", [(50, 70, 60), (9, 33, 1025)])
def test_bits_depend_on_k_alone(dtype: str, m: int, n: int, k: int) -> None:
    """Not on the form, nor on the instruction set, nor on the tile."""
    a, b = normal(0, m, k, dtype=dtype), normal(1, k, n, dtype=dtype)
    expected = multiply(a, b)
    for form, blocking in itertools.product(gemm.FORMS, BLOCKINGS):
        assert np.array_equal(multiply(a, b, form, blocking), expected)


@needs_vectors
@pytest.mark.parametrize("form", gemm.FORMS)
def test_parts_have_the_bits_of_the_whole(form: str) -> None:
    rng = np.random.default_rng(0)
    for m, n, k in [(40, 130, 300), (128, 100, 64), (100, 10, 32)]:
        a, b = normal(2, m, k), normal(3, k, n)
        whole = multiply(a, b, form)
        for _ in range(20):
            i, p = np.sort(rng.integers(0, m + 1, 2))
            j, q = np.sort(rng.integers(0, n + 1, 2))
            assert np.array_equal(multiply(a[i:p], b[:, j:q], form), whole[i:p, j:q])


@needs_vectors
def test_accumulating_goes_on_where_the_sum_was() -> None:
    a, b = normal(4, 20, 90), normal(5, 90, 50)
    first = multiply(a[:, :41], b[:41])
    assert np.array_equal(multiply(a[:, 41:], b[41:], "NN", "", first, 1), multiply(a, b))


@needs_vectors
@pytest.mark.parametrize("form", gemm.FORMS)
def test_nan_and_inf_propagate(form: str) -> None:
    for n in (1, 5, 40):
        a, b = (np.random.default_rng(n).integers(-3, 4, (n, n)).astype("f4") for _ in range(2))
        a[0, 0], b[-1, -1], a[-1, 0] = np.nan, np.inf, -np.inf
        b[0, 0] = 0  # inf * 0
        with np.errstate(invalid="ignore"):
            expected = sum(a[:, i, None] * b[i] for i in range(n))
        assert np.array_equal(multiply(a, b, form), expected, equal_nan=True)


# Borders ------------------------------------------------------------------------------------------


class Guarded:
    """An array whose end, or whose beginning, lies at a page that must not be touched."""

    def __init__(self, x: np.ndarray, at_end: bool) -> None:
        page = mmap.PAGESIZE
        inner = -(-x.nbytes // page) * page
        self.memory = mmap.mmap(-1, inner + 2 * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        start = page + (inner - x.nbytes if at_end else 0)
        self.array = np.frombuffer(self.memory, x.dtype, x.size, start).reshape(x.shape)
        self.array[...] = x
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for place in (base, base + page + inner):
            assert protect(place, page, 0) == 0


@needs_vectors
@pytest.mark.skipif(os.name != "posix", reason="guards memory by mprotect")
@pytest.mark.parametrize("blocking", BLOCKINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", gemm.FORMS)
def test_nothing_beyond_the_arrays_is_touched(form: str, dtype: str, blocking: str) -> None:
    """What is beyond is not accessible: a kernel that goes there does not come back."""
    trans = [letter == "T" for letter in form]
    text = gemm.gemm_text(dtype, *trans, gemm.BLOCKINGS.get(blocking))
    sizes = [(1, 1, 1), (3, 5, 7), (8, 48, 16), (9, 50, 17), (17, 33, 100), (40, 23, 520)]
    for (m, n, k), at_end in itertools.product(sizes, (True, False)):
        a, b = normal(6, m, k, dtype=dtype), normal(7, k, n, dtype=dtype)
        z = Guarded(np.full((m, n), np.nan, dtype), at_end)
        guarded = [Guarded(x.T if t else x, at_end) for x, t in zip((a, b), trans)]
        for accumulate in (0, 1):
            if accumulate:
                z.array[...] = 0
            sides = [e for g in (*guarded, z) for e in (g.array, g.array.shape[1])]
            run(text, m, n, k, *sides, accumulate)
            check(a, b, z.array)


# In compiled functions ----------------------------------------------------------------------------


@pytest.fixture(params=gemm.SERVICES)
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel in its turn, wherever it can compute the product."""
    if request.param == "vector" and not gemm.available():
        pytest.skip("no vector kernels for this host")
    monkeypatch.setattr(gemm, "forced", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = get_threads()
    yield
    set_threads(before)


CASES = {
    "forward": ((128, 300), (300, 500), lambda a, b: a @ b),
    "of a transpose": ((300, 128), (300, 500), lambda a, b: a.T @ b),
    "with a transpose": ((128, 300), (500, 300), lambda a, b: a @ b.T),
    "of two": ((300, 128), (500, 300), lambda a, b: a.T @ b.T),
    "narrow": ((1000, 128), (128, 10), lambda a, b: a @ b),
    "of slices": ((40, 300), (310, 70), lambda a, b: a[3:, 10:210] @ b[5:205, 7:]),
    "of steps": ((40, 300), (150, 70), lambda a, b: a[:, ::2] @ b),
    "of many": ((9, 20, 30), (9, 30, 10), lambda a, b: a @ b),
    "of a few": ((3, 200, 90), (90, 110), lambda a, b: a @ b),
    "to a column": ((128, 300), (300, 1), lambda a, b: a @ b),
    "to a column, of a transpose": ((128, 300), (128, 1), lambda a, b: a.T @ b),
    "with a column": ((128, 1), (50, 1), lambda a, b: a @ b.T),
    "to columns": ((3, 50, 40), (3, 40, 1), lambda a, b: a @ b),
    "with a vector": ((128, 300), (300,), lambda a, b: a @ b),
    "of vectors": ((50,), (50,), lambda a, b: a @ b),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_compiled_products(service: str, case: str, dtype: str) -> None:
    shape_a, shape_b, function = CASES[case]
    a, b = normal(8, *shape_a, dtype=dtype), normal(9, *shape_b, dtype=dtype)
    results = []
    for count in (1, 2, 3):
        set_threads(count)
        results.append(compile(function)(a, b))
    assert all(np.array_equal(results[0], other) for other in results)
    eps = 300 * np.finfo(dtype).eps
    np.testing.assert_allclose(results[0], function(a, b), rtol=eps, atol=eps * 30)


def test_integers_are_computed_in_loops(service: str) -> None:
    a = np.arange(12).reshape(3, 4)
    assert np.array_equal(compile(lambda a: a @ a.T)(a), a @ a.T)
    assert gemm.serves(np.int64, 3, 3, 4) == "loops"


def test_which_kernel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "forced", lambda: "")
    best = "vector" if gemm.available() else "blas" if blas.gemm_function("f4") else "loops"
    assert gemm.serves(np.float32, 128, 1000, 784) == best
    assert gemm.serves(np.complex128, 128, 1000, 784) == "loops"
    for service in gemm.SERVICES[1:]:
        monkeypatch.setattr(gemm, "forced", lambda service=service: service)
        able = service == "loops" or blas.gemm_function("f4")
        assert gemm.serves(np.float32, 128, 1000, 784) == (service if able else best)


def test_a_service_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLLINE_GEMM", "cuda")
    with pytest.raises(
        ValueError, match="FALLLINE_GEMM must be one of vector, blas, loops; got 'c"
    ):
        gemm.forced.__wrapped__()


def test_the_jobs_of_a_product_cover_it_once() -> None:
    rng = np.random.default_rng(0)
    shapes = [(0, 5, 5), (5, 0, 5), (1, 1, 0), (128, 1000, 784), (10**6, 10, 10)]
    shapes += [tuple(rng.integers(1, 1500, 3).tolist()) for _ in range(50)]
    for m, n, k in shapes:
        jobs = gemm.grid(m, n, k)
        assert len(jobs) <= gemm.MOST
        assert all(i % gemm.GRAIN == 0 and j % gemm.GRAIN == 0 for i, _, j, _ in jobs)
        assert sum(rows * columns for _, rows, _, columns in jobs) == m * n
        assert all(i + rows <= m and j + columns <= n for i, rows, j, columns in jobs)
        assert len({job[::2] for job in jobs}) == len(jobs)
