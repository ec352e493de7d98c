"""What `fit` makes of losses, labels and data, and what it refuses with which sentence."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline import data, nn, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 3
ONE = (X[:, 0] > 0).astype(int)
SIGNS = 2 * ONE - 1
NAMES = np.array(["cat", "dog", "emu"])[Y]


def own(z, t):
    return ops.cross_entropy(z, t)


def trained(k, y, loss="cross_entropy", **more):
    net = nn.mlp([5, k], seed=0)
    history = fl.fit(net, (X, y), loss=loss, epochs=2, progress=False, **more)
    return net, history.epochs[-1]


# Links.


def test_a_function_of_labels_is_taken_for_softmax():
    net, row = trained(3, Y, own, validation=(X, Y))
    same, expected = trained(3, Y, validation=(X, Y))
    assert net.link == "softmax" and row["val_accuracy"] == expected["val_accuracy"]
    np.testing.assert_array_equal(net.gather(), same.gather())
    np.testing.assert_array_equal(net.predict(X), same.predict(X))


def test_a_function_of_values_is_taken_for_identity():
    net, row = trained(1, Y * 0.5, lambda z, t: np.abs(z[:, 0] - t), validation=(X, Y * 0.5))
    assert net.link == "identity" and "val_accuracy" not in row
    assert trained(3, np.eye(3)[Y], own)[0].link == "identity"  # rows of numbers may be anything


def test_a_link_is_asked_for_declared_or_known_already():
    assert trained(3, np.eye(3)[Y], own, link="softmax")[0].link == "softmax"

    @ops.loss.loss(link="margin")
    def perceptron(z, t):
        return np.maximum(0, -t * z[:, 0])

    net, _ = trained(1, SIGNS, perceptron, validation=(X, SIGNS))
    assert net.link == "margin" and set(net.predict(X)) <= {-1, 1}
    net = nn.mlp([5, 1], seed=0)
    net.link = "sigmoid"
    fl.fit(net, (X, ONE), loss=lambda z, t: (z[:, 0] - t) ** 2, epochs=1, progress=False)
    assert net.link == "sigmoid"


# Labels.


@pytest.mark.parametrize(
    ("k", "y", "loss", "classes"),
    [
        (3, Y, "cross_entropy", None),
        (3, Y + 1, "cross_entropy", [1, 2, 3]),
        (3, Y * 10.0 - 10, "cross_entropy", [-10, 0, 10]),
        (3, NAMES, "cross_entropy", ["cat", "dog", "emu"]),
        (3, NAMES.astype(object), "cross_entropy", ["cat", "dog", "emu"]),
        (3, NAMES, "hinge", ["cat", "dog", "emu"]),
        (3, NAMES, own, ["cat", "dog", "emu"]),
        (1, ONE, "hinge", None),
        (1, SIGNS, "hinge", [-1, 1]),
        (1, np.where(ONE, "yes", "no"), "hinge", ["no", "yes"]),
        (1, np.where(ONE, "yes", "no"), "binary_cross_entropy", ["no", "yes"]),
        (2, SIGNS, "cross_entropy", [-1, 1]),
    ],
)
def test_predictions_are_labels_of_the_users(k, y, loss, classes):
    net, row = trained(k, y, loss, validation=(X, y))
    found = net.predict(X)
    assert (None if net.classes is None else net.classes.tolist()) == classes
    assert set(found.tolist()) <= set(y.tolist())
    assert row["val_accuracy"] == pytest.approx((found == y).mean())
    fl.fit(net, (X[:20], y[:20]), loss=loss, epochs=1, progress=False)  # they are remembered
    assert (None if net.classes is None else net.classes.tolist()) == classes


def test_names_that_the_network_has_already():
    net = nn.mlp([5, 3], seed=0)
    net.classes = ["emu", "dog", "cat"]
    fl.fit(net, (X, Y), epochs=1, progress=False)
    assert net.classes.tolist() == ["emu", "dog", "cat"]
    two = Y < 2  # no emu among them
    fl.fit(net, (X[two], NAMES[two]), epochs=1, progress=False)
    assert net.classes.tolist() == ["emu", "dog", "cat"]


def test_rows_and_labels_may_meet():
    rows = np.eye(3)[Y]
    for y, held in ((rows, Y), (Y, rows)):
        net, row = trained(3, y, validation=(X, held))
        assert row["val_accuracy"] == pytest.approx((net.predict(X) == Y).mean())


def test_weights_of_named_classes():
    net, _ = trained(3, NAMES, class_weight={"cat": 2.0, "emu": 0.5})
    other, _ = trained(3, Y, class_weight={0: 2.0, 2: 0.5})
    np.testing.assert_array_equal(net.gather(), other.gather())


# What is refused.

REFUSED = [
    (3, Y + 7, {"validation": (X, Y + 8)}, r"validation y must hold the labels .*; got 10\."),
    (3, Y, {"validation": (X, Y + 1)}, r"validation y must be in \[0, 3\).*; got 3\. Do they"),
    (3, NAMES, {"validation": (X, np.where(Y, NAMES, "fox"))}, r"'cat', 'dog', 'emu'; got 'fox'"),
    (4, np.where(Y, Y + 2, 1), {}, r"labels must be in \[0, 4\).*; got 4\. Do they count from 1\?"),
    (2, Y, {}, r"labels must be in \[0, 2\).*; got 2\. Did you mean a last layer of 3 units\?"),
    (2, NAMES, {}, r"3 different labels, .* tells 2 apart\. Did you mean a last layer of 3"),
    (3, np.ones((60, 3)), {}, r"refuses the training targets: .* must sum to 1; row 0 sums to 3"),
    (1, SIGNS, {"loss": "binary_cross_entropy"}, r"training targets: .* in \[0, 1\]; got -1\."),
    (
        1,
        ONE,
        {"loss": "binary_cross_entropy", "validation": (X, SIGNS)},
        r"validation targets: binary_cross_entropy: targets must be in \[0, 1\]; got -1\.",
    ),
    (1, -1.0 * Y, {"loss": "poisson"}, r"training targets: poisson: targets must be at least 0"),
    (2, Y * 1.0, {"loss": "squared_error"}, r"must have one shape; got \(60, 2\) and \(60,\)"),
    (1, Y * 1.0, {"loss": lambda z, t: (z - t) ** 2}, r"one value per example, .* \(60, 60\)"),
    (1, Y * 1.0, {"loss": lambda z, t: np.mean(z)}, r"got shape \(\)\. Leave the mean to fit"),
    (3, Y, {"link": "softmx"}, "link: there is none called 'softmx'. Did you mean softmax"),
    (3, Y, {"validation": 0.2}, r"validation data must be a pair .* fl\.data\.split"),
    (3, Y, {"batch_size": 61, "drop_last": True}, "fit: batch_size must be at most n = 60"),
    (3, Y, {"seed": -1}, "fit: seed must be a whole number >= 0; got -1"),
    (3, Y[:5], {}, "fit: X and y must have equally many rows; got 60 and 5"),
    (3, np.ma.masked_array(Y), {}, "fit: y must not be masked"),
    (3, np.array([1, "a"] * 30, object), {}, "fit: y must hold whole numbers or names"),
]


@pytest.mark.parametrize(("k", "y", "more", "message"), REFUSED)
def test_refusals(k, y, more, message):
    net = nn.mlp([5, k], seed=0)
    before = net.gather().copy()
    with pytest.raises((ValueError, TypeError), match=message):
        fl.fit(net, (X, y), epochs=1, progress=False, **more)
    assert net.link is None and np.array_equal(net.gather(), before)


def test_data_that_are_no_pair():
    for given, message in ((X, "got ndarray"), (data.digits(), r"Dataset\. Did you mean \.train")):
        with pytest.raises(TypeError, match=rf"fit: data must be a pair \(X, y\); .*{message}"):
            fl.fit(nn.mlp([5, 3]), given, progress=False)
    fl.fit(nn.mlp([5, 3]), [X, Y], epochs=1, progress=False)


def test_one_callback_needs_no_list():
    history = trained(3, Y, callbacks=lambda trainer, history: True)[1]
    assert history["epoch"] == 1


def test_bytes_stay_bytes():
    B = RNG.integers(0, 256, (60, 5), dtype=np.uint8)
    seen = []
    nets = [nn.mlp([5, 3], seed=0) for _ in range(2)]
    for net, x in zip(nets, (B, B.astype(np.float32)), strict=True):
        look = lambda trainer, history: seen.append((trainer.X, history.epochs[-1]))
        settings = {"epochs": 1, "optimizer": fl.optim.sgd(lr=1e-5), "progress": False}
        fl.fit(net, (x, Y), validation=(x, Y), callbacks=look, **settings)
    assert np.shares_memory(seen[0][0], B) and seen[1][0].dtype == np.float32
    assert seen[0][1]["val_loss"] == seen[1][1]["val_loss"]
    np.testing.assert_array_equal(nets[0].gather(), nets[1].gather())
    np.testing.assert_array_equal(nets[0].predict(B), nets[1].predict(B))
