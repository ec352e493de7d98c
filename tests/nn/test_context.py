"""What layers are told beside their input, and what they hand out; `inspect`."""

from __future__ import annotations

import numpy as np
import pytest

from fallline import nn, ops
from fallline.ops import philox
from fallline.ops.activation import softmax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
Y = np.array([0, 1, 2, 0, 1, 2])
KEY = philox.key(5)


class Own(nn.Module):
    """A network of the user's own, with a skip connection and a layer that runs twice."""

    def __init__(self):
        self.entry = nn.Linear(4, 5, seed=0, dtype=np.float64)
        self.inner = [nn.Linear(5, 5, seed=1, dtype=np.float64), nn.Dropout(0.5)]
        self.out = nn.Linear(5, 3, seed=2, dtype=np.float64)

    def __call__(self, x, *, ctx=None):
        h = np.tanh(self.entry(x, ctx=ctx))
        for _ in range(2):
            for layer in self.inner:
                h = h + layer(h, ctx=ctx)
        if ctx is not None:
            h = ctx.tap("before the end", h)
        return self.out(h, ctx=ctx)


# Paths.


def test_layers_find_their_paths():
    taps = nn.Taps()
    y = Own()(X, ctx=nn.Context(taps=taps))
    assert list(taps.outputs) == [
        *("entry", "inner.0", "inner.1", "inner.0#2", "inner.1#2", "out", "")
    ]
    np.testing.assert_array_equal(taps.outputs[""], y)
    np.testing.assert_array_equal(taps.inputs["entry"], X)
    np.testing.assert_array_equal(taps.inputs["out"], taps.named["before the end"])
    np.testing.assert_array_equal(y, Own()(X))  # looking changes nothing


def test_paths_in_networks_of_networks():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 3), ops.relu), end=nn.Linear(3, 2))
    taps = nn.Taps()
    net(X, ctx=nn.Context(taps=taps))
    assert list(taps.outputs) == ["0.0", "0.1", "0", "end", ""]
    assert {name.rsplit(".", 1)[0] for name, _ in net.named_parameters()} == {"0.0", "end"}


def test_a_path_of_ones_choice():
    class Named(Own):
        def __call__(self, x, *, ctx=None):
            return self.entry(x, ctx=ctx and ctx.at("first"))

    taps = nn.Taps()
    Named()(X, ctx=nn.Context(taps=taps))
    assert list(taps.outputs) == ["first", ""]


def test_super_keeps_the_path():
    class Loud(Own):
        def __call__(self, x, *, ctx=None):
            return 2 * super().__call__(x, ctx=ctx)

    taps = nn.Taps()
    y = Loud()(X, ctx=nn.Context(taps=taps))
    assert "entry" in taps.outputs
    np.testing.assert_array_equal(taps.outputs[""], y)


def test_sites_differ_and_stay():
    assert nn.Context(path="0").site != nn.Context(path="1").site
    assert nn.Context(path="0").site == 4108050209  # CRC-32: the same on every machine
    assert nn.Context().site == 0


def test_updates_are_handed_out_by_name():
    class Counter(nn.Module):
        def __init__(self):
            self.count = np.zeros(())

        def __call__(self, x, *, ctx=None):
            if ctx is not None:
                ctx.update("count", self.count + len(x))
            return x

    ctx = nn.Context("train")
    nn.Sequential(Counter(), ops.relu)(X, ctx=ctx)
    assert ctx.updates == {"0.count": 6}


def test_the_mode_has_two_values():
    with pytest.raises(ValueError, match='mode must be "train" or "eval"; got \'test\''):
        nn.Context("test")


# What would silently not train.


def test_a_module_that_takes_no_context():
    class Deaf(nn.Module):
        def __init__(self):
            self.drop = nn.Dropout(0.5)

        def __call__(self, x):
            return self.drop(x)

    Deaf()(X, ctx=nn.Context("eval"))
    with pytest.raises(TypeError, match=r"Deaf: drop \(Dropout\) was not told that it is being"):
        Deaf()(X, ctx=nn.Context("train", key=KEY))


def test_a_module_that_forgets_to_pass_it_on():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(4, 4), nn.Dropout(0.5)]

        def __call__(self, x, *, ctx=None):
            return self.layers[1](self.layers[0](x, ctx=ctx))

    with pytest.raises(TypeError, match=r"Forgetful: layers\.1 \(Dropout\) was not told"):
        Forgetful()(X, ctx=nn.Context("train", key=KEY))


# Backpropagation made visible.


def test_inspect_against_backpropagation_by_hand():
    net = nn.mlp([4, 5, 6, 3], dtype=np.float64, seed=1)
    seen = nn.inspect(net, X, Y, loss="cross_entropy")
    (w1, b1), (w2, b2), (w3, b3) = [(net[i].W, net[i].b) for i in (0, 2, 4)]
    z1 = X @ w1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ w2 + b2
    a2 = np.maximum(z2, 0)
    z3 = a2 @ w3 + b3
    p = np.exp(z3) / np.exp(z3).sum(axis=1, keepdims=True)
    v3 = (p - np.eye(3)[Y]) / 6
    v2 = (v3 @ w3.T) * (z2 > 0)
    v1 = (v2 @ w2.T) * (z1 > 0)
    expected = {
        "0": (z1, a1, v1, X.T @ v1, v1.sum(axis=0)),
        "2": (z2, a2, v2, a1.T @ v2, v2.sum(axis=0)),
        "4": (z3, p, v3, a2.T @ v3, v3.sum(axis=0)),
    }
    assert [layer.name for layer in seen] == list(expected)
    for name, arrays in expected.items():
        layer = seen[name]
        found = (layer.Z, layer.A, layer.V, layer.W, layer.b)
        for a, b in zip(found, arrays, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert seen.loss == pytest.approx(-np.log(p[np.arange(6), Y]).mean())
    assert seen[-1] is seen["4"]


def test_inspect_a_network_of_ones_own():
    net = Own()
    net.link = "softmax"
    seen = nn.inspect(net, X, Y)  # the loss that goes with the link
    assert [layer.name for layer in seen] == ["entry", "inner.0", "inner.0#2", "out"]
    np.testing.assert_allclose(seen["entry"].A, np.tanh(seen["entry"].Z))
    np.testing.assert_allclose(seen["out"].A, softmax(seen["out"].Z))
    np.testing.assert_allclose(seen["out"].W, seen.named["before the end"].T @ seen["out"].V)
    twice = seen["inner.0"], seen["inner.0#2"]
    by_both = seen["entry"].A.T @ twice[0].V + twice[0].A.T @ twice[1].V
    # between the two uses stand the skip and a dropout that infers: h + h
    assert by_both.shape == twice[0].W.shape
    np.testing.assert_array_equal(twice[0].W, twice[1].W)
    assert list(seen.named) == ["before the end"]


def test_inspect_a_block_that_runs_twice():
    class Shared(nn.Module):
        def __init__(self):
            self.block = nn.Sequential(nn.Linear(4, 4, seed=0), ops.tanh)

        def __call__(self, x, *, ctx=None):
            return self.block(self.block(x, ctx=ctx), ctx=ctx)

    seen = nn.inspect(Shared(), X, X, loss="squared_error")
    assert [layer.name for layer in seen] == ["block.0", "block#2.0"]
    np.testing.assert_allclose(seen[0].A, np.tanh(seen[0].Z), rtol=1e-5)
    total = X.T @ seen[0].V + seen[0].A.T @ seen[1].V
    np.testing.assert_allclose(seen[0].W, total, rtol=1e-4, atol=1e-6)


def test_inspect_dropout_at_work():
    net = nn.mlp([4, 50, 3], dropout=0.5)
    seen = nn.inspect(net, X, Y, loss="cross_entropy", mode="train", key=KEY)
    assert 0.6 < (seen["0"].A == 0).mean() < 0.9
    assert (nn.inspect(net, X, Y, loss="cross_entropy")["0"].A == 0).mean() < 0.65


def test_inspection_in_words():
    seen = nn.inspect(nn.mlp([4, 5, 3]), X, Y, loss="cross_entropy")
    lines = repr(seen).splitlines()
    assert lines[0].startswith("loss ")
    assert lines[1].split() == ["layer", "array", "shape", "mean", "std", "norm"]
    assert [line.split()[:3] for line in lines[2:7]] == [
        *(["0", "Z", "6x5"], ["0", "A", "6x5"], ["0", "V", "6x5"]),
        *(["0", "dW", "4x5"], ["0", "db", "5"]),
    ]
    with pytest.raises(KeyError, match="no layer '1'; there are 0, 2"):
        seen["1"]
    with pytest.raises(AttributeError, match="0: there is no c"):
        seen[0].c  # noqa: B018


def test_inspect_needs_a_loss():
    with pytest.raises(ValueError, match='does not know its loss yet; pass loss="cross_entropy"'):
        nn.inspect(nn.mlp([4, 3]), X, Y)
