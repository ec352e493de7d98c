"""The vector layer of emitters, one operation at a time."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.running import run

HEADING = """# name: vectors
import numpy as np
from numba.core import types
from fallline.compiler.library.machine import operation
from fallline.compiler.library.value import Value
from fallline.compiler.library.vector import Unit, Variable, loop, when


@operation(types.void, types.int64, None, None)
def work(builder, n, x, y):
    unit = Unit(builder, "{dtype}", {lanes})
    n = Value(builder, n, np.int64)
    at = n.constant
{body}

def kernel(n: "int", x: "{dtype}*", y: "{dtype}*"):
    work(n, x, y)
"""
PADDING = 4


def emitted(
    body: str, n: int, x: np.ndarray, size: int, lanes: int = 8, dtype: str = "float32"
) -> np.ndarray:
    """What the emitter writes to y, which held -1; nothing may be written beyond."""
    body = "".join(f"    {line}\n" for line in body.strip().splitlines())
    x, y = np.ascontiguousarray(x, dtype), np.full(size + PADDING, -1, dtype)
    run(HEADING.format(body=body, lanes=lanes, dtype=dtype), n, x, y)
    assert np.all(y[size:] == -1)
    return y[:size]


SHAPES = [(4, "float32"), (8, "float64"), (16, "float32")]


@pytest.mark.parametrize("lanes, dtype", SHAPES)
def test_load_and_store(lanes: int, dtype: str) -> None:
    x = np.arange(lanes + 3)
    y = emitted("unit.store(unit.load(x, at(3)), y, at(1))", 0, x, lanes + 1, lanes, dtype)
    assert y.tolist() == [-1, *x[3:]]


@pytest.mark.parametrize("lanes, dtype", SHAPES)
@pytest.mark.parametrize("count", [-2, 0, 1, 3, 4, 100])
def test_masks(lanes: int, dtype: str, count: int) -> None:
    x, kept = np.arange(1, lanes + 1), min(max(count, 0), lanes)
    read = emitted(
        "unit.store(unit.load(x, at(0), unit.first(n)), y, at(0))", count, x, lanes, lanes, dtype
    )
    assert read.tolist() == [*x[:kept], *[0] * (lanes - kept)]
    written = emitted(
        "unit.store(unit.load(x, at(0)), y, at(0), unit.first(n))", count, x, lanes, lanes, dtype
    )
    assert written.tolist() == [*x[:kept], *[-1] * (lanes - kept)]


def test_arithmetic() -> None:
    body = """
u = unit.broadcast(unit.load_scalar(x, n))
v = unit.load(x, at(0))
unit.store(unit.fma(u, v, unit.zero()), y, at(0))
unit.store(unit.fma(u, v, v), y, at(8))
"""
    x = np.arange(8)
    assert emitted(body, 5, x, 16).tolist() == [*5 * x, *6 * x]


def test_fma_rounds_once() -> None:
    x = np.zeros(16, np.float32)
    x[:8], x[8:] = 1 + 2.0**-12, -(1 + 2.0**-11)
    body = """
u = unit.load(x, at(0))
unit.store(unit.fma(u, u, unit.load(x, at(8))), y, at(0))
"""
    y = emitted(body, 0, x, 8)
    assert np.all(y == 2.0**-24)


def test_shuffle() -> None:
    places = [15, 0, 8, 7, 1, 1, 9, 14]
    body = f"unit.store(unit.shuffle(unit.load(x, at(0)), unit.load(x, at(8)), {places}), y, at(0))"
    assert emitted(body, 0, np.arange(16), 8).tolist() == places


@pytest.mark.parametrize("lanes, dtype", SHAPES)
def test_transpose(lanes: int, dtype: str) -> None:
    body = f"""
rows = [unit.load(x, at({lanes} * i)) for i in range({lanes})]
for i, row in enumerate(unit.transpose(rows)):
    unit.store(row, y, at({lanes} * i))
"""
    x = np.arange(lanes * lanes)
    y = emitted(body, 0, x, lanes * lanes, lanes, dtype)
    assert np.array_equal(y.reshape(lanes, lanes), x.reshape(lanes, lanes).T)


@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_loop_and_variable(n: int) -> None:
    body = """
total = Variable(builder, unit.type)
total.set(unit.zero())
one = unit.load(x, at(0))
with loop(at(0), n, 2) as i:
    total.set(unit.fma(one, unit.broadcast(unit.load_scalar(x, i)), total.get()))
    with when(i >= 4):
        unit.store(one, y, at(8))
unit.store(total.get(), y, at(0))
"""
    x = np.arange(1, 9)
    y = emitted(body, n, x, 16)
    assert y[:8].tolist() == (x * sum(x[:n:2])).tolist()
    assert y[8:].tolist() == (x.tolist() if n > 4 else [-1] * 8)


def test_prefetch_changes_nothing() -> None:
    assert np.all(emitted("unit.prefetch(x, n)", 1 << 40, np.arange(8), 8) == -1)
