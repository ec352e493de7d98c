"""Operations that a user declares: differentiated and compiled like ours."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline.core.errors import UnsupportedError
from fallline.ops import elementwise, linear, primitive

X = np.random.default_rng(0).standard_normal((3, 7))


def central(f, x, v, e=1e-6):
    return (f(x + e * v) - f(x - e * v)) / (2 * e)


def check(f, x):
    """Forward and reverse mode, second order, compiled."""
    v = np.random.default_rng(1).standard_normal(x.shape)
    total = lambda x: np.sum(f(x) ** 2)
    np.testing.assert_allclose(fl.jvp(f, (x,), (v,))[1], central(f, x, v), atol=1e-7)
    np.testing.assert_allclose(np.sum(fl.grad(total)(x) * v), central(total, x, v), rtol=1e-6)
    np.testing.assert_allclose(fl.hvp(total, x, v), central(fl.grad(total), x, v), atol=1e-6)
    np.testing.assert_allclose(fl.compile(f)(x), f(x), rtol=1e-12)
    np.testing.assert_allclose(fl.compile(fl.grad(total))(x), fl.grad(total)(x), rtol=1e-10)
    assert fl.compile(f)(x.astype(np.float32)).dtype == np.float32


def test_elementwise_in_one_line():
    softsign = elementwise(
        lambda x: x / (1 + np.abs(x)),
        lambda y, x: 1 / (1 + np.abs(x)) ** 2,
        name="softsign",
        kernel="{0} / (1 + absolute({0}))",
    )
    check(softsign, X)
    # it joins the loop of its neighbours
    assert len(fl.compile(lambda x: softsign(x * 2) + 1).plan(X).lowered.launches) == 1


def test_linear():
    def neighbours(x):
        return np.roll(x, 1, axis=-1) + x

    shift = linear(neighbours, lambda g, x: np.roll(g, -1, axis=-1) + g, name="neighbours")
    v = np.ones_like(X)
    np.testing.assert_allclose(fl.jvp(shift, (X,), (v,))[1], neighbours(v))
    gradient = fl.grad(lambda x: np.sum(shift(x) * X))(X)
    np.testing.assert_allclose(gradient, np.roll(X, -1, axis=-1) + X)
    with pytest.raises(UnsupportedError, match="neighbours cannot be compiled: it has no kernel"):
        fl.compile(shift)(X)


def decay_kernel(n: "int", m: "int", x: "T*", n_out: "int", m_out: "int", y: "T*"):  # noqa: F722, UP037
    for i in range(n):
        total = x[i * m] * 0
        for j in range(m):
            total = total / 2 + x[i * m + j]
            y[i * m + j] = total


def decayed(x):
    y = np.array(x)
    for j in range(1, x.shape[1]):
        y[:, j] += y[:, j - 1] / 2
    return y


def test_primitive_with_a_kernel():
    back = primitive(
        lambda g: decayed(g[:, ::-1])[:, ::-1],
        lambda u, y, g: decay(u),
        name="decay_back",
        spec=lambda g: g,
    )
    decay = primitive(
        decayed, lambda g, y, x: back(g), name="decay", spec=lambda x: x, kernel=decay_kernel
    )
    v = np.random.default_rng(1).standard_normal(X.shape)
    np.testing.assert_allclose(fl.jvp(decay, (X,), (v,))[1], decayed(v), rtol=1e-12)  # from the vjp
    total = lambda x: np.sum(decay(x) ** 3)
    np.testing.assert_allclose(np.sum(fl.grad(total)(X) * v), central(total, X, v), rtol=1e-6)
    np.testing.assert_allclose(fl.hvp(total, X, v), central(fl.grad(total), X, v), atol=1e-5)
    for dtype in (np.float32, np.float64):
        x = X.astype(dtype)
        for f in (decay, lambda x: decay(x * 2) + 1, lambda x: decay(x.T)):
            np.testing.assert_allclose(fl.compile(f)(x), f(x), rtol=1e-5)


def test_the_name_of_one_of_ours_may_be_taken():
    negative = elementwise(
        lambda x: np.minimum(x, 0), None, name="negative", kernel="minimum({0}, 0)"
    )
    for f in (lambda x: negative(negative(x)), lambda x: negative(-x)):
        assert np.array_equal(fl.compile(f)(X), f(X))


def scaled_kernel(n: "int", x: "T*", a: "T*", n_out: "int", y: "T*"):  # noqa: F722, UP037
    for i in range(n):
        y[i] = x[i] * a[0]


def test_a_kernel_gets_numbers_as_arrays():
    f = primitive(lambda x, a: x * a, name="f", spec=lambda x, a: x, kernel=scaled_kernel)
    for a in (2.0, np.array(2.0)):
        assert np.array_equal(fl.compile(lambda x, a: f(x, a))(X[0], a), X[0] * 2)
        assert np.array_equal(fl.compile(lambda x, a=a: f(x, a))(X[0]), X[0] * 2)


def doubling_kernel(n: "int", x: "float64*", n_out: "int", y: "float64*"):  # noqa: F722, UP037
    for i in range(n):
        y[i] = x[i] * 2


def test_a_kernel_of_another_type_is_refused():
    f = primitive(lambda x: x * 2, name="f", spec=lambda x: x, kernel=doubling_kernel)
    assert np.array_equal(fl.compile(f)(X[0]), X[0] * 2)
    for x in (X[0].astype(np.float32), X):
        with pytest.raises(TypeError, match="doubling_kernel: the arguments of the kernel must be"):
            fl.compile(f)(x)


def test_a_kernel_knows_no_parameters():
    f = primitive(lambda x, *, by: x * by, name="f", spec=lambda x, *, by: x, kernel=scaled_kernel)
    with pytest.raises(UnsupportedError, match="f cannot be compiled with by=: a kernel gets arr"):
        fl.compile(lambda x: f(x, by=2))(X[0])
