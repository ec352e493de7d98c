"""Derivatives: signatures, trees, nesting, types, and the errors of arguments and results."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline.core import tree
from fallline.core.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from fallline.core.errors import TracingError

X = np.array([1.0, 2.0, 3.0])
A = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 4.0]])
Layer = namedtuple("Layer", ["W", "b"])


def quadratic(x):
    return 0.5 * x @ A @ x


def equal(found, expected):
    assert tree.structure(found) == tree.structure(expected)
    for f, e in zip(tree.leaves(found), tree.leaves(expected)):
        np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-12)


# Signatures.


def test_the_textbook_expression():
    """e = (a + b)(b + 1) at a = 2, b = 1."""

    def e(a, b):
        return (a + b) * (b + 1)

    assert value_and_grad(e, argnums=(0, 1))(2.0, 1.0) == (6.0, (2.0, 5.0))
    assert jvp(e, (2.0, 1.0), (0.0, 1.0)) == (6.0, 5.0)  # one forward sweep from b
    value, pull = vjp(e, 2.0, 1.0)  # one reverse sweep from e
    assert (value, pull(1.0)) == (6.0, (2.0, 5.0))


@pytest.mark.parametrize(
    "argnums, expected",
    [(0, 6.0), (1, 3.0), (-1, 0.0), ((0,), (6.0,)), ((1, 0), (3.0, 6.0)), ([0, -2], (6.0, 3.0))],
)
def test_argnums(argnums, expected):
    assert grad(lambda a, b, c: a * b, argnums)(3.0, 6.0, 1.0) == expected


@pytest.mark.parametrize("argnums", [3, -4, "x", (0, 3), 1.0])
def test_wrong_argnums(argnums):
    with pytest.raises((ValueError, TypeError), match="argnums must be|positional|iterable"):
        grad(lambda a, b, c: a, argnums)(1.0, 2.0, 3.0)


def test_keyword_arguments_are_constants():
    assert grad(lambda x, *, scale: scale * x)(1.0, scale=4.0) == 4.0


def test_other_arguments_may_be_anything():
    def f(name, x, n, table):
        return table[name] * x**n

    assert grad(f, 1)("a", 3.0, 2, {"a": 10}) == 60.0


def test_wrappers_keep_the_name():
    assert grad(quadratic).__name__ == jacobian(quadratic).__name__ == "quadratic"


def test_aux():
    def f(x):
        return np.sum(x * x), {"twice": 2 * x, "name": "f", "n": 3}

    aux = {"twice": 2 * X, "name": "f", "n": 3}
    gradient, found = grad(f, has_aux=True)(X)
    equal(gradient, 2 * X)
    assert found["name"] == "f" and type(found["twice"]) is np.ndarray
    (value, found), gradient = value_and_grad(f, has_aux=True)(X)
    assert value == 14 and found["twice"].tolist() == aux["twice"].tolist()
    value, tangent, found = jvp(f, (X,), (X,), has_aux=True)
    assert (value, tangent) == (14, 28) and type(found["twice"]) is np.ndarray
    value, pull, found = vjp(f, X, has_aux=True)
    assert value == 14 and pull(1.0)[0].tolist() == [2, 4, 6] and type(found["twice"]) is np.ndarray


def test_aux_inside_another_derivative():
    def inner(x, y):
        return grad(lambda x: (x * x * y, x * y), has_aux=True)(x)

    assert grad(lambda y: sum(inner(3.0, y)))(2.0) == 9.0  # d/dy (2xy + xy)


def test_aux_needs_a_pair():
    with pytest.raises(TypeError, match=r"has_aux=True the function must return a pair"):
        grad(lambda x: x, has_aux=True)(1.0)


# Trees.


def test_trees_in_and_out():
    params = {"layers": [Layer(np.ones((2, 3)), np.zeros(2)), None], "scale": 2.0, "none": ()}

    def f(p, x):
        layer = p["layers"][0]
        return p["scale"] * np.sum(layer.W @ x + layer.b)

    g = grad(f)(params, X)
    equal(
        g,
        {
            "layers": [Layer(np.tile(2 * X, (2, 1)), 2 * np.ones(2)), None],
            "scale": 12.0,
            "none": (),
        },
    )
    assert type(g["layers"][0]) is Layer


def test_an_empty_tree():
    assert grad(lambda p: 1.0)({}) == {}
    assert vjp(lambda p: {}, {"a": 1.0})[1]({}) == ({"a": 0.0},)


def test_results_are_trees():
    def f(x):
        return {"a": x[0] * x, "b": (x[1], None)}

    value, tangent = jvp(f, (X,), (np.array([1.0, 0, 0]),))
    equal(value, {"a": X, "b": (2.0, None)})
    equal(tangent, {"a": [2.0, 2.0, 3.0] + 0 * X, "b": (0.0, None)})
    _, pull = vjp(f, X)
    equal(pull({"a": np.ones(3), "b": (10.0, None)}), (np.array([7.0, 11.0, 1.0]),))


def test_the_same_array_twice():
    assert grad(lambda p: np.sum(p[0] * p[1]))([X, X])[0].tolist() == [1, 2, 3]


# Nesting.


def test_derivatives_of_any_order():
    f, expected = (lambda x: x**4), [81.0, 108.0, 108.0, 72.0, 24.0, 0.0]
    for value in expected:
        assert f(3.0) == value
        f = grad(f)


def test_no_perturbation_confusion():
    """d/dx (x d/dy (x + y)) is 1: the inner derivative must not see the outer tangent."""

    def forward(f, x):
        return jvp(f, (x,), (1.0,))[1]

    assert forward(lambda x: x * forward(lambda y: x + y, 1.0), 1.0) == 1.0
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert forward(lambda x: x * grad(lambda y: x * y)(1.0), 3.0) == 6.0
    assert grad(lambda x: x * forward(lambda y: x * y, 1.0))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * grad(lambda z: x * y * z)(2.0))(3.0))(5.0) == 10.0


def test_closing_over_an_outer_tracer_that_is_not_used():
    assert grad(lambda x: x + grad(lambda y: y * y)(3.0))(1.0) == 1.0


def both(f, x):
    """The second derivative by the four ways of nesting."""
    one = 1.0
    forward = lambda g: lambda x: jvp(g, (x,), (one,))[1]
    reverse = lambda g: lambda x: vjp(g, x)[1](one)[0]
    return [outer(inner(f))(x) for outer in (forward, reverse) for inner in (forward, reverse)]


@pytest.mark.parametrize(
    "f, second",
    [
        (lambda x: x**3, 12.0),
        (lambda x: np.sin(x) * np.exp(x), 2 * np.cos(2.0) * np.exp(2.0)),
        (lambda x: np.sum(np.stack([x, x * x])[::-1] ** 2), 50.0),
        (lambda x: np.where(x > 1, x * x, 0.0), 2.0),
        (lambda x: np.log(np.linalg.det(np.eye(2) + x * np.ones((2, 2)))), -4 / 25),
    ],
)
def test_all_ways_of_nesting_agree(f, second):
    np.testing.assert_allclose(both(f, 2.0), second, rtol=1e-12)


def test_a_derivative_of_a_jacobian():
    cube = jacobian(jacobian(lambda x: x**3))(X)
    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 6 * X
    equal(cube, expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("frv"), min_size=1, max_size=4), st.floats(0.5, 2.0))
def test_any_order_of_modes(modes, x):
    """The k-th derivative of exp(2x) is 2^k exp(2x), whatever the modes."""
    f = lambda x: np.exp(2 * x)
    for m in modes:
        if m == "f":
            f = lambda x, f=f: jvp(f, (x,), (1.0,))[1]
        elif m == "r":
            f = grad(f)
        else:
            f = lambda x, f=f: np.sum(jacobian(lambda v: f(v[0]))(np.stack([x, x])))
    np.testing.assert_allclose(f(x), 2 ** len(modes) * np.exp(2 * x), rtol=1e-9)


# Jacobians, Hessians.


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian(mode):
    B = np.arange(6.0).reshape(2, 3)
    equal(jacobian(lambda x: B @ x, mode=mode)(X), B)
    wide = jacobian(lambda x: np.outer(x, x)[:2], mode=mode)(X)
    assert wide.shape == (2, 3, 3)
    expected = np.einsum("ik,j->ijk", np.eye(3)[:2], X) + np.einsum("i,jk->ijk", X[:2], np.eye(3))
    equal(wide, expected)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobian_of_trees(mode):
    def f(p, y):
        return {"s": np.sum(p["a"]) * y, "v": p["b"] * p["a"]}

    found = jacobian(f, argnums=(0, 1), mode=mode)({"a": X, "b": 2.0}, 5.0)
    expected = {
        "s": ({"a": 5 * np.ones(3), "b": np.zeros(())}, np.array(6.0)),
        "v": ({"a": 2 * np.eye(3), "b": X}, np.zeros(3)),
    }
    equal(found, expected)
    shapes = tree.tree_map(np.shape, found)
    assert shapes == tree.tree_map(np.shape, expected)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobian_of_nothing(mode):
    assert jacobian(lambda x: x[:0], mode=mode)(X).shape == (0, 3)
    assert jacobian(lambda x: np.sum(x) * np.ones(2), mode=mode)(X[:0]).shape == (2, 0)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="jacobian: mode must be 'auto', 'forward' or 'reverse'"):
        jacobian(quadratic, mode="backward")


def test_hessian_and_products_with_it():
    equal(hessian(quadratic)(X), A)
    v = np.array([1.0, -1.0, 2.0])
    equal(hvp(quadratic, X, v), A @ v)
    equal(
        hvp(lambda p: quadratic(p["x"]) * p["s"], {"x": X, "s": 2.0}, {"x": v, "s": 0.0}),
        {"x": 2 * A @ v, "s": float(X @ A @ v)},
    )


def test_hessian_by_several_arguments():
    h = hessian(lambda a, b: a * a * b, argnums=(0, 1))(3.0, 5.0)
    equal(h, ((np.array(10.0), np.array(6.0)), (np.array(6.0), np.array(0.0))))


def test_hessian_of_a_stable_softmax_is_finite():
    from fallline.ops import logsumexp

    z = np.array([1000.0, 0.0, -1000.0])
    equal(hessian(logsumexp)(z), np.zeros((3, 3)))


# Functions of every kind.


def test_python_control_flow_on_values():
    def f(x):
        y, n = x, 0
        while y < 100:
            y, n = y * x, n + 1
        return y if n % 2 else -y

    assert grad(f)(3.0) == 5 * 81.0 * (1 if 4 % 2 else -1)


def test_recursion_and_printing(capsys):
    def power(x, n):
        if n == 0:
            return 1.0
        print(f"{x:.1f}")
        return x * power(x, n - 1)

    assert grad(power)(2.0, 3) == 12.0
    assert capsys.readouterr().out == "2.0\n" * 3


@pytest.mark.parametrize("constant", [2.0, np.float32(2), np.array(2.0)])
def test_a_constant_has_derivative_zero(constant):
    assert grad(lambda x: constant)(X).tolist() == [0, 0, 0]
    assert jvp(lambda x: constant, (X,), (X,)) == (2.0, 0.0)


def test_integer_results_have_derivative_zero():
    value, tangent = jvp(lambda x: np.argmax(x), (X,), (X,))
    assert (value, tangent) == (2, 0)
    assert vjp(lambda x: (np.argmax(x), x[0]), X)[1]((0, 1.0))[0].tolist() == [1, 0, 0]


def test_the_argument_returned():
    assert grad(lambda x: x)(3.0) == 1.0
    c = np.array([5.0, 6.0, 7.0])
    value, pull = vjp(lambda x: x, X)
    assert value is X and pull(c)[0].tolist() == c.tolist() and pull(c)[0] is not c


def test_one_value_returned_twice():
    _, pull = vjp(lambda x: (x, x, 2 * x), X)
    assert pull((X, X, X))[0].tolist() == [4, 8, 12]


def test_an_argument_that_is_not_used():
    g = grad(lambda p: p["a"] * 2)({"a": 1.0, "b": X})
    assert g["b"].tolist() == [0, 0, 0] and g["a"] == 2.0


def test_pulling_twice():
    _, pull = vjp(lambda x: np.exp(x) * x, X)
    first, second = pull(X)[0], pull(X)[0]
    assert first.tolist() == second.tolist()
    assert pull(2 * X)[0].tolist() == (2 * first).tolist()


def test_pulling_inside_another_derivative():
    _, pull = vjp(lambda x: x * x, 3.0)
    assert grad(lambda c: pull(c)[0])(1.0) == 6.0  # linear in the cotangent


@pytest.mark.parametrize(
    "f", [lambda x: np.sum(x + x), lambda x: np.sum(x.T), lambda x: x[0] + x[1]]
)
def test_gradients_are_fresh_and_writable(f):
    x = X.copy()
    g = grad(f)(x)
    assert g.flags.writeable and g.flags.owndata and not np.shares_memory(g, x)
    g -= 1.0
    assert x.tolist() == X.tolist() and grad(f)(x).tolist() == (g + 1).tolist()


def test_gradients_of_two_arguments_do_not_share():
    a, b = grad(lambda a, b: np.sum(a + b), (0, 1))(X, X)
    assert not np.shares_memory(a, b)
    c = np.ones(3)
    (a, b) = vjp(lambda a, b: a + b, X, X)[1](c)
    assert not np.shares_memory(a, b) and not np.shares_memory(a, c)


def test_many_uses_cost_one_pass():
    calls = []
    from fallline.core.op import elementwise

    f = elementwise(
        lambda x: calls.append("f") or x * 1.0, lambda y, x: calls.append("df") or 1.0, name="f"
    )
    grad(lambda x: f(x) * f(x) + x)(2.0)
    assert calls == ["f", "f", "df", "df"]


def test_a_deep_chain():
    """The tape is walked in a loop: no recursion limit."""

    def f(x):
        for _ in range(5000):
            x = x + 1.0
        return x

    assert grad(f)(0.0) == 1.0 and jvp(f, (0.0,), (1.0,)) == (5000.0, 1.0)


# Types.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_types_are_kept(dtype):
    def f(p):
        return np.sum(np.tanh(p["w"] * 3.0 + 1) / np.sqrt(p["s"])) ** 2

    p = {"w": X.astype(dtype), "s": dtype(4)}
    value, g = value_and_grad(f)(p)
    assert value.dtype == g["w"].dtype == g["s"].dtype == dtype
    value, tangent = jvp(f, (p,), (p,))
    assert value.dtype == tangent.dtype == dtype
    assert hvp(f, p, p)["w"].dtype == dtype


def test_mixed_types():
    a, b = X.astype(np.float32), X.copy()
    y, pull = vjp(lambda a, b: a * b, a, b)
    da, db = pull(np.ones(3))
    assert (y.dtype, da.dtype, db.dtype) == (np.float64, np.float32, np.float64)
    y, dy = jvp(lambda a, b: a * b, (a, b), (a, b))
    assert dy.dtype == np.float64
    assert grad(lambda a: np.sum(a.astype(np.float64) ** 2))(a).dtype == np.float32


def test_foreign_types_of_tangents_and_cotangents():
    x = X.astype(np.float32)
    _, dy = jvp(lambda x: x, (x,), (X,))
    assert dy.dtype == np.float32
    _, pull = vjp(lambda x: x, x)
    assert pull(X)[0].dtype == np.float32
    assert pull([1, 1, 1] + 0 * np.ones(3, int))[0].dtype == np.float32


def test_python_numbers():
    value, g = value_and_grad(lambda x: x**2 + np.sin(x))(2.0)
    assert value.__class__ is g.__class__ is float
    assert jvp(lambda x: x * x, (3.0,), (1.0,)) == (9.0, 6.0)
    assert grad(lambda x: x * 2)(np.float32(1)).dtype == np.float32


def test_python_numbers_divide_like_arrays():
    """Infinite where NumPy's are, not a ZeroDivisionError."""
    with np.errstate(divide="ignore", invalid="ignore"):
        assert grad(np.log)(0.0) == grad(np.sqrt)(0.0) == grad(lambda x: x**0.5)(0.0) == np.inf
        assert grad(lambda x: 1 / x)(0.0) == -np.inf
        assert np.isnan(grad(lambda x: x**1.5)(-2.0)) and grad(lambda x: x / 0)(1.0) == np.inf


def test_a_python_number_does_not_promote_an_array():
    w = X.astype(np.float32)
    seen = []

    def f(lr):
        seen.append((np.exp(lr) * 2 * w).dtype)
        return np.sum(lr * w)

    assert grad(f)(0.1) == 6.0 and seen == [np.float32]


def test_broadcasting_is_summed_back():
    ones = grad(lambda x: np.sum(x * np.ones((4, 1, 3))))
    assert ones(X).tolist() == [4, 4, 4]
    assert ones(X[:1]).tolist() == [12]
    assert ones(1.0) == 12 and ones(X.reshape(1, 1, 3)).shape == (1, 1, 3)
    assert grad(lambda x: np.sum(x + np.ones((1, 3))))(X).tolist() == [1, 1, 1]
    assert grad(lambda x: np.sum(x + np.ones((0, 3))))(X).tolist() == [0, 0, 0]


# Errors.


@pytest.mark.parametrize(
    "x, words",
    [
        (3, "argument 0 must be of a float type to have a derivative; got int64. Did you mean"),
        (np.arange(3), "argument 0 must be of a float type"),
        (np.array([True]), "got bool. Did you mean a float, such as x.astype(float)?"),
        (True, "got bool"),
        ({"a": 1.0, "b": [np.arange(2)]}, "argument 0 at b.0 must be"),
        (np.ones(2, complex), "got complex128. Pass it by another argument, or close over it."),
        ("words", "got str160. Pass it by another argument"),
    ],
)
def test_arguments_that_have_no_derivative(x, words):
    with pytest.raises(
        TypeError,
        match=words.replace(".", "[.]").replace("?", "[?]").replace("(", "[(]").replace(")", "[)]"),
    ):
        grad(lambda x: 1.0)(x)
    for call in (lambda: vjp(lambda x: 1.0, x), lambda: jvp(lambda x: 1.0, (x,), (x,))):
        with pytest.raises(TypeError, match="primal 0( at b.0)? must be of a float type"):
            call()


@pytest.mark.parametrize(
    "out, words",
    [
        (X, "must return one number; got an array of shape (3,). Did you mean np.mean or np.sum"),
        (X[:1], "got an array of shape (1,)"),
        ((1.0, 2.0), "got tuple. Use has_aux=True for further results, or jacobian"),
        (None, "got NoneType"),
        (3, "must return a float; got int64"),
        (True, "must return a float; got bool"),
    ],
)
def test_results_that_have_no_gradient(out, words):
    def loss(x):
        return out

    with pytest.raises(TypeError) as caught:
        grad(loss)(X)
    assert str(caught.value).startswith("grad: loss ") and words in str(caught.value)


def test_tangents_must_fit():
    f = lambda x: x
    with pytest.raises(TypeError, match=r"must be tuples or lists .* ndarray and ndarray. Did you"):
        jvp(f, X, X)
    with pytest.raises(TypeError, match="jvp: primals and tangents must have one structure"):
        jvp(f, ({"a": X},), (X,))
    with pytest.raises(TypeError, match="one structure"):
        jvp(f, (X, X), (X,))
    with pytest.raises(ValueError, match=r"must have its primal's shape; got \(2,\) for \(3,\)"):
        jvp(f, (X,), (X[:2],))
    with pytest.raises(ValueError, match=r"got \(\) for \(3,\)"):
        jvp(f, (X,), (1.0,))


def test_cotangents_must_fit():
    _, pull = vjp(lambda x: {"a": x}, X)
    with pytest.raises(TypeError, match="vjp: the cotangent must have the structure of the result"):
        pull(X)
    with pytest.raises(ValueError, match=r"its output's shape; got \(2,\) for \(3,\)"):
        pull({"a": X[:2]})


def test_complex_numbers_are_refused():
    with pytest.raises(TracingError, match="complex numbers are not differentiated.*\n.*in <la"):
        grad(lambda x: np.sum(np.abs(x * 1j)))(X)
    with pytest.raises(TracingError, match="multiply: complex numbers are not differentiated"):
        jvp(lambda x: x * 1j, (X,), (X,))


def test_errors_are_type_errors_at_the_users_line():
    with pytest.raises(TracingError, match="test_autodiff.py"):
        grad(lambda x: float(x))(1.0)
    assert issubclass(TracingError, TypeError)
