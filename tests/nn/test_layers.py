"""Linear, Sequential, Dropout, activations and the multi-layer perceptron."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops
from fallline.core import tree
from fallline.nn.activation import ACTIVATIONS
from fallline.ops import philox
from fallline.ops.loss import cross_entropy
from fallline.testing import check_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
KEY = philox.key(5)


def train(key=KEY):
    return nn.Context("train", key=key)


# Linear.


def test_linear_is_what_it_says():
    layer = nn.Linear(4, 3, seed=0, dtype=np.float64)
    layer.b = [1.0, 2.0, 3.0]
    z = layer(X)
    for i in range(6):
        for j in range(3):
            assert z[i, j] == pytest.approx(sum(X[i] * layer.W[:, j]) + layer.b[j])
    np.testing.assert_allclose(layer(X[0]), z[0], rtol=1e-14)
    np.testing.assert_allclose(layer(X.reshape(2, 3, 4)), z.reshape(2, 3, 3), rtol=1e-14)
    assert nn.Linear(4, 3, bias=False)(X).shape == (6, 3)


def test_the_bias_is_a_weight_of_an_input_that_is_1():
    """z = W a + b and z = [1; a] W' have the same outputs and the same gradients."""
    layer = nn.Linear(4, 3, seed=0, dtype=np.float64)
    layer.b = [1.0, 2.0, 3.0]
    ones = np.ones((6, 1))
    augmented = np.vstack([layer.b, layer.W])
    with_ones = np.concatenate([ones, X], axis=1)
    np.testing.assert_allclose(with_ones @ augmented, layer(X), rtol=1e-13)
    f = lambda z: np.sum(np.tanh(z) ** 2)
    by_layer = fl.grad(lambda layer: f(layer(X)))(layer)
    by_whole = fl.grad(lambda w: f(with_ones @ w))(augmented)
    np.testing.assert_allclose(by_whole, np.vstack([by_layer.b, by_layer.W]), rtol=1e-12)


def test_layers_without_a_seed_share_no_weights():
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    assert not (a.W == b.W).any()
    np.testing.assert_array_equal(nn.Linear(4, 3, seed=7).W, nn.Linear(4, 3, seed=7).W)
    np.testing.assert_array_equal(nn.Linear(4, 3, seed=7).W, a.init(7).W)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Linear(0, 3), r"Linear: n_in must be a positive integer; got 0\."),
        (lambda: nn.Linear(4, 3.5), r"Linear: n_out must be a positive integer; got 3\.5\."),
        (lambda: nn.Linear(4, 3)(X.T), r"must have size 4; got shape \(4, 6\)\. Did you mean x\.T"),
        (lambda: nn.Linear(4, 3)(np.ones((2, 5))), r"must have size 4; got shape \(2, 5\)\.$"),
        (lambda: nn.Linear(4, 3, init="he"), r"none called 'he'"),
    ],
)
def test_linear_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Sequential.


def test_sequential_is_composition():
    a, b = nn.Linear(4, 3, seed=0), nn.Linear(3, 2, seed=1)
    net = nn.Sequential(a, ops.relu, lambda x: 2 * x, out=b)
    np.testing.assert_array_equal(net(X), b(2 * ops.relu(a(X))))
    assert [name for name, _ in net.children()] == ["0", "1", "2", "out"]
    assert net[0] is a
    assert net[-1] is net.out is net["out"] is b
    assert list(net) == list(net.layers)
    np.testing.assert_array_equal(net[1:](a(X)), net(X))


def test_a_layer_may_be_replaced():
    net = nn.mlp([4, 3, 2])
    net.act = ops.tanh
    assert isinstance(net.act, nn.Activation)
    setattr(net, "1", ops.tanh)
    assert "tanh" in repr(net)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Sequential(3), "a layer is a module or a function; got 3"),
        (lambda: nn.Sequential(nn.Dropout), r"got <class .*Did you mean Dropout\(\.\.\.\)\?"),
        (lambda: nn.Sequential(link=ops.relu), "cannot be called 'link'; that is taken"),
    ],
)
def test_sequential_refuses(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# Activations.


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_name(name):
    layer = nn.Activation(name)
    np.testing.assert_array_equal(layer(X), ACTIVATIONS[name](X))
    assert repr(layer) == name


def test_activations_with_settings():
    for layer in (
        nn.Activation(ops.leaky_relu, slope=0.3),
        nn.Sequential(partial(ops.leaky_relu, slope=0.3))[0],
    ):
        np.testing.assert_array_equal(layer(X), np.where(X > 0, X, 0.3 * X))
        assert repr(layer) == "leaky_relu  slope=0.3"
    same = [tree.structure(nn.Activation(ops.elu, alpha=a)) for a in (1.0, 1.0, 2.0)]
    assert same[0] == same[1] != same[2]
    with pytest.raises(ValueError, match="none called 'rele'. Did you mean relu?"):
        nn.Activation("rele")


# Dropout.


def test_dropout_infers_by_doing_nothing():
    layer = nn.Dropout(0.5)
    assert layer(X) is X
    assert layer(X, ctx=nn.Context("eval")) is X
    assert nn.Dropout(0.0)(X, ctx=train()) is X


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_keeps_the_expectation(rate):
    x = np.full(200_000, 3.0)
    y = nn.Dropout(rate)(x, ctx=train())
    kept = y != 0
    np.testing.assert_allclose(y[kept], 3 / (1 - rate), rtol=1e-12)
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation
    assert abs(y.mean() - 3) < 5 * 3 * deviation / (1 - rate)


def test_dropout_draws_the_same_bits_eager_and_compiled():
    net = nn.mlp([4, 64, 64, 3], dropout=0.5)
    x = X.astype(np.float32)
    f = lambda net, x, key: net(x, ctx=train(key))
    compiled = fl.compile(f)
    for seed in range(3):
        key = philox.key(seed)
        np.testing.assert_allclose(compiled(net, x, key), f(net, x, key), rtol=1e-5, atol=1e-5)
    mask = lambda x, key: nn.Dropout(0.3)(x, ctx=train(key))
    ones = np.ones((50, 70), np.float32)
    np.testing.assert_array_equal(fl.compile(mask)(ones, KEY), mask(ones, KEY))


def test_two_dropouts_of_a_network_are_independent():
    net = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    x = np.ones(10_000)
    taps = nn.Taps()
    net(x, ctx=nn.Context("train", key=KEY, taps=taps))
    first, both = taps.outputs["0"] != 0, taps.outputs["1"] != 0
    assert abs(both.mean() - 0.25) < 0.03
    assert abs(both[first].mean() - 0.5) < 0.03
    other = net(x, ctx=train(philox.key(6)))
    assert abs((other != 0)[both].mean() - 0.25) < 0.05


def test_one_dropout_used_twice_draws_twice():
    drop = nn.Dropout(0.5)

    class Twice(nn.Module):
        def __init__(self):
            self.drop = drop

        def __call__(self, x, *, ctx=None):
            return self.drop(self.drop(x, ctx=ctx), ctx=ctx)

    assert abs((Twice()(np.ones(10_000), ctx=train()) != 0).mean() - 0.25) < 0.03


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_dropout_refuses(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\); got"):
        nn.Dropout(rate)


def test_dropout_needs_a_key():
    with pytest.raises(ValueError, match="must have a random key"):
        nn.Dropout(0.5)(X, ctx=nn.Context("train"))


# The multi-layer perceptron.


def test_mlp():
    net = nn.mlp([4, 5, 6, 3], activation="tanh", dropout=0.1, seed=3)
    kinds = [type(layer).__name__ for layer in net]
    hidden = ["Linear", "Activation", "Dropout"]
    assert kinds == [*hidden, *hidden, "Linear"]
    assert [net[i].W.shape for i in (0, 3, 6)] == [(4, 5), (5, 6), (6, 3)]
    again = nn.mlp([4, 5, 6, 3], activation="tanh", dropout=0.1, seed=8).init(3)
    np.testing.assert_array_equal(again.gather(), net.gather())
    assert len(nn.mlp([4, 3])) == 1
    with pytest.raises(ValueError, match="widths must hold at least inputs and outputs; got"):
        nn.mlp([4])


def test_mlp_chooses_an_initialiser_for_its_activation():
    names = {"relu": "he_normal", "selu": "lecun_normal", "tanh": "glorot_uniform"}
    for activation, expected in names.items():
        assert nn.mlp([4, 3, 2], activation=activation)[0].initialiser.name == expected
    assert nn.mlp([4, 3, 2], init="orthogonal")[0].initialiser.name == "orthogonal"


def test_gradients_of_an_mlp():
    net = nn.mlp([4, 5, 3], activation="tanh", dtype=np.float64, seed=1)
    y = np.array([0, 1, 2, 0, 1, 2])
    check_gradients(lambda net: np.mean(cross_entropy(net(X), y)), net)


def test_hidden_units_may_be_exchanged():
    net = nn.mlp([2, 2, 1])
    net[0].W, net[0].b = [[3, 1], [3, 4]], [6, 7]
    net[2].W, net[2].b = [[1], [2]], [9]
    x = np.ones((1, 2), np.float32)
    assert net(x) == 45
    net[0].W, net[0].b = net[0].W[:, ::-1].copy(), net[0].b[::-1].copy()
    net[2].W = net[2].W[::-1].copy()
    assert net(x) == 45
