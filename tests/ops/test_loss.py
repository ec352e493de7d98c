"""Losses against formulas written out example by example in float64."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import fallline as fl
from fallline.ops import loss
from fallline.testing import check_gradients

RNG = np.random.default_rng(0)
N, K = 7, 4
Z1, Z = RNG.normal(size=N) * 3, RNG.normal(size=(N, K)) * 3
LABELS = np.array([0, 3, 1, 1, 2, 0, 3])
ROWS = RNG.dirichlet(np.ones(K), N)
Y1, Y = RNG.normal(size=N), RNG.normal(size=(N, K))
YES = np.array([0, 1, 1, 0, 1, 0, 0])
COUNTS = np.array([0, 3, 1, 1, 2, 0, 30])


def softmax(z):
    m = max(z)
    e = [math.exp(v - m) for v in z]
    return [v / sum(e) for v in e]


def entropy(z, t):
    return -sum(tk * math.log(p) for tk, p in zip(t, softmax(z)))


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def one_hot(label, smoothing=0.0):
    return [(1 - smoothing) * (k == label) + smoothing / K for k in range(K)]


def huber(r, delta):
    return r * r / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2)


def crammer_singer(z, label):
    return max(0.0, 1 + max(v for k, v in enumerate(z) if k != label) - z[label])


# name: function, outputs, targets, the value of one example
CASES = {
    "cross_entropy, labels": (
        loss.cross_entropy,
        *(Z, LABELS, lambda z, y: entropy(z, one_hot(y))),
    ),
    "cross_entropy, rows": (loss.cross_entropy, Z, ROWS, entropy),
    "cross_entropy, one-hot": (loss.cross_entropy, Z, np.eye(K, dtype=int)[LABELS], entropy),
    "cross_entropy, smoothed": (
        lambda z, y: loss.cross_entropy(z, y, label_smoothing=0.1),
        *(Z, LABELS, lambda z, y: entropy(z, one_hot(y, 0.1))),
    ),
    "cross_entropy, smoothed rows": (
        loss.smoothed(0.3),
        *(Z, ROWS, lambda z, y: entropy(z, [0.7 * v + 0.3 / K for v in y])),
    ),
    "binary_cross_entropy": (
        loss.binary_cross_entropy,
        *(Z1, YES, lambda z, y: -math.log(sigmoid(z) if y else 1 - sigmoid(z))),
    ),
    "binary_cross_entropy, soft": (
        loss.binary_cross_entropy,
        *(Z1, ROWS[:, 0]),
        lambda z, y: -y * math.log(sigmoid(z)) - (1 - y) * math.log(1 - sigmoid(z)),
    ),
    "binary_cross_entropy, several": (
        loss.binary_cross_entropy,
        *(Z, np.eye(K, dtype=bool)[LABELS]),
        lambda z, y: -sum(math.log(sigmoid(a) if b else 1 - sigmoid(a)) for a, b in zip(z, y)) / K,
    ),
    "hinge, 0 and 1": (loss.hinge, Z1, YES, lambda z, y: max(0.0, 1 - (2 * y - 1) * z)),
    "hinge, -1 and 1": (loss.hinge, Z1, 2 * YES - 1, lambda z, y: max(0.0, 1 - y * z)),
    "hinge, classes": (loss.hinge, Z, LABELS, crammer_singer),
    "squared_error": (loss.squared_error, Z1, Y1, lambda z, y: (z - y) ** 2),
    "squared_error, several": (
        loss.squared_error,
        *(Z, Y, lambda z, y: sum((a - b) ** 2 for a, b in zip(z, y)) / K),
    ),
    "squared_error, half": (
        lambda z, y: loss.squared_error(z, y, reduction="half"),
        *(Z, Y, lambda z, y: sum((a - b) ** 2 for a, b in zip(z, y)) / 2),
    ),
    "squared_error, sum": (
        lambda z, y: loss.squared_error(z, y, reduction="sum"),
        *(Z, Y, lambda z, y: sum((a - b) ** 2 for a, b in zip(z, y))),
    ),
    "absolute_error": (loss.absolute_error, Z1, Y1, lambda z, y: abs(z - y)),
    "absolute_error, several": (
        loss.absolute_error,
        *(Z, Y, lambda z, y: sum(abs(a - b) for a, b in zip(z, y)) / K),
    ),
    "huber": (loss.huber, Z1, Y1, lambda z, y: huber(z - y, 1)),
    "huber, wide": (
        lambda z, y: loss.huber(z, y, delta=2.5),
        *(Z1, Y1, lambda z, y: huber(z - y, 2.5)),
    ),
    "poisson": (loss.poisson, Z1, COUNTS, lambda z, y: math.exp(z) - y * z),
}
every = pytest.mark.parametrize("name", CASES)
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def case(name, dtype):
    function, z, y, one = CASES[name]
    return function, z.astype(dtype), y, np.array([one(*pair) for pair in zip(z, y)])


def test_every_loss_has_a_case():
    assert set(loss.LOSSES) == {name.split(",")[0] for name in CASES}


@every
@both
def test_value(name, dtype):
    function, z, y, expected = case(name, dtype)
    found = function(z, y)
    assert found.shape == (N,)
    assert found.dtype == dtype  # integer or float64 targets do not promote
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


@every
def test_derivatives(name):
    function, z, y, _ = case(name, np.float64)
    check_gradients(lambda z: function(z, y), z)


@every
@both
def test_compiled_equals_eager(name, dtype):
    function, z, y, _ = case(name, dtype)

    def mean(z, y):
        return np.mean(function(z, y))

    value, gradient = fl.compile(fl.value_and_grad(mean))(z, y)
    expected, by_z = fl.value_and_grad(mean)(z, y)
    assert (value.dtype, gradient.dtype) == (dtype, dtype)
    rtol = 2e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(value, expected, rtol=rtol)
    np.testing.assert_allclose(gradient, by_z, rtol=rtol, atol=rtol)


def test_cross_entropy_is_one_fused_pass_over_rows():
    graph = fl.compile(fl.value_and_grad(lambda z, y: np.sum(loss.cross_entropy(z, y)))).plan(
        Z, LABELS
    )
    assert len(graph.lowered.launches) <= 2  # the rows, and the sum of their losses


@both
def test_cross_entropy_does_not_change_with_a_shift(dtype):
    z = (np.round(Z * 8) / 8).astype(dtype)  # so that adding an integer is exact
    shifted = z + np.arange(-3, 4, dtype=dtype)[:, None] * 100
    for y in (LABELS, ROWS):
        np.testing.assert_array_equal(loss.cross_entropy(z, y), loss.cross_entropy(shifted, y))


@both
@pytest.mark.parametrize("compiled", [False, True])
def test_extreme_logits(dtype, compiled):
    """Never softmax and then log: nothing overflows, and no digit of a large loss is lost."""
    big = 1e30 if dtype == np.float32 else 1e300
    f = fl.value_and_grad(lambda z, y: np.sum(loss.cross_entropy(z, y)))
    f = fl.compile(f) if compiled else f
    z = np.array([[big, 0, -big], [1000, 0, 0], [-1000, -1000, -1000]], dtype)
    value, gradient = f(z, np.array([0, 1, 2]))
    np.testing.assert_allclose(value, 1000 + math.log(3), rtol=1e-6)
    expected = [[0, 0, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@both
def test_small_losses_keep_their_digits(dtype):
    z = np.array([20.0, -20.0], dtype)
    found = loss.binary_cross_entropy(z, np.array([1, 0]))
    np.testing.assert_allclose(found, math.log1p(math.exp(-20)), rtol=1e-6)
    extreme = loss.binary_cross_entropy(np.array([1000, -1000, 1000, -1000], dtype), [1, 0, 0, 1])
    np.testing.assert_array_equal(extreme, [0, 0, 1000, 1000])


def test_binary_cross_entropy_is_smooth_at_zero():
    """Where logits start: a formula with max(z, 0) has the wrong second derivative there."""
    f = lambda z: np.sum(loss.binary_cross_entropy(z, np.array([1.0])))
    zero = np.zeros(1)
    assert fl.grad(f)(zero) == -0.5
    assert fl.hessian(f)(zero) == 0.25


def test_two_classes_by_either_cross_entropy():
    z = np.stack([np.zeros(N), Z1], axis=1)
    np.testing.assert_allclose(
        loss.cross_entropy(z, YES), loss.binary_cross_entropy(Z1, YES), rtol=1e-12
    )


def test_kinks():
    np.testing.assert_array_equal(
        fl.grad(lambda z: np.sum(loss.absolute_error(z, z * 0)))(np.zeros(2)), [0, 0]
    )
    at_margin = fl.grad(lambda z: np.sum(loss.hinge(z, [1, -1])))(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(at_margin, [0, 0])
    at_delta = fl.grad(lambda z: np.sum(loss.huber(z, [0.0, 0.0])))(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(at_delta, [1, -1])


def test_columns_of_one():
    column = Z1[:, None]
    for function, y in ((loss.squared_error, Y1), (loss.binary_cross_entropy, YES)):
        expected = function(Z1, y)
        for z, t in ((column, y), (column, y[:, None]), (Z1, y[:, None])):
            np.testing.assert_array_equal(function(z, t), expected)


def test_no_examples():
    for name in CASES:
        function, z, y, _ = CASES[name]
        assert function(z[:0], y[:0]).shape == (0,)


# Names and links.


def test_links():
    assert loss.link_of("cross_entropy") == loss.link_of(loss.smoothed(0.1)) == "softmax"
    assert loss.link_of(loss.binary_cross_entropy) == "sigmoid"
    assert loss.link_of("poisson") == "exp"
    assert loss.link_of("hinge") == "margin"
    assert loss.link_of(lambda z, y: z) == loss.link_of("huber") == "identity"


def test_a_loss_of_ones_own_declares_its_link():
    @loss.loss(link="sigmoid")
    def brier(z, y, power=2):
        return np.abs(1 / (1 + np.exp(-z)) - y) ** power

    assert loss.link_of(brier) == loss.link_of(partial(brier, power=4)) == "sigmoid"
    assert loss.link_of(fl.compile(brier)) == "sigmoid" and "brier" not in loss.LOSSES
    assert loss.link_of(lambda z, y: z, None) is None
    with pytest.raises(ValueError, match="called 'sigmod'. Did you mean sigmoid"):
        loss.loss(link="sigmod")


def test_an_infinite_logit_that_is_right_costs_nothing():
    z, y = np.array([np.inf, -np.inf, np.inf, -np.inf, np.inf]), np.array([1, 0, 0, 1, 0.5])
    for f in (loss.binary_cross_entropy, fl.compile(loss.binary_cross_entropy)):
        np.testing.assert_array_equal(f(z, y), [0, 0, np.inf, np.inf, np.inf])
    by_y = fl.grad(lambda y: np.sum(loss.binary_cross_entropy(Z1, y)))(YES * 1.0)
    np.testing.assert_allclose(by_y, -Z1)  # soft targets: log(1 - p) - log(p)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="called 'cross_entrop'. Did you mean cross_entropy?"):
        loss.by_name("cross_entrop")
    with pytest.raises(ValueError, match="called 'xyz'. There are cross_entropy, "):
        loss.by_name("xyz")


# Refusals.

REFUSED = [
    (loss.cross_entropy, Z, [0, 4, 1, 1, 2, 0, 3], r"labels must be in \[0, 4\); got 4\."),
    (loss.cross_entropy, Z, [0, -1, 1, 1, 2, 0, 3], r"labels must be in \[0, 4\); got -1\."),
    (loss.cross_entropy, Z, LABELS + 1, r"got 4\. Do they count from 1\?"),
    (loss.cross_entropy, Z, LABELS * 1.0, r"must be integers; got float64\. Did you mean y.astype"),
    (loss.cross_entropy, Z, LABELS[:3], r"7 examples need 7 labels; got 3\."),
    (
        loss.cross_entropy,
        Z,
        LABELS[:, None],
        r"rows \(7, 4\); got \(7, 1\)\. Did you mean y\[:, 0\]",
    ),
    (loss.cross_entropy, Z, ROWS * 2, r"rows of targets must sum to 1; row \d sums to 2"),
    (
        loss.cross_entropy,
        Z1,
        LABELS,
        r"logits must have shape \(n, k\), k >= 2; got \(7,\)\. For on",
    ),
    (
        loss.cross_entropy,
        LABELS,
        Z,
        r"outputs must be of a float type; got int64\. Are outputs and",
    ),
    (loss.binary_cross_entropy, Z1, YES + 1, r"targets must be in \[0, 1\]; got 2\."),
    (loss.binary_cross_entropy, Z, YES, r"must have one shape; got \(7, 4\) and \(7,\)\."),
    (loss.squared_error, Z1, Y1[:3], r"must have one shape; got \(7,\) and \(3,\)\."),
    (loss.hinge, Z1, LABELS, r"labels must be 0 and 1, or -1 and 1; got 0, 1, 2\."),
    (loss.hinge, Z, LABELS + 1, r"labels must be in \[0, 4\); got 4"),
    (loss.poisson, Z1, COUNTS - 1, r"targets must be at least 0; got -1\."),
    (loss.smoothed(1.0), Z, LABELS, r"label_smoothing must be in \[0, 1\); got 1\.0\."),
    (lambda z, y: loss.huber(z, y, delta=0), Z1, Y1, r"delta must be positive; got 0\."),
    (lambda z, y: loss.huber(z, y, reduction="mode"), Z1, Y1, r'"half"; got \'mode\'\.'),
]


@pytest.mark.parametrize("function, z, y, message", REFUSED)
def test_refusals(function, z, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        function(z, np.asarray(y))


def test_labels_out_of_range_are_seen_while_differentiating():
    with pytest.raises(ValueError, match=r"labels must be in"):
        fl.grad(lambda z: np.sum(loss.cross_entropy(z, LABELS + 1)))(Z)
