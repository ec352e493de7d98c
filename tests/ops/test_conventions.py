"""Where a derivative does not exist: kinks, ties, borders. Module docstrings state the rules."""

from __future__ import annotations

import numpy as np
import pytest

from fallline import ops
from fallline.core.autodiff import grad, jvp, vjp

NAN, INF = np.nan, np.inf


def slopes(f, *args):
    """The derivative by each argument, equal in both modes."""
    args = tuple(np.asarray(a, float) for a in args)
    y, pull = vjp(f, *args)
    reverse = pull(np.ones_like(y))
    for i, a in enumerate(args):
        along = [np.ones_like(b) if i == j else np.zeros_like(b) for j, b in enumerate(args)]
        if a.shape == np.shape(y):  # one element, one derivative
            np.testing.assert_array_equal(jvp(f, args, along)[1], reverse[i])
    return reverse if len(args) > 1 else reverse[0]


@pytest.mark.parametrize(
    "f, x, expected",
    [
        (np.abs, [-1, 0, 1], [-1, 0, 1]),
        (np.fabs, [0], [0]),
        (np.sign, [-1, 0, 1], [0, 0, 0]),
        (np.floor, [1.0, 1.5], [0, 0]),
        (np.rint, [0.5, 1.0], [0, 0]),
        (lambda x: np.clip(x, -1, 1), [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]),
        (lambda x: x**0, [0, 2], [0, 0]),
        (lambda x: x**1, [0, 2], [1, 1]),
        (lambda x: x**2.0, [0, -3], [0, -6]),
        (lambda x: np.power(x, np.array([0.0, 1.0, 2.0])), [0, 0, 0], [0, 1, 0]),
        (ops.relu, [-1, 0, 1, NAN], [0, 0, 1, 0]),
        (ops.leaky_relu, [-1, 0, 1], [0.01, 0.01, 1]),
        (ops.elu, [0, 1], [1, 1]),
        (lambda x: ops.elu(x, 2.0), [0, 1], [2, 1]),
        (np.max, [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
        (np.min, [1, 1, 1, 2], [1 / 3, 1 / 3, 1 / 3, 0]),
        (np.linalg.norm, [0, 0], [0, 0]),
        (np.std, [2, 2, 2], [0, 0, 0]),
        (lambda x: np.sort(x)[0], [1, 1, 2], [1, 0, 0]),
        (ops.logsumexp, [-INF, -INF, 0], [0, 0, 1]),
        (ops.stop_gradient, [1, 2], [0, 0]),
        (lambda x: x.astype(np.int64) * 1.0, [1.5], [0]),
    ],
)
def test_of_one_argument(f, x, expected):
    np.testing.assert_array_equal(slopes(f, x), expected)


@pytest.mark.parametrize(
    "f, x, y, by_x, by_y",
    [
        (np.maximum, [1, 2, 3], [2, 2, 2], [0, 0.5, 1], [1, 0.5, 0]),
        (np.minimum, [1, 2, 3], [2, 2, 2], [1, 0.5, 0], [0, 0.5, 1]),
        (np.fmax, [NAN, 1, 2], [1, NAN, 2], [0, 1, 0.5], [1, 0, 0.5]),
        (np.fmin, [NAN, 1, 2], [1, NAN, 2], [0, 1, 0.5], [1, 0, 0.5]),
        (np.hypot, [0, 3], [0, 4], [0, 0.6], [0, 0.8]),
        (np.power, [0, 0], [2, 3], [0, 0], [0, 0]),
        (np.copysign, [2, -2, 2], [1, 1, -1], [1, -1, -1], [0, 0, 0]),
        (
            np.logaddexp,
            [INF, 0, -INF, INF],
            [0, INF, -INF, INF],
            [1, 0, 0.5, 0.5],
            [0, 1, 0.5, 0.5],
        ),
        (np.logaddexp2, [5, 8000], [5, 0], [0.5, 1], [0.5, 0]),
        (lambda x, y: np.where(x > y, x, y), [1, 2, 3], [2, 2, 2], [0, 0, 1], [1, 1, 0]),
        (lambda x, y: np.clip(1.0, x, y), [2, 0, 1], [3, 0.5, 3], [1, 0, 0], [0, 1, 0]),
    ],
)
def test_of_two_arguments(f, x, y, by_x, by_y):
    with np.errstate(over="ignore"):
        found = slopes(f, x, y)
    np.testing.assert_array_equal(found[0], by_x)
    np.testing.assert_array_equal(found[1], by_y)


def test_selections_do_not_make_nan():
    """An infinity in the part that was not chosen does not leak: 0 * inf never arises."""
    with np.errstate(divide="ignore"):
        assert grad(lambda x: np.sum(np.where(x > 0, x, 0)))(np.array([INF, -INF])).tolist() == [
            1,
            0,
        ]
        assert grad(lambda x: np.maximum(x, 1.0))(-INF) == 0
        assert grad(lambda x: np.clip(x, 0.0, 1.0))(INF) == 0
        assert grad(lambda x: ops.relu(x))(INF) == 1


@pytest.mark.parametrize("x", [-1e4, -50.0, 50.0, 1e4])
def test_activations_neither_overflow_nor_lose_digits(x):
    with np.errstate(all="raise", under="ignore"):
        assert ops.sigmoid(np.array(x)) + ops.sigmoid(np.array(-x)) == 1
        assert ops.log_sigmoid(np.array(x)) == -ops.softplus(np.array(-x))
        assert ops.softplus(np.array(x)) == max(x, 0) + np.log1p(np.exp(-abs(x)))
        for f in (ops.sigmoid, ops.softplus, ops.elu, ops.selu, ops.silu, ops.gelu):
            for value in jvp(f, (np.array(x),), (np.array(1.0),)):
                assert np.isfinite(value)


def test_softmax_of_large_logits():
    z = np.array([[1e4, 1e4, -1e4], [0.0, 1e5, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        assert ops.softmax(z).tolist() == [[0.5, 0.5, 0], [0, 1, 0]]
        assert ops.log_softmax(z)[0, 2] == -2e4 - np.log(2)
        gradient = grad(lambda z: -np.sum(ops.log_softmax(z)[:, 0]))(z)
    np.testing.assert_allclose(gradient, [[-0.5, 0.5, 0], [-1, 1, 0]])


def test_products_of_zeros():
    """The derivative by a factor is the product of the others, also where some are 0."""
    x = np.array([2.0, 0.0, 3.0])
    assert grad(np.prod)(x).tolist() == [0, 6, 0]
    assert grad(np.prod)(np.array([0.0, 0.0, 3.0])).tolist() == [0, 0, 0]
    assert grad(lambda x: np.cumprod(x)[-1])(x).tolist() == [0, 6, 0]
