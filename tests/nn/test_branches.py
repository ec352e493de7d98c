"""Residual connections and joined branches."""

from __future__ import annotations

import numpy as np
import pytest

from fallline import nn, ops
from fallline.core import tree
from fallline.testing import check_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2, 5, 4))


def conv(n_in, n_out, **settings):
    return nn.Conv2d(n_in, n_out, 3, padding=1, seed=n_out, dtype=np.float64, **settings)


def test_residual_is_a_sum():
    body, around = conv(2, 3, stride=2), nn.Conv2d(2, 3, 1, stride=2, dtype=np.float64)
    np.testing.assert_array_equal(nn.Residual(conv(2, 2))(X), conv(2, 2)(X) + X)
    np.testing.assert_array_equal(nn.Residual(body, around)(X), body(X) + around(X))
    net = nn.Residual(body, around, activation=ops.relu)
    np.testing.assert_array_equal(net(X), ops.relu(body(X) + around(X)))
    np.testing.assert_array_equal(nn.Residual(np.tanh, lambda x: 2 * x)(X), np.tanh(X) + 2 * X)


def test_concat_joins_channels():
    a, b = conv(2, 3), conv(2, 1)
    joined = nn.Concat(a, b, ops.relu)(X)
    np.testing.assert_array_equal(joined, np.concatenate([a(X), b(X), ops.relu(X)], axis=1))
    dense = nn.Concat(a, keep_input=True)(X)
    np.testing.assert_array_equal(dense, np.concatenate([X, a(X)], axis=1))
    np.testing.assert_array_equal(nn.Concat(a)(X), a(X))


def test_what_is_inside_knows_where_it_is_and_that_it_trains():
    net = nn.Sequential(
        nn.Residual(nn.Sequential(conv(2, 2), nn.BatchNorm(2)), nn.BatchNorm(2)),
        nn.Concat(nn.BatchNorm(2), nn.Dropout(0.5), keep_input=True),
    )
    ctx = nn.Context("train", key=fl_key())
    net(X, ctx=ctx)
    homes = {name.rpartition(".")[0] for name in ctx.updates}
    assert homes == {"0.body.1", "0.shortcut", "1.branches.0"}
    assert {name.rpartition(".")[0] for name, _ in net.named_buffers()} == homes


def fl_key():
    return ops.random.key(1)


def test_gradients():
    net = nn.Sequential(
        nn.Residual(conv(2, 2), activation=np.tanh), nn.Concat(conv(2, 1), keep_input=True)
    )
    check_gradients(lambda net, x: net(x) ** 2, net, X[:1, :, :3, :3], order=1)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: nn.Residual(conv(2, 3))(X),
            ValueError,
            r"the body makes \(3, 3, 5, 4\) of \(3, 2, 5, 4\), the way around it .*\. A",
        ),
        (
            lambda: nn.Residual(conv(2, 3), conv(2, 3, stride=2))(X),
            ValueError,
            r"the way around it \(3, 3, 3, 2\)\.$",
        ),
        (lambda: nn.Residual(3), TypeError, "Residual: a layer is a module or a function; got 3"),
        (lambda: nn.Residual(conv(2, 2), nn.Dropout), TypeError, r"Did you mean Dropout\(\.\.\.\)"),
        (lambda: nn.Concat(), ValueError, "Concat: needs at least one branch"),
        (
            lambda: nn.Concat(conv(2, 3), conv(2, 3, stride=2))(X),
            ValueError,
            r"may differ in the channels only; got \(3, 3, 5, 4\), \(3, 3, 3, 2\)",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_trees_and_tables():
    net = nn.Residual(conv(2, 3), nn.Conv2d(2, 3, 1, seed=0), activation=ops.relu)
    names = [name for name, _ in net.named_parameters()]
    assert names == ["body.W", "body.b", "shortcut.W", "shortcut.b"]
    assert tree.structure(net) == tree.structure(net.copy())
    assert "shortcut    Conv2d  2 -> 3, 1 x 1" in repr(net)
    assert "shortcut" not in repr(nn.Residual(conv(2, 2)))
