"""`inspect` against backpropagation by hand."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops

X = np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -3.0]])
Y = np.array([2, 0, 1])


def by_hand(net, X, y):
    """Softmax regression behind one layer of tanh: Bishop 2006, section 5.3."""
    (W1, b1), (W2, b2) = ((layer.W, layer.b) for layer in (net[0], net[2]))
    Z1 = X @ W1 + b1
    A1 = np.tanh(Z1)
    Z2 = A1 @ W2 + b2
    A2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)
    V2 = (A2 - np.eye(3)[y]) / len(X)
    V1 = (V2 @ W2.T) * (1 - A1**2)
    loss = -np.log(A2[np.arange(len(X)), y]).mean()
    first = {"Z": Z1, "A": A1, "V": V1, "dW": X.T @ V1, "db": V1.sum(axis=0)}
    return loss, first, {"Z": Z2, "A": A2, "V": V2, "dW": A1.T @ V2, "db": V2.sum(axis=0)}


def network():
    return nn.mlp([2, 4, 3], activation="tanh", seed=3, dtype=np.float64)


def test_two_layers_by_hand():
    net = network()
    seen = fl.inspect(net, X, Y, loss="cross_entropy")
    loss, *expected = by_hand(net, X, Y)
    assert seen.loss == pytest.approx(loss, rel=1e-12)
    assert [layer.name for layer in seen] == ["0", "2"] and len(seen) == 2
    for name, arrays in zip(("0", "2"), expected, strict=True):
        found = seen[name].arrays()
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-12, atol=1e-15, err_msg=key)
    np.testing.assert_array_equal(seen["2"].W, seen[1].grads["W"])
    np.testing.assert_array_equal(seen["2"].b, seen[-1].grads["b"])


def test_gradients_are_those_of_grad():
    net = network()
    grads = fl.grad(lambda net: np.mean(ops.cross_entropy(net(X), Y)))(net)
    seen = fl.inspect(net, X, Y, loss="cross_entropy")
    for path, g in grads.named_parameters():
        layer, _, name = path.rpartition(".")
        layer = layer.removeprefix("layers.")
        np.testing.assert_allclose(seen[layer].grads[name], g, rtol=1e-12)


@pytest.mark.parametrize(
    ("link", "k", "y", "mean"),
    [
        ("sigmoid", 1, [0, 1, 1], ops.sigmoid),
        ("exp", 1, [0, 4, 2], np.exp),
        ("identity", 1, [0.5, 1, 2], lambda z: z),
        ("margin", 1, [-1, 1, 1], lambda z: z),
        ("softmax", 3, [0, 1, 2], ops.softmax),
    ],
)
def test_the_last_layer_answers_through_the_link(link, k, y, mean):
    net = nn.mlp([2, 4, k], seed=0, dtype=np.float64)
    net.link = link
    seen = fl.inspect(net, X, np.array(y))
    np.testing.assert_allclose(seen[-1].A, mean(net(X)), rtol=1e-12)


def test_a_function_takes_the_link_that_it_declares_or_that_of_the_network():
    net = nn.mlp([2, 3], seed=0, dtype=np.float64)
    own = lambda z, y: ops.cross_entropy(z, y)
    np.testing.assert_array_equal(fl.inspect(net, X, Y, loss=own)[0].A, net(X))
    declared = ops.loss.loss(link="softmax")(lambda z, y: ops.cross_entropy(z, y))
    expected = ops.softmax(net(X))
    np.testing.assert_allclose(fl.inspect(net, X, Y, loss=declared)[0].A, expected)
    net.link = "softmax"
    np.testing.assert_allclose(fl.inspect(net, X, Y, loss=own)[0].A, expected)


def test_refusals():
    with pytest.raises(ValueError, match="inspect: the network does not know its loss yet"):
        fl.inspect(network(), X, Y)
    seen = fl.inspect(network(), X, Y, loss="cross_entropy")
    with pytest.raises(KeyError, match="no layer '7'; there are 0, 2"):
        seen["7"]
    with pytest.raises(AttributeError, match="there is no U"):
        _ = seen["0"].U
    assert "loss" in repr(seen) and "dW" in repr(seen)
