"""`check_gradients` finds what is wrong with an operation, and leaves a right one in peace."""

from __future__ import annotations

import numpy as np
import pytest

from fallline import ops
from fallline.testing import check_gradients

X = np.array([0.3, -1.2, 2.0])
CUBE = "{0} * {0} * {0}"


def cube(partial=lambda y, x: 3 * x * x, kernel=CUBE):
    return ops.elementwise(lambda x: x * x * x, partial, name="cube_of_test", kernel=kernel)


def squares(vjp, jvp=None):
    return ops.primitive(lambda x: x**2, vjp, jvp=jvp, spec=lambda x: x, name="squares_of_test")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_right_operation(dtype):
    check_gradients(cube(), X.astype(dtype))
    check_gradients(lambda x, s: np.tanh(np.outer(x, x) @ x) * s, X.astype(dtype), 2.0)


def test_a_wrong_partial():
    with pytest.raises(AssertionError, match=r"forward mode: .* by argument 0\[\d\] must be"):
        check_gradients(cube(lambda y, x: 2 * x * x), X)


def test_a_wrong_vjp():
    right = lambda y, args, tangents: 2 * args[0] * tangents[0]
    check_gradients(squares(lambda g, y, x: 2 * g * x, right), X)
    with pytest.raises(AssertionError, match="reverse mode"):
        check_gradients(squares(lambda g, y, x: g * x, right), X)


def test_a_wrong_jvp():
    wrong = lambda y, args, tangents: args[0] * tangents[0]
    with pytest.raises(AssertionError, match="forward mode"):
        check_gradients(squares(lambda g, y, x: 2 * g * x, wrong), X)


def test_a_wrong_kernel():
    f = cube(kernel="{0} * {0}")
    with pytest.raises(AssertionError, match=r"compiled, result\[0\] must be 0.027, .* got 0.09"):
        check_gradients(f, X)
    check_gradients(f, X, compiled=False)


def test_a_wrong_kernel_that_only_the_gradient_needs():
    slope = ops.elementwise(lambda x: 3 * x * x, lambda y, x: 6 * x, kernel="{0}", name="slope")
    with pytest.raises(AssertionError, match="compiled, tangent"):
        check_gradients(cube(lambda y, x: slope(x)), X)


def test_what_cannot_be_compiled_is_checked_eagerly():
    check_gradients(cube(kernel=None), X)
    check_gradients(lambda x: x * x if x > 0 else -x, 2.0)
