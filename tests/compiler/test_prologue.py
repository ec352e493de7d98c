"""Numbers of a step: the same as Python's and NumPy's own, and never an error."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fallline as fl
from fallline import schedule
from fallline.compiler.prologue import Prologue, weak_frontier
from fallline.core.graph import trace

INF, NAN = math.inf, math.nan


def prologue(f, *examples):
    graph = trace(f, *examples)
    return Prologue(graph.inputs, graph.outputs)


def numbers(f, *values):
    return prologue(f, *values)(*values)[0]


def same(a, b):
    return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)


@pytest.mark.parametrize("t", [1, 2, 3, 10, 1000, 12345])
def test_a_rule_of_the_step(t):
    """Bit for bit the float64 arithmetic that is written there."""

    def rate(t, lr, b1, b2):
        return lr * (1 - b2**t) ** 0.5 / (1 - b1**t)

    assert numbers(rate, t, 1e-3, 0.9, 0.999) == rate(t, 1e-3, 0.9, 0.999)


@pytest.mark.parametrize("make", [schedule.cosine, schedule.linear])
def test_schedules(make):
    """A schedule is evaluated by Python for each step; the prologue only carries its value on."""
    rates = make(1e-3, steps=100)
    halved = prologue(lambda lr: lr / 2, 1.0)
    for t in (1, 50, 100, 200):
        assert halved(float(rates(t))) == (rates(t) / 2,)


POWERS = [
    (2.0, 10),
    (0.9, 1000),
    (-8.0, 3),
    (-8.0, 1 / 3),  # nan in NumPy, complex in Python
    (0.0, -1.0),
    (-0.0, -1.0),
    (0.0, 0.0),
    (10.0, 400.0),  # overflow
    (-10.0, 401.0),
    (1e-200, 2.0),
    (INF, -1.0),
    (NAN, 0.0),
    (0.5, -1074.0),
]


@pytest.mark.parametrize("x, y", POWERS)
def test_powers(x, y):
    with np.errstate(all="ignore"):
        assert same(numbers(lambda x, y: x**y, x, y), float(np.float64(x) ** np.float64(y)))


@pytest.mark.parametrize("x", [1.0, -1.0, 0.0, -0.0, INF, -INF, NAN, 3])
@pytest.mark.parametrize("y", [0.0, -0.0, 2.0, INF, NAN, 0])
def test_division_is_numpys(x, y):
    with np.errstate(all="ignore"):
        assert same(numbers(lambda x, y: x / y, x, y), float(np.float64(x) / np.float64(y)))


OTHERS = {
    "overflow": (lambda x: x * 1e200 * 1e200, 2.0),
    "exp": (np.exp, 1000.0),
    "log of 0": (np.log, 0.0),
    "log of less": (np.log, -1.0),
    "root of less": (np.sqrt, -1.0),
    "square": (np.square, -3.0),
    "maximum": (lambda x: np.maximum(x, 2), 1.0),
    "where": (lambda x: np.where(x > 1, x, -x), 0.5),
    "where not": (lambda x: np.where(x <= 1, x, -x), 0.5),
    "tanh": (np.tanh, 0.3),
    "remainder": (lambda x: x % 3, -1.0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions(name):
    f, x = OTHERS[name]
    with np.errstate(all="ignore"):
        expected = float(f(np.float64(x)))
    assert same(float(numbers(f, x)), expected)


WILD = [1.0, -1.0, 0.0, -0.0, INF, -INF, NAN, 0.5, -8.0, 1 / 3, 1e-200, 1e200, 400.0, 0.999]
FUNCTIONS = {
    "rate": lambda x, t: x * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t),
    "power": lambda x, t: x**t,
    "power of a whole number": lambda x, t: (t + 0) ** x,
    "power of whole numbers": lambda x, t: (t * t, t**2, x),
    "division": lambda x, t: (x / (t - 2), x / (x - 1), (t - 2) / x, t / 3),
    "signs": lambda x, t: (-x, -t, np.square(x), np.sqrt(x), x + x, x - x),
    "choice": lambda x, t: np.where(x > 0.5, t, x * 2) * np.where(t == 2, 0.0, x),
    "not of steps": lambda x, t: (x * 2, 3.0),
    "others": lambda x, t: np.exp(x) + np.maximum(x, t) % 3,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 5, 14])
def test_columns_are_the_numbers_of_each_step(name, n):
    """To the bit, and whole numbers stay whole, however wild the numbers are."""
    p = prologue(FUNCTIONS[name], 1.0, 1)
    ts = list(range(1, n + 1))
    for xs in ([0.9] * n, WILD[:n], WILD[-n:], 0.9, NAN, 0.0):
        rows = [p(x, t) for x, t in zip(xs if isinstance(xs, list) else [xs] * n, ts, strict=True)]
        for k, column in enumerate(p.columns(xs, ts)):
            many = isinstance(column, list | np.ndarray)
            found = list(column) if many else [column] * n
            assert all(same(a, row[k]) for a, row in zip(found, rows, strict=True))
            assert isinstance(found[0], float) == isinstance(rows[0][k], float)


def test_constants_that_have_no_name():
    assert numbers(lambda x: x + math.inf, 1.0) == INF
    assert math.isnan(numbers(lambda x: x * math.nan, 1.0))


def test_whole_numbers_stay_whole():
    assert numbers(lambda t: t * 2 + 1, 3) == 7 and type(numbers(lambda t: t * 2 + 1, 3)) is int


def test_its_text_is_readable():
    p = prologue(lambda lr, t: lr / (1 + t), 0.1, 1)
    first, *_, last = p.source.splitlines()
    assert first == "def prologue(lr_0, t_1):" and last.startswith("    return (v")
    assert "(1) + t_1" in p.source or "t_1 + (1)" in p.source


def test_only_what_arrays_meet_is_computed():
    graph = trace(lambda x, a: (x * (a + 1), a * 3)[0], np.ones(3), 2.0)
    assert [n.title for n in weak_frontier(graph)] == ["add"]


TYPES = [np.float32, np.float64, np.int32, np.uint8]


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_at_once_are_rows_one_by_one(dtype):
    whole = np.dtype(dtype).kind in "iu"
    plan = fl.compile(lambda x, a, t: (x * t, x + (t if whole else a * t))).plan(
        np.ones(3, dtype), 0.1, 1
    )
    one, other = plan.frame(rows=7), plan.frame(rows=7)
    ts = list(range(3, 10))
    for row, t in enumerate(ts):
        one.numbers([0.1, t], row)
    other.many_numbers([0.1, ts], 7)
    assert one.scalars.size and np.array_equal(*map(scalars_of, (one, other)))


def scalars_of(frame):
    """What kernels read; a scalar has eight bytes, and may leave some of them as they are."""
    columns = frame._table._columns
    return np.array([column.tolist() for column in columns])


def test_a_fraction_among_whole_numbers_is_an_error_in_any_row():
    plan = fl.compile(lambda x, t: x * 2 ** (3 - t)).plan(np.ones(3, np.int64), 1)
    frame = plan.frame(rows=4)
    frame.many_numbers([[1, 2, 3]], 3)
    with pytest.raises(ValueError, match="whole numbers meet 0.5, which is none"):
        frame.many_numbers([[2, 3, 4]], 3)


@pytest.mark.parametrize("number", [1e300, -1e300, INF, NAN, 1e-300, 0.1])
def test_a_number_is_cast_once_to_the_type_that_it_meets(number):
    x = np.ones(3, np.float32)
    found = fl.compile(lambda x, a: x * (a * 1.0))(x, number)
    with np.errstate(all="ignore"):
        assert np.array_equal(found, x * np.float32(number), equal_nan=True)
