"""From outputs to predictions."""

from __future__ import annotations

import numpy as np
import pytest

from fallline import nn, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)


def net(k, link):
    made = nn.mlp([4, 8, k], seed=1)
    made.link = link
    return made


@pytest.mark.parametrize("batch_size", [1, 7, 50, 4096])
def test_pieces_make_the_whole(batch_size):
    made = net(3, "softmax")
    z = made(X)
    np.testing.assert_array_equal(made.predict(X, batch_size=batch_size), z.argmax(axis=1))
    found = made.predict_proba(X, batch_size=batch_size)
    np.testing.assert_allclose(found, ops.softmax(z), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_classes_have_names():
    made = net(3, "softmax")
    made.classes = ["cat", "dog", "emu"]
    index = made(X).argmax(axis=1)
    assert made.predict(X).tolist() == [["cat", "dog", "emu"][i] for i in index]
    made.classes = np.array([1, 5, 7])
    assert made.predict(X).dtype.kind == "i"
    made.classes = [1, 5]
    with pytest.raises(ValueError, match="net.classes has 2 entries, but an output says 2"):
        made.predict(X)


def test_one_logit():
    made = net(1, "sigmoid")
    z = made(X)[:, 0]
    np.testing.assert_array_equal(made.predict(X), (z > 0).astype(int))
    proba = made.predict_proba(X)
    assert proba.shape == (50, 2)
    np.testing.assert_allclose(proba[:, 1], ops.sigmoid(z), rtol=1e-5)
    made.classes = ["no", "yes"]
    assert set(made.predict(X)) == {"no", "yes"}


def test_several_logits():
    made = net(3, "sigmoid")
    np.testing.assert_array_equal(made.predict(X), (made(X) > 0).astype(int))
    np.testing.assert_allclose(made.predict_proba(X), ops.sigmoid(made(X)), rtol=1e-5)


def test_values():
    np.testing.assert_allclose(net(1, "identity").predict(X), net(1, None)(X)[:, 0], rtol=1e-5)
    assert net(2, "identity").predict(X).shape == (50, 2)
    np.testing.assert_allclose(net(1, "exp").predict(X), np.exp(net(1, None)(X)[:, 0]), rtol=1e-5)


def test_margins():
    np.testing.assert_array_equal(net(3, "margin").predict(X), net(3, None)(X).argmax(axis=1))
    np.testing.assert_array_equal(net(1, "margin").predict(X), net(1, None)(X)[:, 0] > 0)


def test_dropout_does_not_act():
    made = nn.mlp([4, 8, 3], dropout=0.9)
    made.link = "softmax"
    np.testing.assert_array_equal(made.predict(X), made(X).argmax(axis=1))


def test_trained_weights_are_seen_at_once():
    made = net(3, "softmax")
    made.predict(X)
    made.gather()[:] = 0
    made[2].b = [0, 1, 0]
    assert (made.predict(X) == 1).all()


def test_other_types_and_strides():
    made = net(3, "softmax")
    expected = made.predict_proba(X)
    for other in (X.astype(np.float64), np.asfortranarray(X), X[::-1][::-1]):
        found = made.predict_proba(other)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = np.arange(200, dtype=np.uint8).reshape(50, 4)
    np.testing.assert_array_equal(made.predict(whole), made.predict(whole.astype(np.float32)))
    assert made.predict(X[:0]).shape == (0,)


@pytest.mark.parametrize(
    "f, error, message",
    [
        (lambda: net(3, None).predict(X), RuntimeError, "because fit has not trained this network"),
        (lambda: net(3, "identity").predict_proba(X), TypeError, "are not probabilities"),
        (lambda: net(3, "softmax").predict(X[0]), ValueError, r"got \(4,\)\. Did you mean X\[None"),
        (lambda: net(3, "softmax").predict(X[:, :3]), ValueError, r"must have size 4; got shape"),
        *[
            (lambda n=n: net(3, "softmax").predict(X, batch_size=n), ValueError, sentence)
            for n, sentence in (
                (0, r"^predict: batch_size must be a whole number >= 1; got 0\.$"),
                (1.5, r"^predict: batch_size must be a whole number >= 1; got 1\.5\.$"),
                (True, r"batch_size must be a whole number >= 1; got True"),
            )
        ],
        (
            lambda: net(3, "softmax").predict(np.full((2, 4), None)),
            TypeError,
            r"^predict: X must hold real numbers; got object\. It holds None: fill what is missing",
        ),
        (
            lambda: net(3, "softmax").predict_proba(X.astype(object)),
            TypeError,
            r"^predict_proba: X must hold real numbers; got object\. Did you mean X\.astype\(float",
        ),
        (lambda: net(3, "softmax").predict(X.astype(str)), TypeError, "must hold real numbers"),
        (lambda: net(3, "softmax").predict(None), TypeError, "It holds None"),
        (
            lambda: net(3, "softmax").predict([[1, 2, 3, 4], [1, 2]]),
            ValueError,
            r"^predict: X must be an array of numbers; its rows differ in length\. Make them",
        ),
    ],
)
def test_refusals(f, error, message):
    with pytest.raises(error, match=message):
        f()


def test_a_batch_size_may_be_a_number_of_numpys():
    made = net(3, "softmax")
    np.testing.assert_array_equal(made.predict(X, batch_size=np.int64(7)), made.predict(X))
