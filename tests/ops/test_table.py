"""Every row of the table of cases, in every way that an operation is used."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from tests.ops.cases import ROWS, X, Y

import fallline.ops
from fallline.core import tree
from fallline.core.autodiff import jvp, vjp
from fallline.core.errors import UnsupportedError
from fallline.core.graph import trace
from fallline.core.op import Op
from fallline.core.spec import OF_PYTHON, Spec, spec_of
from fallline.core.trace import FUNCTIONS, METHODS, UFUNCS
from fallline.testing import check_gradients

try:
    from fallline.compiler.function import compile
except ImportError:  # the floor below stands without it
    compile = None

# What tracing knows only to say that it cannot be done: tests/core/test_trace.py.
REFUSED = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal}

every = pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
differentiable = pytest.mark.parametrize(
    "row", [r for r in ROWS if r.differentiable], ids=lambda r: r.name
)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def cast(row, dtype):
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in row.args]


def compiled(f):
    return pytest.skip("there is no compiler") if compile is None else compile(f)


def all_ops():
    modules = [m.name for m in pkgutil.iter_modules(fallline.ops.__path__, "fallline.ops.")]
    found = [v for m in modules for v in vars(importlib.import_module(m)).values()]
    return {op for op in found if isinstance(op, Op)}


def assert_same(found, expected, dtype, exact=False, types=True):
    """Equal trees: shapes, types (unless the reference has its own), and values."""
    found, expected = tree.leaves(found), tree.leaves(expected)
    assert len(found) == len(expected)
    for f, e in zip(found, expected):
        f, e = np.asarray(f), np.asarray(e)
        assert f.shape == e.shape
        if types:
            assert f.dtype == e.dtype
        if exact:
            np.testing.assert_array_equal(f, e)
        else:  # sums and products in another order
            rtol = 2e-6 if dtype == np.float32 else 1e-13
            np.testing.assert_allclose(f, e, rtol=rtol, atol=rtol)


# Is everything in the table?


def test_every_operation_has_a_row():
    used = {node.op for row in ROWS for node in trace(row.f, *row.args).nodes}
    missing = all_ops() - used
    assert not missing, f"no case in tests/ops/cases.py: {sorted(op.name for op in missing)}"


def test_every_numpy_function_has_a_row():
    missing = {*FUNCTIONS, *UFUNCS} - {row.of for row in ROWS} - REFUSED
    assert not missing, f"no case in tests/ops/cases.py: {sorted(f.__name__ for f in missing)}"


# Values.


@every
@both_types
def test_value(row, dtype):
    args = cast(row, dtype)
    with np.errstate(all="ignore"):
        expected, found = row.reference(*args), row.f(*args)
    own = row.reference is row.f
    assert_same(found, expected, dtype, row.exact, types=own)
    with np.errstate(all="ignore"):
        graph = trace(row.f, *args)
        results = [tree.unflatten(graph.out_structure, graph.run(*args))]
        if row.differentiable:
            ones = [np.ones_like(a) for a in args]
            results += [vjp(row.f, *args)[0], jvp(row.f, args, ones)[0]]
    for result in results:
        assert_same(result, found, dtype, row.exact)


@every
@both_types
def test_specs(row, dtype):
    """What is known before is what comes out, at every node."""
    args = cast(row, dtype)
    graph = trace(row.f, *args)
    values = dict(zip(graph.inputs, args))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            given = [values.get(a, a.value) for a in node.args]
            values[node] = node.op(*given, **node.params)
            assert spec_of(values[node]) == node.spec, node


@every
def test_strided_arguments(row):
    views = [np.stack([a, a], axis=-1)[..., 0] for a in row.args]
    flipped = [np.flip(np.flip(a).copy()) for a in row.args]
    expected = row.f(*row.args)
    with np.errstate(all="ignore"):
        for args in (views, flipped):
            assert_same(trace(row.f, *row.args)(*args), expected, np.float64, types=True)
            if row.differentiable:
                assert_same(vjp(row.f, *args)[0], expected, np.float64)


@every
def test_compiled(row):
    check_compiled(row.f, cast(row, np.float32))


@differentiable
def test_compiled_derivatives(row):
    """The rules of differentiation compile too."""

    def pulled(*args):
        y, pull = vjp(row.f, *args)
        return pull(tree.tree_map(np.tanh, y))

    if row.order:
        check_compiled(pulled, cast(row, np.float32))


def check_compiled(f, args):
    fast = compiled(f)
    eager = [n.op for n in trace(f, *args).nodes if n.op.eager_only]
    with np.errstate(all="ignore"):
        if eager:
            with pytest.raises(UnsupportedError, match=eager[0].name):
                fast(*args)
        else:
            assert_same(fast(*args), f(*args), np.float32)


# Derivatives.


@differentiable
def test_derivatives(row):
    """Both modes against finite differences and each other, again for the derivatives."""
    if row.order:
        check_gradients(row.f, *row.args, order=row.order, compiled=False)


@differentiable
def test_derivatives_of_analytic_operations(row):
    graph = trace(row.f, *row.args)
    if row.order and all(n.op.analytic for n in graph.nodes):
        check_gradients(graph.run, *row.args, order=1, analytic=True, compiled=False)


@differentiable
def test_types_of_derivatives(row):
    if row.order:
        check_gradients(row.f, *cast(row, np.float32), order=0, compiled=False)


@differentiable
def test_derivatives_do_not_alias(row):
    """Results can be written into without changing anything else."""
    args = [a.copy() for a in row.args]
    with np.errstate(all="ignore"):
        y, pull = vjp(row.f, *args)
        ones = tree.tree_map(lambda a: np.ones_like(a, np.float64), y)
        results = [*tree.leaves(pull(ones)), *tree.leaves(pull(ones))]
        results += tree.leaves(jvp(row.f, args, args)[1])
    arrays = [r for r in results if isinstance(r, np.ndarray)]
    others = [*args, *tree.leaves(ones), *tree.leaves(y)]
    for i, r in enumerate(arrays):
        assert r.flags.writeable
        assert not any(np.shares_memory(r, o) for o in [*others, *arrays[:i]])


# Shapes, types and numbers that elementwise functions take.

UFUNC_ROWS = {r.of: r for r in ROWS if isinstance(r.of, np.ufunc) and r.f is r.of and r.exact}
ufuncs = pytest.mark.parametrize("row", UFUNC_ROWS.values(), ids=lambda r: r.name)
BROADCAST = [
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((3,), (1, 3)),
    ((2, 3), ()),
    ((), (1,)),
    ((0, 3), (3,)),
    ((0, 1), (1, 3)),
    ((), (0,)),
]


def part(a, shape):
    """A part of a (2, 3) array with this shape."""
    full = (1,) * (2 - len(shape)) + shape
    return a[tuple(slice(0, n) for n in full)].reshape(shape).copy()


@ufuncs
def test_broadcasting(row):
    for shapes in BROADCAST:
        args = [part(a, shape) for a, shape in zip(row.args, shapes)]
        graph = trace(row.f, *args)
        assert_same(graph(*args), row.f(*args), np.float64, exact=True)
        assert graph.outputs[0].spec.shape == np.broadcast_shapes(*shapes[: len(args)])
        if row.differentiable:
            check_gradients(row.f, *args, order=1, compiled=False)


@ufuncs
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.int64, np.float16])
def test_types_of_results(row, dtype):
    args = [np.ones(2, dtype) for _ in row.args]
    try:
        with np.errstate(all="ignore"):
            expected = row.f(*args)
    except TypeError:  # NumPy has no such function of this type
        return
    assert trace(row.f, *args).outputs[0].spec == spec_of(expected)


@ufuncs
def test_python_numbers_are_weak(row):
    """They take the type of the array that they meet; alone, they make Python numbers."""
    numbers = [a.flat[0].item() for a in row.args]
    graph = trace(row.f, *numbers)
    spec = graph.outputs[0].spec
    assert spec == Spec((), spec.dtype, weak=spec.dtype in OF_PYTHON)
    assert spec_of(graph.run(*numbers)[0]) == spec
    if len(numbers) == 2:
        for place in (0, 1):
            args = [a.astype(np.float32 if row.differentiable else np.int32) for a in row.args]
            args[place] = numbers[place]
            expected = row.f(*args)
            traced = trace(row.f, *args)
            assert traced.outputs[0].spec == spec_of(expected)
            assert_same(traced.run(*args)[0], expected, np.float32, exact=True)


# Methods and operators are the same functions.

METHOD_CALLS = {
    "__getitem__": lambda x: x[0],
    "all": lambda x: x.all(0),
    "any": lambda x: x.any(axis=1),
    "argmax": lambda x: x.argmax(),
    "argmin": lambda x: x.argmin(1),
    "argsort": lambda x: x.argsort(0),
    "astype": lambda x: x.astype(np.float32, copy=False),
    "clip": lambda x: x.clip(-1, 1),
    "copy": lambda x: x.copy(),
    "cumprod": lambda x: x.cumprod(1),
    "cumsum": lambda x: x.cumsum(axis=0),
    "diagonal": lambda x: x.diagonal(1),
    "dot": lambda x: x.dot(Y.T),
    "flatten": lambda x: x.flatten(),
    "max": lambda x: x.max(1, keepdims=True),
    "mean": lambda x: x.mean(),
    "min": lambda x: x.min(0),
    "prod": lambda x: x.prod(),
    "ravel": lambda x: x.ravel(),
    "repeat": lambda x: x.repeat(2, axis=0),
    "reshape": lambda x: (x.reshape(3, 2), x.reshape((3, -1)), x.reshape(-1), x.reshape([6])),
    "round": lambda x: x.round(1),
    "squeeze": lambda x: x.reshape(1, 6).squeeze(0),
    "std": lambda x: x.std(axis=0),
    "sum": lambda x: x.sum((0, 1)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "take": lambda x: x.take([1, 0], axis=1),
    "trace": lambda x: x.trace(),
    "transpose": lambda x: (x.transpose(), x.transpose(1, 0), x.transpose((0, 1))),
    "var": lambda x: x.var(0, ddof=1),
}
OPERATORS = {
    "+": lambda x: (x + Y, 1 + x, x + [1.0, 2.0, 3.0]),
    "-": lambda x: (x - 1, 1 - x, Y - x),
    "*": lambda x: (x * 2, Y * x),
    "/": lambda x: (x / 2, 1 / x),
    "//": lambda x: (x // 0.3, 1 // x),
    "%": lambda x: (x % 0.7, 1 % x),
    "**": lambda x: (x**2, 2**x, abs(x) ** Y),
    "@": lambda x: (x @ Y.T, Y.T @ x),
    "unary": lambda x: (-x, +x, abs(x)),
    "comparisons": lambda x: (x < 0, x <= Y, x > 0, x <= Y, x == Y, x != X[0]),
    "logic": lambda x: ((x < 0) & (Y < 0), (x < 0) | (Y < 0), (x < 0) ^ (Y < 0), ~(x < 0)),
    "shifts": lambda x: (x.astype(int) << 1, x.astype(int) >> 1, 1 << abs(x.astype(int))),
    "attributes": lambda x: (x.T, x.mT, x.real, x.shape, x.ndim, x.size, len(x)),
    "iteration": lambda x: [row * 2 for row in x],
    "reduce": lambda x: (np.add.reduce(x), np.multiply.reduce(x, axis=1), np.maximum.reduce(x)),
    "reduce more": lambda x: (np.minimum.reduce(x, axis=None), np.logical_and.reduce(x > 0)),
    "outer": lambda x: np.subtract.outer(x, Y),
}


def test_every_method_has_a_case():
    assert set(METHODS) == set(METHOD_CALLS)


@pytest.mark.parametrize("name", [*METHOD_CALLS, *OPERATORS])
def test_methods_and_operators(name):
    f = METHOD_CALLS.get(name) or OPERATORS[name]
    expected = f(X)
    graph = trace(f, X)
    for found in (graph(X), vjp(f, X)[0], jvp(f, (X,), (X,))[0]):
        assert_same(found, expected, np.float64)
