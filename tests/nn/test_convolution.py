"""Layers of convolutions, pooling, flattening."""

from __future__ import annotations

import numpy as np
import pytest
from tests.nn import naive

import fallline as fl
from fallline import nn, ops
from fallline.core import tree
from fallline.testing import check_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 7, 6))


def layer64(kind, *args, **settings):
    return kind(*args, seed=0, dtype=np.float64, **settings)


# Convolutions.


@pytest.mark.parametrize(
    "settings, as_naive",
    [
        ({}, {}),
        ({"stride": 2, "padding": 1}, {"stride": (2, 2), "padding": (1, 1)}),
        ({"stride": (1, 2), "padding": (0, 2)}, {"stride": (1, 2), "padding": (0, 2)}),
        ({"padding": "same"}, {"padding": (1, 1)}),
        ({"dilation": (2, 1), "padding": 1}, {"dilation": (2, 1), "padding": (1, 1)}),
        ({"groups": 2}, {"groups": 2}),
        ({"groups": 4, "bias": False}, {"groups": 4}),
    ],
)
def test_conv2d_is_what_it_says(settings, as_naive):
    layer = layer64(nn.Conv2d, 4, 8, 3, **settings)
    if layer.b is not None:
        layer.b = RNG.normal(size=8)
    want = naive.convolution(X, layer.W, **as_naive)
    want = want if layer.b is None else want + layer.b[:, None, None]
    np.testing.assert_allclose(layer(X), want, rtol=1e-12, atol=1e-12)
    assert (layer.n_in, layer.n_out) == (4, 8)


@pytest.mark.parametrize(
    "settings, size, as_naive",
    [
        ({}, (9, 8), {}),
        ({"stride": 2}, (15, 13), {"stride": (2, 2)}),
        (
            {"stride": 2, "padding": 1, "output_padding": 1},
            (14, 12),
            {"stride": (2, 2), "padding": (1, 1)},
        ),
        ({"groups": 2, "bias": False}, (9, 8), {"groups": 2}),
    ],
)
def test_conv_transpose2d_is_what_it_says(settings, size, as_naive):
    layer = layer64(nn.ConvTranspose2d, 4, 6, 3, **settings)
    if layer.b is not None:
        layer.b = RNG.normal(size=6)
    want = naive.transposed(X, layer.W, size, **as_naive)
    want = want if layer.b is None else want + layer.b[:, None, None]
    np.testing.assert_allclose(layer(X), want, rtol=1e-12, atol=1e-12)
    assert (layer.n_in, layer.n_out) == (4, 6)


def test_the_transpose_is_the_transpose():
    """<y, C x> = <C^T y, x>, for layers that share their kernels."""
    down = layer64(nn.Conv2d, 4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    up = nn.ConvTranspose2d(
        *(6, 4, 3), stride=2, padding=1, output_padding=(0, 1), groups=2, bias=False
    )
    up.W = down.W
    y = RNG.normal(size=down(X).shape)
    assert np.sum(y * down(X)) == pytest.approx(np.sum(up(y) * X), rel=1e-5)


def test_kernels_have_the_right_fan():
    """he_uniform: U(-a, a), a = sqrt(6 / fan_in), fan_in the numbers that one output adds up."""
    for layer, fan in (
        (nn.Conv2d(16, 64, (5, 3), seed=0), 16 * 15),
        (nn.Conv2d(16, 64, 3, groups=4, seed=0), 4 * 9),
        (nn.ConvTranspose2d(16, 64, 3, seed=0), 16 * 9),
        (nn.ConvTranspose2d(16, 64, 3, groups=4, seed=0), 4 * 9),
    ):
        limit = np.sqrt(6 / fan)
        assert 0.98 * limit < abs(layer.W).max() <= limit
        assert layer.W.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    orthogonal = nn.Conv2d(2, 18, 3, init="orthogonal", seed=0, dtype=np.float64)
    rows = orthogonal.W.reshape(18, -1)  # as many outputs as inputs
    np.testing.assert_allclose(rows @ rows.T, np.eye(18), atol=1e-12)


def test_the_bias_starts_where_it_is_told_to():
    layer = nn.Conv2d(1, 2, 3, bias=0.05)
    np.testing.assert_array_equal(layer.b, np.float32([0.05, 0.05]))
    layer.b = [3.0, 4.0]
    np.testing.assert_array_equal(layer.init(1).b, np.float32([0.05, 0.05]))
    assert nn.Conv2d(1, 2, 3, bias=False).b is None
    assert (nn.Conv2d(1, 2, 3).b == 0).all()
    assert (nn.Linear(3, 2, bias=0.5).b == 0.5).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Conv2d(0, 3, 3), r"Conv2d: n_in must be a positive integer; got 0\."),
        (
            lambda: nn.Conv2d(4, 6, 3, groups=4),
            r"groups must divide n_in and n_out; got groups=4 for 4 -> 6\.",
        ),
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), "groups must divide n_in and n_out"),
        (lambda: nn.Conv2d(4, 6, 0), r"kernel must be a whole number >= 1, or a pair of them; got"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0), "stride must be a whole number >= 1"),
        (lambda: nn.Conv2d(4, 6, 3, dilation=(1, 2, 3)), "dilation must be a whole number >= 1"),
        (lambda: nn.Conv2d(4, 6, 3, padding="full"), "padding must be 'valid', 'same', a number"),
        (lambda: nn.Conv2d(4, 6, 3, padding=-1), "padding must be a whole number >= 0"),
        (
            lambda: nn.ConvTranspose2d(4, 6, 3, padding="same"),
            "padding must be numbers; got",
        ),
        (
            lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=2),
            r"output_padding must be below the stride \(2, 2\); got \(2, 2\)",
        ),
        (
            lambda: nn.Conv2d(6, 6, 3)(X),
            r"x must have shape \(n, 6, height, width\); got \(2, 4, 7, 6\)\. Did you mean np",
        ),
        (lambda: nn.Conv2d(4, 6, 3)(X[0]), r"got \(4, 7, 6\)\. Did you mean x\[None\]\?"),
        (lambda: nn.Conv2d(1, 6, 3)(X[0]), r"got \(4, 7, 6\)\. Did you mean x\[:, None\]\?"),
        (lambda: nn.Conv2d(4, 6, 9)(X), "a kernel of 9 x 9, .* does not fit an image of 7 x 6"),
    ],
)
def test_convolutions_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Pooling and flattening.


def test_pooling_is_the_operations():
    np.testing.assert_array_equal(nn.MaxPool2d(2)(X), ops.max_pool(X, 2))
    np.testing.assert_array_equal(
        nn.MaxPool2d(3, stride=2, padding="same")(X), ops.max_pool(X, 3, stride=2, padding="same")
    )
    np.testing.assert_array_equal(
        nn.AvgPool2d((2, 3), padding=1, count_padding=False)(X),
        ops.avg_pool(X, (2, 3), padding=1, count_padding=False),
    )
    np.testing.assert_allclose(nn.GlobalAvgPool()(X), X.mean((2, 3)), rtol=1e-14)


def test_of_equal_elements_the_first_one_counts():
    x = np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(
        fl.grad(lambda x: np.sum(nn.MaxPool2d(2)(x)))(x)[0, 0], [[1, 0], [0, 0]]
    )


def test_flatten_keeps_the_order():
    np.testing.assert_array_equal(nn.Flatten()(X), X.reshape(2, -1))
    assert nn.Flatten()(np.zeros((0, 3, 2, 2))).shape == (0, 12)
    assert nn.Flatten()(np.zeros(5)).shape == (5, 1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel must be a whole number >= 1"),
        (lambda: nn.AvgPool2d(2, stride=(0, 1)), "AvgPool2d: stride must be a whole number >= 1"),
        (lambda: nn.MaxPool2d(2, padding=2), "padding 2 must be less than the window 2 x 2"),
        (lambda: nn.MaxPool2d(8)(X), "a window of 8 x 8 does not fit an image of 7 x 6"),
        (lambda: nn.MaxPool2d(2)(X[0]), r"x must have shape \(n, channels, height, width\); got"),
        (lambda: nn.GlobalAvgPool()(X[0]), r"must have shape \(n, channels, height, width\)"),
        (lambda: nn.Flatten()(np.float32(3)), r"Flatten: x must have shape \(n, \.\.\.\)"),
    ],
)
def test_pooling_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Derivatives, by the input and by the weights.


LAYERS = {
    "conv": lambda: layer64(nn.Conv2d, 4, 3, 3),
    "strided, padded": lambda: layer64(nn.Conv2d, 4, 3, 3, stride=2, padding="same"),
    "depthwise": lambda: layer64(nn.Conv2d, 4, 4, (3, 2), groups=4, dilation=2, bias=False),
    "1 x 1": lambda: layer64(nn.Conv2d, 4, 2, 1),
    "transposed": lambda: layer64(nn.ConvTranspose2d, 4, 2, 3, stride=2, output_padding=1),
    "max": lambda: nn.MaxPool2d(3, stride=2),
    "mean": lambda: nn.AvgPool2d(3, stride=2, padding=1, count_padding=False),
    "global mean": nn.GlobalAvgPool,
    "flatten": nn.Flatten,
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    layer = LAYERS[name]()
    x = RNG.permutation(X.size).reshape(X.shape) / X.size  # no two elements are near a tie
    check_gradients(lambda layer, x: np.tanh(layer(x)), layer, x)


def test_a_mapped_layer_keeps_its_settings():
    layer = nn.Conv2d(4, 6, 3, stride=[2, 1], padding=[[1, 0], 2], groups=2)
    same = tree.tree_map(np.array, layer)
    np.testing.assert_array_equal(same(X), layer(X))
    assert tree.structure(same) == tree.structure(layer)
    assert tree.structure(layer) != tree.structure(nn.Conv2d(4, 6, 3, groups=2))
    assert "stride (2, 1), padding ((1, 0), 2), groups 2" in repr(layer)
