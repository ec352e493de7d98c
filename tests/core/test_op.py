"""Operations that a user declares: the four kinds, in every way that ours are used."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fallline import ops
from fallline.core.autodiff import grad, jvp
from fallline.core.graph import trace
from fallline.core.spec import array_spec
from fallline.core.trace import FUNCTIONS
from fallline.testing import check_gradients

X = np.array([0.3, -1.2, 2.0])

cube = ops.elementwise(
    lambda x: x * x * x,
    lambda y, x: 3 * x * x,
    name="cube",
    kernel="{0} * {0} * {0}",
    analytic=True,
)
shifted = ops.elementwise(
    lambda x, y, *, by: x - by * y, 1, lambda z, x, y, *, by: -by, name="shifted"
)
step = ops.elementwise(lambda x: np.where(x > 0, 1.0, 0.0), None, name="step")
gate = ops.elementwise(
    lambda x, y: np.where(y > 0, x, 0),
    ops.scaled(lambda g, z, x, y: np.where(y > 0, g, 0)),
    None,
    name="gate",
)
evens = ops.linear(
    lambda x: x[::2],
    lambda g, x: np.reshape(np.stack([g, 0 * g], axis=-1), (-1,))[: x.shape[0]],
    name="evens",
)
total = ops.linear(
    lambda *xs: sum(xs), lambda i, g, *xs: g, spec=lambda *xs: xs[0], arrays=None, name="total"
)
product = ops.bilinear(
    lambda a, b: np.multiply.outer(a, b),
    lambda g, a, b: g @ b,
    lambda g, a, b: a @ g,
    spec=lambda a, b: array_spec(a.shape + b.shape, np.result_type(a.dtype, b.dtype)),
    name="product",
)
sumsq = ops.primitive(
    lambda x: np.sum(x * x),
    lambda g, y, x: 2 * g * x,
    spec=lambda x: array_spec((), x.dtype),
    name="sumsq",
)
both = ops.primitive(
    lambda x, y: x * np.exp(y),
    lambda g, z, x, y: g * np.exp(y),
    lambda g, z, x, y: g * z,
    jvp=lambda z, args, tangents: sum(
        t * d for t, d in zip(tangents, (np.exp(args[1]), z)) if t is not None
    ),
    spec=lambda x, y: x,
    name="both",
    arrays=2,
)


@pytest.mark.parametrize(
    "f, args",
    [
        (cube, (X,)),
        (lambda x, y: shifted(x, y, by=3), (X, X[::-1].copy())),
        (lambda x: step(x) * x, (X,)),
        (gate, (X, X[::-1].copy())),
        (evens, (X,)),
        (total, (X, 2 * X, X + 1)),
        (product, (X, X[:2])),
        (sumsq, (X,)),
        (both, (X, X + 1)),
        (lambda x: both(cube(x), 2.0), (X,)),
    ],
)
def test_derivatives(f, args):
    check_gradients(f, *args, order=3)
    graph = trace(f, *args)
    np.testing.assert_array_equal(graph(*args), f(*args))
    assert graph.outputs[0].spec.shape == np.shape(f(*args))


def test_forward_mode_from_the_transpose():
    """sumsq states no jvp: it follows from the vjp."""
    assert sumsq.push is None
    assert jvp(sumsq, (X,), (np.ones(3),))[1] == pytest.approx(2 * X.sum())


def test_rules_are_called_for_traced_arguments_only():
    called = []
    f = ops.elementwise(
        lambda x, y: x * y,
        lambda z, x, y: called.append("x") or y,
        lambda z, x, y: called.append("y") or x,
        name="f",
    )
    assert grad(lambda x: f(x, 3.0))(2.0) == 3.0 and called == ["x"]
    assert jvp(lambda y: f(2.0, y), (3.0,), (1.0,)) == (6.0, 2.0) and called == ["x", "y"]


def test_an_operation_without_derivative_gives_plain_values():
    seen = []
    grad(lambda x: seen.append(step(x)) or np.sum(x))(X)
    assert type(seen[0]) is np.ndarray
    assert not step.differentiable and cube.differentiable


def test_numpys_own_functions_can_be_declared():
    """A NumPy function given by name is then known under it, with its own arguments."""
    rot = ops.linear(np.rot90, lambda g, m, *, k, axes: np.rot90(g, -k, axes), name="rot90")
    try:
        assert set(FUNCTIONS) >= {np.rot90} and repr(rot) == "rot90"
        check_gradients(lambda x: np.rot90(x, 3) * x, X.reshape(3, 1) * np.ones((3, 3)), order=2)
        check_gradients(lambda x: np.rot90(x, axes=(1, 0)), np.ones((2, 3)), order=1)
    finally:
        del FUNCTIONS[np.rot90]


def test_specs_are_kept_and_parameters_may_be_anything():
    f = ops.primitive(
        lambda x, *, table: x * table,
        lambda g, y, x, *, table: g * table,
        spec=lambda x, *, table: x,
        name="f",
    )
    spec = array_spec((3,), "float32")
    assert f.spec(spec, table=np.ones(3)) == f.spec(spec, table=2.0) == spec
    assert cube.spec(spec) is cube.spec(spec)


def test_parameters_that_are_equal_but_of_another_type_have_specs_of_their_own():
    scale = ops.elementwise(lambda x, *, by: x * by, None, name="scale")
    graph = trace(lambda x: (scale(x, by=2), scale(x, by=2.0)), np.arange(3))
    assert [o.spec.dtype for o in graph.outputs] == [np.int64, np.float64]


def test_an_error_of_a_spec_rule_is_the_only_one():
    with pytest.raises(ValueError, match="broadcast") as caught:
        trace(np.add, X, np.ones(2))
    assert caught.value.__context__ is None


def test_check_gradients_finds_what_is_wrong():
    def wrong(**rules):
        return ops.primitive(lambda x: x**2, spec=lambda x: x, name="wrong", **rules)

    right = lambda g, y, x: 2 * g * x
    slip = lambda g, y, x: g * np.array([2.0, 2.0, 3.0]) * x
    cases = [
        (ops.primitive(lambda x: x**2, slip, spec=lambda x: x, name="f"), "forward mode"),
        (
            ops.primitive(
                lambda x: x**2,
                slip,
                jvp=lambda y, a, t: 2 * a[0] * t[0],
                spec=lambda x: x,
                name="f",
            ),
            "reverse mode",
        ),
        (
            ops.primitive(
                lambda x: x**2,
                right,
                jvp=lambda y, a, t: slip(t[0], y, a[0]),
                spec=lambda x: x,
                name="f",
            ),
            "forward mode",
        ),
    ]
    for f, mode in cases:
        with pytest.raises(AssertionError) as caught:
            check_gradients(f, X)
        text = str(caught.value)
        assert f"check_gradients: {mode}: the derivative of" in text and "argument 0[2]" in text
        assert text.endswith("(finite differences); got 6.") or mode == "reverse mode", text


def test_check_gradients_finds_a_wrong_second_derivative():
    f = ops.elementwise(lambda x: np.sin(x), lambda y, x: ops.stop_gradient(np.cos(x)), name="f")
    check_gradients(f, X, order=1)
    with pytest.raises(AssertionError, match="forward over forward mode"):
        check_gradients(f, X)
    with pytest.raises(AssertionError, match="reverse over reverse mode"):
        check_gradients(f, X, modes=("reverse",))


@pytest.mark.parametrize(
    ("partials", "kernel", "message"),
    [
        ((), None, "f: one partial derivative per argument is needed, 2 in all; got 0. Write None"),
        ((None,), None, "2 in all; got 1"),
        ((1, 1, 1), None, "2 in all; got 3"),
        ((2, 1), None, "argument 0 must be a function, 1, -1 or None; got 2. Did you mean lambda"),
        ((1, 1), "{0} + {O}", "names {O}; there are {0}, {1}, {by}. Did you mean {0}?"),
        ((1, 1), "{0} + {2}", "names {2}; there are {0}, {1}, {by}."),
        ((1, 1), "{} + {}", "names {}; there are"),
        ((1, 1), "{0} + * {1}", "must be an expression of Python"),
    ],
)
def test_a_declaration_is_checked(partials, kernel, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        ops.elementwise(lambda x, y, *, by=1: x + y * by, *partials, kernel=kernel, name="f")


def test_optional_arguments_may_do_without_a_partial():
    ops.elementwise(lambda x, slope=0.1: x * slope, lambda y, x: 0.1, name="f")
    ops.elementwise(lambda *xs: sum(xs), 1, 1, 1, kernel="{0} + {1} + {2}", name="f")
