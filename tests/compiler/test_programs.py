"""Random programs, compiled, have NumPy's types and values, and the same bits on any threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.compiler.conftest import split
from tests.compiler.programs import Program, draw, fenced

import fallline as fl
from fallline.core import tree

# NumPy's own, of empty arrays.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def loss(f: Callable[..., Any]) -> Callable[..., Any]:
    """A number that depends on every output of f."""
    parts = lambda *xs: [np.sum(np.sin(y * (1 + i / 10) + 0.3)) for i, y in enumerate(f(*xs))]
    return lambda *xs: sum(parts(*xs))


def plain(f, count):
    return f


def grad(f, count):
    return fl.value_and_grad(loss(f), argnums=tuple(range(count)))


def jvp(f, count):
    def pushed(*xs):
        given = lambda *ys: f(*ys, *xs[count:])
        return fl.jvp(given, xs[:count], tuple(np.cos(x) for x in xs[:count]))

    return pushed


def hvp(f, count):
    def product(*xs):
        given = lambda ys: loss(f)(*ys, *xs[count:])
        return fl.hvp(given, xs[:count], tuple(np.cos(x) for x in xs[:count]))

    return product


# What is done with a function whose first `count` arguments are arrays of floats.
MODES = {"plain": plain, "grad": grad, "jvp": jvp, "hvp": hvp}


def check(program: Program, mode: str, threads: Sequence[int] = (1, 3)) -> None:
    """Compile a program, run it on so many threads (0: as many as were set) and compare."""
    f = MODES[mode](program.function, program.floats)
    inputs = [fenced(x) for x in program.inputs.values()]
    before = [x.base.tobytes() for x in inputs if isinstance(x, np.ndarray)]
    said = f"{mode} of {program}"
    compiled = fl.compile(f)
    found = []
    for n in threads:
        if n:
            fl.set_threads(n)
        found.append(_leaves(compiled(*inputs)))
        assert len({tuple(y.tobytes() for y in ys) for ys in found}) == 1, f"{n} threads, {said}"
    after = [x.base.tobytes() for x in inputs if isinstance(x, np.ndarray)]
    assert after == before, f"inputs are written to, {said}"
    eps = max(np.finfo(x.dtype).eps for x in inputs if getattr(x, "dtype", None) in ("f4", "f8"))
    expected = _leaves(f(*program.inputs.values()))
    for i, (y, e) in enumerate(zip(found[0], expected, strict=True)):
        assert (y.dtype, y.shape) == (e.dtype, e.shape), f"type of result {i}, {said}"
        error = _error(y, e)
        if not error <= 1e4 * eps:  # of values up to `LARGE`
            assert error <= 10 * _spread(f, program, i, eps), f"result {i}: {y} {e}, {said}"


def _leaves(results: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(y) for y in tree.leaves(results)]


def _error(y: np.ndarray[Any, Any], e: np.ndarray[Any, Any]) -> float:
    if e.dtype == bool or not e.size:
        return float(np.any(y != e))
    y, e = y.astype("f8"), e.astype("f8")
    return float(np.max(np.abs(y - e)) / max(1, np.max(np.abs(e))))


def _spread(f: Callable[..., Any], program: Program, i: int, eps: float) -> float:
    """How far NumPy's own result goes astray when the inputs change in their last bits."""
    rng = np.random.default_rng(0)
    results = []
    for _ in range(8):
        noise = lambda x: (x * (1 + 4 * eps * rng.uniform(-1, 1, np.shape(x)))).astype(x.dtype)
        moved = {n: noise(x) if n.startswith("x") else x for n, x in program.inputs.items()}
        results.append(_leaves(f(*moved.values()))[i])
    return max(_error(a, b) for a in results for b in results)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = fl.get_threads()
    yield
    fl.set_threads(before)


def programs(count: int, lines: int = 8) -> list[Program]:
    return [draw(i, ("float32", "float64")[i % 2], lines, mixed=i % 9 == 8) for i in range(count)]


@pytest.mark.parametrize("mode", MODES)
def test_long_programs_can_be_planned(mode, monkeypatch):
    """No kernel is compiled: an order is found, and nothing is read before it is written."""
    split(monkeypatch, nodes=96)
    for program in programs(100, lines=12):
        fl.compile(MODES[mode](program.function, program.floats)).plan(*program.inputs.values())


@pytest.mark.parametrize("mode", MODES)
def test_each_operation_in_a_loop_of_its_own(mode, monkeypatch):
    """Many buffers and launches, made of few kernels."""
    split(monkeypatch, nodes=1)
    for program in programs(200):
        check(program, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", [6, 4096])
def test_operations_that_share_loops(mode, row, monkeypatch):
    """Stages, partial sums, rows: a kernel of its own for almost every program."""
    split(monkeypatch, nodes=96, row=row)
    for program in programs(20):
        check(program, mode)
