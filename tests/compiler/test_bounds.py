"""Accesses outside of buffers are found, told of, and harm nothing; results stay the same bits."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
from tests.compiler import test_gemm, test_programs
from tests.compiler.conftest import split
from tests.compiler.programs import draw
from tests.compiler.test_vector import HEADING

import fallline as fl
from fallline import nn, ops, optim
from fallline.compiler import checking, store, texts
from fallline.compiler.checking import BoundsError
from fallline.compiler.library import bounds
from fallline.compiler.library.products import blas, gemm


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = fl.get_threads()
    yield
    fl.set_threads(before)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test compiles is checked."""
    monkeypatch.setattr(checking, "_on", True)


# One kernel ---------------------------------------------------------------------------------------

N = 12  # elements in each array
READS, WRITES = 0, 1


def run(text: str, *operands: int | np.ndarray, size: int = N) -> tuple[int, ...] | None:
    """Run a kernel checked, on arrays of which it may touch `size` elements from the fifth on.

    Returns which parameter it went astray with, whether it wrote, offset and bytes; None if it did
    not. The elements around are checked to be as they were.
    """
    record = np.zeros(bounds.RECORD_WORDS, np.int64)
    control = np.zeros(8, np.int64)
    bases, args, around = [control.ctypes.data], [record.ctypes.data], []
    for operand in operands:
        if isinstance(operand, int):
            args.append(operand)
            continue
        memory = np.arange(size + 8).astype(operand.dtype)
        memory[4 : 4 + size] = operand
        around.append((operand, memory))
        low = 4 * memory.itemsize
        args += [len(bases), low, low, low + operand.nbytes]
        bases.append(memory.ctypes.data)
    address = store.load(bounds.checked_text(text))
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
    pointers, slots = np.array(bases), np.array(args)
    function(pointers.ctypes.data, slots.ctypes.data)
    for operand, memory in around:
        operand[...] = memory[4 : 4 + size]
        memory[4 : 4 + size] = np.arange(4, 4 + size)
        assert np.array_equal(memory, np.arange(size + 8).astype(memory.dtype))
    assert control[0] == (bounds.OUTSIDE if record[bounds.FOUND] else 0)
    if not record[bounds.FOUND]:
        return None
    fields = (bounds.PARAMETER, bounds.WRITES, bounds.OFFSET, bounds.BYTES)
    return tuple(record[list(fields)].tolist())


def numbers(dtype: str = "float32", size: int = N) -> np.ndarray:
    return np.arange(1, size + 1).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_elements(dtype: str) -> None:
    text = f"""# name: move
def kernel(i: "int", j: "int", x: "{dtype}*", y: "{dtype}*"):
    y[j] = x[i]
"""
    item = np.dtype(dtype).itemsize
    for i in range(N):
        x, y = numbers(dtype), numbers(dtype)
        assert run(text, i, N - 1 - i, x, y) is None
        assert y[N - 1 - i] == x[i]
    for i in (-1, -2, N, N + 3, 1 << 40, -(1 << 40), (1 << 62) // item):
        x, y = numbers(dtype), numbers(dtype)
        assert run(text, i, 0, x, y) == (2, READS, i * item, item)
        assert run(text, 0, i, x, y) == (3, WRITES, i * item, item)
        assert np.array_equal(y[1:], numbers(dtype)[1:])


def test_a_scalar() -> None:
    text = '# name: fill\ndef kernel(s: "float64", y: "float64*"):\n    y[0] = s\n'
    y = numbers("float64")
    assert run(text, numbers("float64"), y) is None
    assert y[0] == 1
    assert run(text, numbers("float64", 0), y[:0], size=0) == (0, READS, 0, 8)


def test_the_first_violation_is_told() -> None:
    text = """# name: astray
def kernel(n: "int", x: "float32*"):
    for i in range(n):
        x[i] = 2 * x[i]
"""
    x = numbers()
    assert run(text, N + 3, x) == (1, READS, 4 * N, 4)
    assert np.array_equal(x, 2 * numbers())


def emitted(body: str, n: int, lanes: int = 8, dtype: str = "float32") -> tuple[int, ...] | None:
    text = HEADING.format(body=f"    {body}\n", lanes=lanes, dtype=dtype)
    return run(text, n, numbers(dtype, 20), numbers(dtype, 20), size=20)


def test_vectors() -> None:
    for i in range(13):
        assert emitted("unit.store(unit.load(x, n), y, n)", i) is None
    for i in (-1, 13, 1 << 60):
        assert emitted("unit.store(unit.load(x, n), y, at(0))", i) == (1, READS, 4 * i, 32)
        assert emitted("unit.store(unit.load(x, at(0)), y, n)", i) == (2, WRITES, 4 * i, 32)
        body = "unit.store(unit.broadcast(unit.load_scalar(x, n + 7)), y, at(0))"
        assert (emitted(body, i) is None) == (i == -1)


@pytest.mark.parametrize("lanes, dtype", [(8, "float64"), (16, "float32")])
def test_lanes_off_the_mask_are_not_touched(lanes: int, dtype: str) -> None:
    item, least = np.dtype(dtype).itemsize, 20 - lanes
    read = "unit.store(unit.load(x, n, unit.first(n * 0 + {})), y, at(0))"
    written = "unit.store(unit.load(x, at(0)), y, n, unit.first(n * 0 + {}))"
    for count in (-3, 0, 1, lanes - 1, lanes, 100):
        kept = min(max(count, 0), lanes)
        for parameter, body in ((1, read), (2, written)):
            body = body.format(count)
            for start in (least, 20 - kept):
                assert emitted(body, start, lanes, dtype) is None
            for start in (21 - kept, -1):
                found = (parameter, parameter - 1, start * item, kept * item) if kept else None
                assert emitted(body, start, lanes, dtype) == found


def test_lanes_in_the_middle() -> None:
    mask = "builder.xor(unit.first(at(6)), unit.first(at(2)))"  # lanes 2 to 5
    body = f"unit.store(unit.load(x, n, {mask}), y, at(0))"
    for i in (-2, 14):
        assert emitted(body, i) is None
    assert emitted(body, -3) == (1, READS, -4, 16)
    assert emitted(body, 15) == (1, READS, 4 * 17, 16)


def test_a_prefetch_may_ask_for_anything() -> None:
    assert emitted("unit.prefetch(x, n)", 1 << 40) is None


def test_memory_of_the_kernel_s_own() -> None:
    text = """# name: own
from fallline.compiler.library.machine import scratch
def kernel(i: "int", x: "float32*"):
    own = scratch(x, 10)
    own[i] = x[0]
    x[1] = own[i]
"""
    x = numbers()
    assert run(text, 9, x) is None
    assert x[1] == 1
    assert run(text, 10, x) == (bounds.SCRATCH, WRITES, 40, 4)


@pytest.mark.skipif(not blas.gemm_function("float32"), reason="no BLAS here")
@pytest.mark.parametrize("source", ["numpy", "scipy"])
def test_blas_is_not_called_on_what_does_not_fit(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = {"numpy": blas._openblas_of_numpy, "scipy": blas._blas_of_scipy}[source]
    found = find()
    if found is None:
        pytest.skip(f"no BLAS from {source} here")
    monkeypatch.setattr(blas, "_blas", lambda: found)
    text, first = blas.gemm_text("float32"), blas.gemm_function("float32")

    def product(trans: tuple[int, int], m: int, n: int, k: int, lda: int, ldb: int, ldc: int):
        a, b, c = numbers(), numbers(), np.full(N, np.nan, np.float32)
        return run(text, first, *trans, m, n, k, a, lda, b, ldb, c, ldc, 0), c

    astray, c = product((0, 0), 2, 3, 2, 2, 3, 3)
    assert astray is None
    a, b = numbers()[:4].reshape(2, 2), numbers()[:6].reshape(2, 3)
    assert np.array_equal(c[:6].reshape(2, 3), a @ b)
    for trans in ((0, 0), (1, 0), (0, 1), (1, 1)):
        assert product(trans, 3, 3, 3, 4, 4, 4)[0] is None  # 11 elements each
        assert product(trans, 3, 3, 3, 5, 4, 4)[0] == (6, READS, 0, 4 * 13)
        assert product(trans, 3, 3, 3, 4, 5, 4)[0] == (8, READS, 0, 4 * 13)
        astray, c = product(trans, 3, 3, 3, 4, 4, 5)
        assert astray == (10, WRITES, 0, 4 * 13)
        assert np.isnan(c).all()
    assert product((1, 0), 2, 3, 6, 2, 3, 3)[0] == (8, READS, 0, 4 * 18)


# Compiled functions -------------------------------------------------------------------------------


def doubled_kernel(n: "int", x: "T*", k: "int", by: "int64*", n_out: "int", y: "T*"):  # noqa: F722, UP037
    for i in range(n):
        y[i] = 2 * x[i + by[0]]
    y[by[1]] = 0


doubled = ops.primitive(
    lambda x, by: np.where(np.arange(len(x)) == by[1], 0, 2 * np.roll(x, -by[0])),
    name="doubled",
    spec=lambda x, by: x,
    kernel=doubled_kernel,
)
X = np.arange(1.0, 11)


@pytest.mark.usefixtures("checks", "threads")
def test_a_kernel_of_one_s_own() -> None:
    f = fl.compile(lambda x, by: doubled(x + 0, by) + 1)
    expected = np.where(np.arange(10) == 3, 0, 2 * X) + 1
    said = {
        (2, 0): "<lambda>: the kernel doubled reads 8 bytes at byte 80 of its argument x, which "
        "has 80 bytes.",
        (-1, 0): "reads 8 bytes at byte -8 of its argument x",
        (0, 10): "writes 8 bytes at byte 80 of its argument y",
        (0, -2): "writes 8 bytes at byte -16 of its argument y",
    }
    for by, words in said.items():
        x = X.copy()
        with pytest.raises(BoundsError, match=words) as error:
            f(x, np.array(by))
        assert "report" not in str(error.value)
        assert np.array_equal(x, X)
        assert np.array_equal(f(x, np.array([0, 3])), expected)  # it goes on after that


def test_without_checks_it_is_not_noticed() -> None:
    assert checking.checks_bounds() is False
    fl.compile(doubled)(np.ones(64), np.array([-1, 0]))


@pytest.mark.usefixtures("checks", "threads")
def test_what_kernels_report_themselves_is_reported() -> None:
    take, x = fl.compile(lambda x, i: x[i] + 1), np.arange(4.0)
    assert np.array_equal(take(x, np.array([3, -4])), [4, 1])
    with pytest.raises(IndexError, match="an index is out of bounds") as error:
        take(x, np.array([4, 0]))
    assert not isinstance(error.value, BoundsError)


@pytest.mark.usefixtures("checks")
def test_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    cumsum = texts.cumsum
    wrong = lambda *types: cumsum(*types).replace("range(n1)", "range(n1 + 1)")
    monkeypatch.setattr(texts, "cumsum", wrong)
    x = np.ones((3, 4))
    with pytest.raises(BoundsError, match="cumsum reads 8 bytes at byte 96 of its argument x"):
        fl.compile(lambda x: np.cumsum(x, axis=1))(x)
    with pytest.raises(BoundsError, match="an error of Fallline: please report it"):
        fl.compile(lambda x: np.cumsum(x, axis=1))(x)


@pytest.mark.skipif(not gemm.available(), reason="no vector kernels for this host")
@pytest.mark.parametrize(
    "right, wrong, said",
    [
        ("m - i, width, depth", "m - i + 1, width, depth", "reads 4 bytes at byte 2400 of .* a, "),
        ("width, depth, add", "width + 1, depth, add", "reads .* of its argument b, "),
        ("i * ldc + j", "i * ldc + j + 1", "writes .* of its argument c, "),
    ],
)
@pytest.mark.usefixtures("checks")
def test_an_emitter_of_ours(right: str, wrong: str, said: str, monkeypatch) -> None:
    monkeypatch.setattr(gemm, "forced", lambda: "vector")
    text = gemm.gemm_text
    monkeypatch.setattr(gemm, "gemm_text", lambda *form: text(*form).replace(right, wrong))
    a, b = test_gemm.normal(0, 20, 30), test_gemm.normal(1, 30, 40)
    with pytest.raises(BoundsError, match=f"the kernel matmul {said}.*please report it"):
        fl.compile(lambda a, b: a @ b)(a, b)


def both(f, *inputs, monkeypatch: pytest.MonkeyPatch):
    """The results of a function compiled without and with checks."""
    found = []
    for on in (False, True):
        monkeypatch.setattr(checking, "_on", on)
        found.append(fl.compile(f)(*inputs))
    return found


@pytest.mark.parametrize("service", gemm.SERVICES)
def test_products_have_the_same_bits(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "forced", lambda: service)
    for shape_a, shape_b, function in list(test_gemm.CASES.values())[::2]:
        a, b = test_gemm.normal(8, *shape_a), test_gemm.normal(9, *shape_b)
        x, y = both(function, a, b, monkeypatch=monkeypatch)
        assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("mode", test_programs.MODES)
@pytest.mark.parametrize("nodes, count", [(1, 10), (96, 2)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("checks")
def test_random_programs(mode: str, nodes: int, count: int, monkeypatch) -> None:
    split(monkeypatch, nodes=nodes)
    for i in range(1000, 1000 + count):
        program = draw(i, ("float32", "float64")[i % 2], 8, mixed=i % 5 == 4)
        test_programs.check(program, mode)


@pytest.mark.usefixtures("threads")
def test_sums_and_random_numbers_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x, key):
        y = ops.softmax(x, axis=-1) + np.mean(np.tanh(x), axis=-1, keepdims=True)
        drawn = [fl.random.normal(key, (3, 50)), fl.random.uniform(key, (7,), high=3.0)]
        return y, np.sum(x * x), np.sum(x, axis=0), fl.random.bernoulli(key, 0.2, (9,)), *drawn

    x = np.random.default_rng(0).standard_normal((70, 301)).astype(np.float32)
    plain, checked = both(f, x, fl.random.key(3), monkeypatch=monkeypatch)
    assert [y.tobytes() for y in plain] == [y.tobytes() for y in checked]


def test_training_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((70, 9)).astype(np.float32), rng.integers(0, 3, 70)
    found = []
    for on in (False, True):
        monkeypatch.setattr(checking, "_on", on)
        first, last = nn.Linear(9, 16, seed=0), nn.Linear(16, 3, seed=1)
        net = nn.Sequential(first, np.tanh, nn.Dropout(0.5), last)
        fl.fit(net, data, optimizer=optim.adam(), epochs=3, batch_size=32, progress=False)
        found.append([np.asarray(p).tobytes() for p in fl.core.tree.leaves(net)])
    assert found[0] == found[1]


def next_kernel(n: "int", m: "int", x: "T*", n_out: "int", m_out: "int", y: "T*"):  # noqa: F722, UP037
    for i in range(n * m):
        y[i] = x[i + 1]


@pytest.mark.usefixtures("checks", "threads")
def test_training_stops() -> None:
    following = ops.primitive(
        lambda x: np.roll(x, -1), lambda g, y, x: g, name="following", kernel=next_kernel,
        spec=lambda x: x,
    )  # fmt: skip
    net = nn.Sequential(nn.Linear(9, 16, seed=0), following, nn.Linear(16, 3, seed=1))
    nets, before = [net.copy() for _ in range(3)], net.gather().tobytes()
    data = np.ones((70, 9), np.float32), np.arange(70) % 3
    said = "following reads 4 bytes at byte 2048 of its argument x, which has 2048 bytes"
    with pytest.raises(BoundsError, match=said):
        fl.fit(nets[0], data, epochs=1, batch_size=32, progress=False)
    with pytest.raises(BoundsError, match=said):
        fl.fit_many(nets[1:], data, epochs=1, batch_size=32, progress=False)
    assert all(net.gather().tobytes() == before for net in nets)


# The setting --------------------------------------------------------------------------------------


def test_the_environment(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, fallline as fl\n"
        "from fallline.compiler import checking\n"
        "f = fl.compile(lambda x: np.tanh(x) + 1)\n"
        "f(np.ones(3))\n"
        "print(checking.checks_bounds(), 'numba' in __import__('sys').modules)\n"
    )

    def said(value: str) -> str:
        environment = {**os.environ, "FALLLINE_CHECK_BOUNDS": value}
        command = [sys.executable, str(script)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return ran.stdout or ran.stderr

    assert said("1").startswith("True")
    assert said("1") == "True False\n"  # what was checked is kept in the store as well
    assert said("").startswith("False")
    assert "FALLLINE_CHECK_BOUNDS must be 0 or 1; got 'on'." in said("on")


def test_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_on", None)
    monkeypatch.delenv("FALLLINE_CHECK_BOUNDS", raising=False)
    fl.check_bounds()
    assert checking.checks_bounds() is True
    fl.check_bounds(False)
    assert checking.checks_bounds() is False
