"""Compiled functions against the same functions run by NumPy."""

from __future__ import annotations

import os
import signal
import threading
import tracemalloc

import numpy as np
import pytest

import fallline as fl
from fallline import ops
from fallline.core.errors import TracingError, UnsupportedError

rng = np.random.default_rng(0)
A = rng.standard_normal((4, 5))
B = rng.standard_normal((5, 3))
C = rng.standard_normal((2, 4, 5))
V = rng.standard_normal(5)
BIG = rng.standard_normal((300, 400))
LONG = rng.standard_normal(100_000)
INDEX = np.array([[0, 2], [3, -1]])


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layer_norm(x):
    return (x - np.mean(x, axis=-1, keepdims=True)) / (np.std(x, axis=-1, keepdims=True) + 1e-5)


CASES = {
    "map": (lambda x: np.tanh(x) + 1, (A,)),
    "gram": (lambda x: x.T @ x, (A,)),
    "sum": (np.sum, (A,)),
    "sum of much": (np.sum, (LONG,)),
    "sum, used again": (lambda x: x * np.sum(x * x), (LONG,)),
    "columns": (lambda x: np.sum(x, axis=0) * 2, (A,)),
    "columns of much": (lambda x: np.sum(x, axis=0), (BIG,)),
    "outer axes": (lambda x: np.sum(x * x, axis=(0, 2)), (C,)),
    "middle axis": (lambda x: np.sum(x, axis=1), (C,)),
    "max": (lambda x: np.max(x, axis=1), (C,)),
    "max of sums": (lambda x: np.max(np.sum(x, axis=1)), (BIG,)),
    "sum of max": (lambda x: np.sum(np.max(x, axis=0)), (BIG,)),
    "softmax": (softmax, (A,)),
    "softmax of stacks": (softmax, (C,)),
    "softmax of a reduction": (lambda x: softmax(np.sum(x, axis=2)), (C,)),
    "layer norm": (layer_norm, (BIG,)),
    "row sums, used again": (lambda x: np.sum(x, axis=1)[:, None] * x, (BIG,)),
    "mean of logs": (lambda x: np.mean(np.log(1 + np.exp(-np.abs(x)))), (LONG,)),
    "slices": (lambda x: x[1:3, ::-1] * 2, (A,)),
    "gather": (lambda x: x[INDEX], (A,)),
    "gather columns": (lambda x: x[:, INDEX], (A,)),
    "take along": (lambda x: np.take_along_axis(x, np.array([[1], [2], [0], [4]]), 1), (A,)),
    "argmax": (lambda x: np.argmax(x, axis=1), (A,)),
    "argmin": (lambda x: np.argmin(x, axis=0), (A,)),
    "cumsum": (lambda x: np.cumsum(x, axis=0), (C,)),
    "concatenate": (lambda x: np.concatenate([x, x * 2], axis=1), (A,)),
    "parts in place": (lambda x: np.concatenate([np.ravel(x * 2), np.sin(x).ravel(), x[0]]), (A,)),
    "pad": (lambda x: np.pad(x, 1) + 1, (A,)),
    "diagonal": (lambda x: np.diag(x) @ np.diag(x), (V,)),
    "trace": (lambda x: np.trace(x @ x.T), (A,)),
    "einsum": (lambda x, y: np.einsum("bij,jk->bik", x, y), (C, B)),
    "stacked product": (lambda x, y: x @ y, (C, B)),
    "reshape of a transpose": (lambda x: np.swapaxes(x, 0, 1).reshape(-1), (C,)),
    "roll": (lambda x: np.roll(x, 2, axis=1), (A,)),
    "tile": (lambda x: np.tile(x, (2, 2)), (A,)),
    "repeat": (lambda x: np.repeat(x, 3, axis=0), (A,)),
    "numbers": (lambda x, a: x * a + a**2, (A, 0.5)),
    "where": (lambda x, a: np.where(x > a, x, -x), (A, 2)),
    "several": (lambda x: (x, x.T, x * 1, x * 2), (A,)),
    "bools": (lambda x: (x > 0) & (x < 1), (A,)),
    "all": (lambda x: np.all(x > 0, axis=1), (A,)),
    "any": (lambda x: np.any(x > 0), (A,)),
    "casts": (lambda x: x.astype(np.float32) * 2, (A,)),
    "integers": (lambda x: x // 2 + x % 3, (np.arange(-5, 5),)),
    "cube": (lambda x: x**3, (A,)),
    "prod": (lambda x: np.prod(x, axis=1), (A,)),
    "norm": (lambda x: x / np.linalg.norm(x), (A,)),
    "variance": (lambda x: np.var(x, axis=0), (C,)),
    "activations": (lambda x: ops.gelu(x) + ops.silu(x) + ops.selu(x), (A,)),
    "constant": (lambda x: np.zeros(3), (A,)),
    "number": (lambda x: 3.0, (A,)),
    "identity": (lambda x: x, (A,)),
    "triangle": (np.tril, (A,)),
    "nothing summed": (lambda x: np.sum(x[:0]), (A,)),
    "nothing": (lambda x: x[:0] * 2, (A,)),
    "product without columns": (lambda x: x @ np.ones((5, 0)), (A,)),
    "product over nothing": (lambda x: x[:, :0] @ np.ones((0, 3)), (A,)),
    "gradient": (lambda x: fl.grad(lambda w: np.sum(np.tanh(w @ w.T)))(x), (A,)),
    "gradient of a gather": (lambda x: fl.grad(lambda w: np.sum(w[INDEX] ** 2))(x), (A,)),
    "gradient of layer norm": (lambda x: fl.grad(lambda w: np.sum(layer_norm(w) ** 3))(x), (BIG,)),
    "total of loops that do not join": (
        lambda x, y: np.max(-((x + y) ** 2)),
        (np.arange(3.0)[:, None], LONG),
    ),
    "a row by its number": (lambda x, i: x[i], (A, 2)),
    "numbers stacked": (lambda a, b: np.stack([a, b]), (1.5, 2.5)),
    "a number repeated": (lambda a: np.broadcast_to(a, (3,)), (2.0,)),
    "sum of one number": (np.sum, (np.array(3, np.int32),)),
    "gradient of one number's maximum": (fl.grad(np.max), (np.array(2.0),)),
    "rows of one": (lambda x: np.reshape(x * 2, 5) + 3 + np.sum(x * 2, axis=1), (V[:, None],)),
    "rows of one number": (
        lambda x: np.reshape(x * 2, 5) + 3 + np.sum(x * 2, axis=1),
        (np.arange(5, dtype=np.int32)[:, None],),
    ),
    "triangle of bools": (lambda x: np.tril(x > 0), (A,)),
    "one number padded": (lambda x: np.pad(np.sum(x), 1), (A,)),
    "hvp": (lambda x: fl.hvp(lambda w: np.sum(softmax(w) ** 2), x, x), (A,)),
    "hessian": (lambda x: fl.hessian(lambda w: np.sum(np.sin(w) * w[::-1]))(x), (V,)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_equals_eager(name, dtype):
    f, args = CASES[name]
    args = [a.astype(dtype) if getattr(a, "dtype", None) == np.float64 else a for a in args]
    expected, found = f(*args), fl.compile(f)(*args)
    if not isinstance(expected, tuple):
        expected, found = (expected,), (found,)
    for e, y in zip(expected, found, strict=True):
        assert np.shape(y) == np.shape(e)
        assert np.asarray(y).dtype == np.asarray(e).dtype
        # sums are in another order, and exp and the like differ in the last places
        tolerance = 1e-12 if np.asarray(e).dtype == np.float64 else 2e-5
        np.testing.assert_allclose(
            y, e, rtol=tolerance, atol=tolerance * (1 + np.max(np.abs(e), initial=0))
        )


def test_exact_operations_have_numpys_bits():
    def f(m, g, a):
        step = np.sign(a * m + (1 - a) * g) - np.sqrt(g * g + m * m) / (np.abs(m) + 0.3)
        return step * np.reciprocal(m)

    m, g = rng.standard_normal((2, 10_007)).astype(np.float32)
    assert np.array_equal(fl.compile(f)(m, g, 0.9), f(m, g, 0.9))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_go_where_numpy_puts_them(bad):
    x = A.copy()
    x[1, 2] = bad
    functions = [
        np.tanh,
        np.exp,
        lambda x: np.maximum(x, 0),
        ops.relu,
        np.sum,
        lambda x: np.max(x, axis=1),
        lambda x: x @ x.T,
        softmax,
        lambda x: x - x,
        lambda x: 1 / (x * 0),
    ]
    with np.errstate(all="ignore"):
        for f in functions:
            np.testing.assert_allclose(fl.compile(f)(x), f(x), rtol=1e-12)


def test_results_do_not_depend_on_threads():
    def f(x):
        return np.sum(np.tanh(x), axis=0), np.sum(x * x), softmax(x), x @ x.T

    x = rng.standard_normal((700, 600)).astype(np.float32)
    compiled = fl.compile(f)
    before = fl.get_threads()
    try:
        results = []
        for n in (1, 2, 3, 5):
            fl.set_threads(n)
            results.append(compiled(x))
    finally:
        fl.set_threads(before)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_fresh_results_and_inputs_untouched():
    f = fl.compile(lambda x: (x, x * 2))
    x = A.copy()
    same, double = f(x)
    same[:] = 0
    again = f(x)
    double[:] = 0
    assert np.array_equal(x, A) and np.array_equal(again[1], A * 2)


def test_numbers_never_trace_again():
    count = 0

    def f(x, rate, t):
        nonlocal count
        count += 1
        return x * (1 - rate**t)

    compiled = fl.compile(f)
    for t in range(1, 5):
        np.testing.assert_allclose(compiled(V, 0.9, t), V * (1 - 0.9**t), rtol=1e-15)
    assert count == 1


def test_static_arguments_and_shapes_get_plans_of_their_own():
    f = fl.compile(lambda x, up: x + 1 if up else x - 1)
    assert f(V, True)[0] == V[0] + 1 and f(V, False)[0] == V[0] - 1
    g = fl.compile(lambda x: x * 2)
    assert g(A).shape == (4, 5) and g(A[:2]).shape == (2, 5)
    # one kernel serves both shapes
    assert [x.text for x in g.plan(A).lowered.launches] == [
        x.text for x in g.plan(A[:2]).lowered.launches
    ]


def test_trees_in_and_out():
    f = fl.compile(lambda p: {"sum": p["a"] + p["b"][0], "none": None})
    out = f({"a": V, "b": (V,)})
    assert out["none"] is None and np.array_equal(out["sum"], 2 * V)


def test_arguments_in_any_layout():
    f = fl.compile(lambda x, y: x @ y)
    np.testing.assert_allclose(f(B.T, A.T), B.T @ A.T, rtol=1e-12)
    np.testing.assert_allclose(f(A[::2, ::-1], B[::-1]), A[::2, ::-1] @ B[::-1], rtol=1e-12)


def test_inside_a_derivative_the_function_itself_runs():
    f = fl.compile(lambda x: np.sum(np.sin(x)))
    np.testing.assert_allclose(fl.grad(f)(V), np.cos(V))


def test_a_branch_on_a_value_is_refused_at_the_users_line():
    def f(x):
        if x[0] > 0:  # the line
            return x
        return -x

    with pytest.raises(TracingError, match=r"np\.where.*\n.*test_function\.py:\d+, in f") as error:
        fl.compile(f)(V)
    line = int(str(error.value).rsplit(":", 1)[1].split(",")[0])
    assert line == f.__code__.co_firstlineno + 1


def test_what_has_no_kernel_says_so():
    with pytest.raises(UnsupportedError, match="det cannot be compiled: .*\n.*test_function"):
        fl.compile(lambda x: np.linalg.det(x @ x.T))(A)
    with pytest.raises(TracingError, match="np.where"):
        fl.compile(lambda x: x[x > 0])(A)


def test_index_out_of_bounds():
    f = fl.compile(lambda x, i: x[i])
    assert np.array_equal(f(V, np.array([0, -1])), V[[0, -1]])
    with pytest.raises(IndexError, match="out of bounds"):
        f(V, np.array([0, 5]))


def test_a_plan_refuses_arrays_that_it_was_not_made_for():
    plan = fl.compile(lambda x: x * 2).plan(V)
    for x in (V[:3], V.astype(np.float32), V[:, None]):
        with pytest.raises(ValueError, match=r"x must be f64\[5\], for which the plan was"):
            plan.run(x)


def test_results_may_lie_where_inputs_do():
    x = LONG.copy()
    plan = fl.compile(lambda x: x[::-1] * 2).plan(x)
    plan.run(x, out=[x])
    assert np.array_equal(x, LONG[::-1] * 2)
    x = LONG.copy()
    plan = fl.compile(lambda x: x * 2).plan(x[1:])
    plan.run(x[1:], out=[x[:-1]])
    assert np.array_equal(x[:-1], LONG[1:] * 2)
    with pytest.raises(ValueError, match="the arrays of out share memory"):
        fl.compile(lambda x: (x, x * 2)).plan(V).run(V, out=[x[:5], x[4:9]])


def test_arrays_of_another_byte_order():
    f = fl.compile(lambda x, rest: (x * 2, rest[0][::-1] + rest[1]))
    double, total = f(A.astype(">f8"), [V.astype(">f4"), 3])
    assert np.array_equal(double, A * 2) and double.dtype.isnative
    assert np.array_equal(total, V.astype("f4")[::-1] + 3) and total.dtype == np.float32


def test_a_spec_has_no_values():
    with pytest.raises(TypeError, match=r"tanh: needs arrays; got f32\[3\]. Did you mean .plan"):
        fl.compile(np.tanh)(fl.Spec((3,), np.float32))


def test_an_array_that_changes_while_the_function_runs():
    """Each use of a constant sees what was in it then."""

    def f(x):
        mask, total = np.zeros(5), 0.0
        for i in range(5):
            mask[:] = 0
            mask[i] = 1
            total = total + mask * x * i
        return total

    assert np.array_equal(fl.compile(f)(V), V * np.arange(5))


def test_shifts_have_no_kernel():
    with pytest.raises(UnsupportedError, match="left_shift cannot be compiled: a shift by more"):
        fl.compile(np.left_shift)(np.array([1]), np.array([64]))


def test_powers_of_whole_numbers_that_are_fractions():
    """Python's, of numbers alone; an array of whole numbers has no type for them."""
    assert fl.compile(lambda t: 2**-t)(3) == 0.125
    assert np.array_equal(fl.compile(lambda x, t: x * 2**-t)(V, 3), V / 8)
    with pytest.raises(ValueError, match=r"whole numbers meet 0.125.*2.0\*\*-t"):
        fl.compile(lambda x, t: x * 2**-t)(np.arange(3), 3)


def test_whole_numbers_that_are_too_large_for_the_array():
    with pytest.raises(OverflowError, match="300 is out of bounds for int8"):
        fl.compile(lambda x, t: x + t)(np.ones(3, np.int8), 300)


def test_loops_that_would_wait_for_each_other_stay_apart():
    """c and e could share a loop, as a and d do; but d needs c, and e needs b, which needs a."""

    def f(x, z):
        a = np.sin(x)
        b = np.cumsum(a)
        c = z * 2
        d = a * c[0]
        e = c + b[0]
        return b, d, e

    for y, expected in zip(fl.compile(f)(V, A[0, :3]), f(V, A[0, :3]), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-15)


def test_run_into_given_arrays_allocates_nothing():
    x = rng.standard_normal((200, 300))
    plan = fl.compile(lambda x: (np.tanh(x) @ x.T, np.sum(x))).plan(x)
    out = [np.empty(s.shape, s.dtype) for s in plan.output_specs()]
    plan.run(x, out=out)
    tracemalloc.start()
    plan.run(x, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        peak < 10_000
    )  # Python's own small objects, no array (the smallest buffer has 480,000 bytes)
    np.testing.assert_allclose(out[0], np.tanh(x) @ x.T, rtol=1e-10)


def test_concurrent_calls_have_separate_workspaces():
    f = fl.compile(lambda x: softmax(np.tanh(x) @ x.T))
    inputs = [rng.standard_normal((60, 70)) for _ in range(8)]
    expected = [f(x) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(50):
            if not np.array_equal(f(inputs[i]), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_explain_names_kernels_buffers_and_sources():
    text = fl.compile(lambda x, w: softmax(x @ w)).explain(A, B, sources=True)
    for part in (
        "matmul(x, w)",
        "launches",
        "flop",
        "workspace",
        "from launch",
        "for i0 in range(n0):",
        "exp(",
    ):
        assert part in text


def test_numbers_stay_weak_when_they_are_fed_back():
    f = fl.compile(lambda x, a: (x * a, a * 0.5))
    x, a = V.astype(np.float32), 0.5
    for _ in range(3):
        x, a = f(x, a)
    assert x.dtype == np.float32 and a.__class__ is float


def test_in_forked_and_spawned_processes():
    import multiprocessing
    import os
    import sys

    f = fl.compile(lambda x: softmax(np.tanh(x) @ x.T))
    expected = f(BIG)
    if sys.platform != "win32":
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(f(BIG), expected) else 1)
        assert os.waitpid(child, 0)[1] == 0
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(_compiled_here, (BIG,)), expected)


def _compiled_here(x):
    return fl.compile(lambda x: softmax(np.tanh(x) @ x.T))(x)


def test_calls_with_plain_arrays_find_their_plan_directly():
    f = fl.compile(lambda x, y: (x + y, {"twice": 2 * x}))
    x, y = np.arange(3.0), np.ones((2, 3))
    for _ in range(2):
        total, rest = f(x, y)
        np.testing.assert_array_equal(total, x + y)
        np.testing.assert_array_equal(rest["twice"], 2 * x)
    assert len(f._of_arrays) == 1
    swapped, _ = f(y, x)  # other shapes
    np.testing.assert_array_equal(swapped, x + y)
    assert f(x.astype(">f8"), y)[0].dtype == np.float64
    assert len(f._of_arrays) == 2  # not those of another byte order
    g = fl.compile(lambda x, *, n=1: x * n)
    np.testing.assert_array_equal(g(x), x)
    np.testing.assert_array_equal(g(x, n=3), 3 * x)
    np.testing.assert_array_equal(fl.grad(lambda x: np.sum(f(x, y)[0]))(x), [2.0, 2.0, 2.0])


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match=r"must be plain arrays; got MaskedArray"):
        fl.compile(np.exp)(np.ma.array([1.0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_does_not_wait_for_a_thread_that_it_has_not():
    """Forked while another thread traces."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(x):
        entered.set()
        go_on.wait(30)
        return x + 1

    f = fl.compile(slow)
    thread = threading.Thread(target=lambda: f(np.zeros(4)))
    thread.start()
    entered.wait(30)
    child = os.fork()
    if child == 0:
        go_on.set()
        signal.alarm(20)
        os._exit(0 if np.array_equal(f(np.zeros(5)), np.ones(5)) else 1)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert status == 0
