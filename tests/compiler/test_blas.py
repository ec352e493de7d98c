"""Matrix products by BLAS and by loops, against NumPy."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from fallline.compiler import store
from fallline.compiler.library.products import blas, gemm
from fallline.compiler.walker import Program, Walk

SOURCES = {
    "numpy": blas._openblas_of_numpy,
    "scipy": blas._blas_of_scipy,
    "none": lambda: blas._Blas({}, ""),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each place that BLAS may come from."""
    found = SOURCES[request.param]()
    if found is None:
        pytest.skip(f"no BLAS from {request.param} here")
    monkeypatch.setattr(blas, "_blas", lambda: found)
    return request.param


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    *,
    accumulate: bool = False,
    lds: tuple[int, int, int] | None = None,
    n_threads: int = 1,
) -> None:
    """C = A B by the kernel. A and B may be transposed views; leading dimensions follow strides."""
    (m, k), n = a.shape, b.shape[1]
    trans_a, trans_b = (x.strides[1] > x.strides[0] for x in (a, b))
    rows = (a.T if trans_a else a, b.T if trans_b else b, c)
    lda, ldb, ldc = lds or [x.strides[0] // x.itemsize for x in rows]
    form = "NT"[trans_a] + "NT"[trans_b]
    call = gemm.call_of("blas" if blas.gemm_function(a.dtype) else "loops", a.dtype, form)
    arguments = [*call.first, m, n, k, 1, 0, lda, 2, 0, ldb, 3, 0, ldc, accumulate]
    program = Program()
    program.phase(1).call(store.load(call.text), arguments)
    walk = Walk(program.array(), n_bases=4, calls_blas=True)
    walk.bases[1:] = [x.ctypes.data for x in (a, b, c)]
    assert walk.run(1, n_threads) == 0


def operand(
    rng: np.random.Generator, rows: int, columns: int, dtype: str, trans: bool
) -> np.ndarray:
    """Numbers with exact products and sums, in rows with 3 elements between them."""
    if trans:
        return operand(rng, columns, rows, dtype, False).T
    memory = rng.integers(-8, 8, (rows, columns + 3)).astype(dtype)
    return memory[:, :columns]


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int64", "int32", "uint8", "bool", "complex128"]
)
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_products_of_all_layouts(source: str, dtype: str, trans_a: bool, trans_b: bool) -> None:
    rng = np.random.default_rng(0)
    for m, n, k in [(2, 3, 4), (5, 7, 3), (33, 17, 65), (4, 300, 70), (130, 129, 131)]:
        a, b = operand(rng, m, k, dtype, trans_a), operand(rng, k, n, dtype, trans_b)
        c = operand(rng, m, n, dtype, False)
        expected = a @ b
        before = c.base.copy()
        multiply(a, b, c)
        assert np.array_equal(c, expected)
        assert np.array_equal(c.base[:, n:], before[:, n:])  # nothing between the rows is touched
        multiply(a, b, c, accumulate=True)
        assert np.array_equal(c, expected + expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (1, 9, 4), (9, 1, 4), (5, 6, 1), (1, 1, 40)])
def test_single_rows_and_columns(source: str, dtype: str, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-8, 8, s).astype(dtype) for s in ((m, k), (k, n)))
    # Where there is but one row, the distance to the next may be anything.
    for lds in ((k, n, n), (k if m > 1 else 0, n if k > 1 else 1, n if m > 1 else 0)):
        c = np.full((m, n), np.nan, dtype)
        multiply(a, b, c, lds=lds)
        assert np.array_equal(c, a @ b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("m, n, k", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_sizes(source: str, dtype: str, m: int, n: int, k: int) -> None:
    a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
    c = np.full((m, n), 5, dtype)
    multiply(a, b, c, lds=(max(k, 1), max(n, 1), max(n, 1)), accumulate=True)
    assert np.all(c == 5)
    multiply(a, b, c, lds=(max(k, 1), max(n, 1), max(n, 1)))
    assert np.all(c == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (1, 8, 5), (8, 1, 5), (6, 7, 5), (64, 64, 64)])
@pytest.mark.parametrize("trans_b", [False, True])
def test_what_was_in_c_does_not_leak(
    source: str, dtype: str, m: int, n: int, k: int, trans_b: bool
) -> None:
    a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
    if trans_b and n > 1 and k > 1:
        b = np.ones((n, k), dtype).T
    for junk in (np.nan, np.inf):
        c = np.full((m, n), junk, dtype)
        multiply(a, b, c)
        assert np.all(c == k)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_nan_and_inf_propagate(source: str, dtype: str, n: int) -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-3, 4, (n, n)).astype(dtype) for _ in range(2))
    a[0, 0], b[-1, -1], a[-1, 0] = np.nan, np.inf, -np.inf
    b[0, 0] = 0  # inf * 0
    c = np.zeros((n, n), dtype)
    multiply(a, b, c)
    with np.errstate(invalid="ignore"):
        expected = sum(a[:, i, None] * b[i] for i in range(n))  # NumPy's BLAS is not to be asked
    assert np.array_equal(c, expected, equal_nan=True)


def test_bits_do_not_depend_on_blas_threads() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((400, 400)).astype(np.float32) for _ in range(2))
    results = []
    before = blas._blas().get_threads()
    try:
        for n in (1, 2):
            blas._blas().set_threads(n)
            c = np.empty_like(a)
            multiply(a, b, c)
            results.append(c)
    finally:
        blas._blas().set_threads(before)
    assert np.array_equal(*results)


# One thread while we call it ----------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A BLAS of four threads, and what its number of threads was set to."""
    said: list[int] = [4]
    found = blas._Blas({}, "", lambda: said[-1], said.append)
    monkeypatch.setattr(blas, "_blas", lambda: found)
    return said


def test_holds_overlap(counted: list[int]) -> None:
    blas.hold_one_thread()
    blas.hold_one_thread()
    blas.release_threads()
    assert counted == [4, 1]
    blas.release_threads()
    assert counted == [4, 1, 4]


def test_holds_of_many_threads(counted: list[int]) -> None:
    wrong: list[int] = []

    def work() -> None:
        for _ in range(500):
            blas.hold_one_thread()
            if counted[-1] != 1:
                wrong.append(counted[-1])
            blas.release_threads()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert counted[-1] == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_during_a_hold_is_free(counted: list[int]) -> None:
    blas.hold_one_thread()
    child = os.fork()
    if child == 0:
        free = counted == [4, 1, 4]
        blas.hold_one_thread()
        blas.release_threads()
        os._exit(0 if free and counted == [4, 1, 4, 1, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0
    blas.release_threads()
    assert counted == [4, 1, 4]


def test_a_run_holds_even_if_it_fails(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(Program().array(), n_bases=1, calls_blas=True)
    walk.run()
    assert counted == [4, 1, 4]

    def fail(steps: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(walk, "_run_alone", fail)
    with pytest.raises(KeyboardInterrupt):
        walk.run(1, 1)
    assert counted == [4, 1, 4, 1, 4]
