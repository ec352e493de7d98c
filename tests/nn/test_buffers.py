"""Arrays that a network keeps but does not train."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops, optim
from fallline.core import tree
from fallline.testing import check_gradients

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


class Centred(nn.Module):
    """A user's own layer: a parameter between two buffers, and a layer that has some too."""

    buffers = ("centre", "count")

    def __init__(self, n):
        self.centre = np.zeros(n, np.float32)
        self.scale = np.ones(n, np.float32)
        self.norm = nn.BatchNorm(n)
        self.count = np.zeros((), np.float32)

    def __call__(self, x, *, ctx=None):
        if ctx is not None and ctx.training:
            ctx.update("centre", np.mean(x, axis=0))
            ctx.update("count", self.count + 1)
        return self.norm((x - self.centre) * self.scale, ctx=ctx)

    def reset(self, key):
        self.scale = np.ones_like(self.scale)


def network():
    return nn.Sequential(nn.Linear(4, 3, seed=0), Centred(3), out=nn.Linear(3, 2, seed=1))


BUFFERS = ["1.centre", "1.norm.running_mean", "1.norm.running_var", "1.count"]


def test_they_are_no_parameters():
    net = network()
    assert [name for name, _ in net.named_buffers()] == BUFFERS
    names = [name for name, _ in net.named_parameters()]
    assert names == ["0.W", "0.b", "1.scale", "1.norm.gamma", "1.norm.beta", "out.W", "out.b"]
    assert net.n_parameters == net.gather().size == 15 + 3 + 6 + 8
    assert len(tree.leaves(net)) == 7
    assert len(tree.leaves(net, whole=True)) == 11
    assert "count" not in repr(net)


def test_the_whole_tree_has_them_in_the_order_of_the_fields():
    names = [name for name, _ in tree.named_leaves(Centred(3), whole=True)]
    assert names == ["centre", "scale", "norm.gamma", "norm.beta", *names[4:]]
    assert names[4:] == ["norm.running_mean", "norm.running_var", "count"]
    back = tree.tree_map(lambda a: a, network())  # also after a round trip without them
    whole = [name for name, _ in tree.named_leaves(back, whole=True)]
    assert whole == [name for name, _ in tree.named_leaves(network(), whole=True)]


def test_they_travel_with_the_structure_and_make_no_difference_there():
    net, other = network(), network()
    other[1].centre = [1.0, 2.0, 3.0]
    assert tree.structure(net) == tree.structure(other)
    assert hash(tree.structure(net)) == hash(tree.structure(other))
    doubled = tree.tree_map(lambda a: 2 * a, other)
    assert doubled[1].centre is other[1].centre
    assert tree.tree_map(lambda a, b: a + b, net, other)[1].centre is net[1].centre


def test_a_copy_has_its_own():
    net = network()
    for same in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        same[1].centre = [1.0, 2.0, 3.0]
        assert (net[1].centre == 0).all()
        assert [name for name, _ in same.named_buffers()] == BUFFERS


def test_derivatives_and_optimizers_pass_them_by():
    net = network()
    net[1].norm.running_var = [2.0, 3.0, 4.0]
    loss = lambda net: np.sum(net(X) ** 2)
    gradient = fl.grad(loss)(net)
    assert [name for name, _ in gradient.named_parameters()] == [
        name for name, _ in net.named_parameters()
    ]
    optimizer = optim.adamw(lr=0.1, wd=0.5)
    state = optimizer.init(net)
    new, state, _ = optimizer.step(fl.value_and_grad(loss), net, state, t=1)
    assert not np.array_equal(new[0].W, net[0].W)
    for (_, a), (_, b) in zip(new.named_buffers(), net.named_buffers(), strict=True):
        np.testing.assert_array_equal(a, b)
    check_gradients(lambda net: np.tanh(net(X)), network(), order=1, compiled=False, tolerance=1e-4)


def test_they_are_inputs_of_what_is_compiled():
    net = network()
    f = fl.compile(lambda net, x: net(x))
    for value in (0.0, 1.0):
        net[1].centre = np.full(3, value)
        np.testing.assert_allclose(f(net, X), net(X), rtol=1e-5, atol=1e-6)
    assert len(f._plans) == 1
    gradient = fl.compile(fl.grad(lambda net, x: np.sum(net(x) ** 2)))(net, X)
    np.testing.assert_array_equal(gradient[1].centre, net[1].centre)


def test_predictions_see_their_present_values():
    net, other = network(), network()
    net.link = other.link = "softmax"
    other[1].centre = [1.0, -1.0, 2.0]
    for one in (net, other, net):  # of one architecture: they share plans, not values
        np.testing.assert_allclose(one.predict_proba(X), ops.softmax(one(X)), rtol=1e-5)
    net[1].centre = [3.0, 2.0, 1.0]
    np.testing.assert_allclose(net.predict_proba(X), ops.softmax(net(X)), rtol=1e-5)


def test_gathered_they_are_one_vector():
    net = network()
    net[1].centre = [1.0, 2.0, 3.0]
    params, buffers = net.gather(), net.gather_buffers()
    assert buffers.tolist() == [1, 2, 3, 0, 0, 0, 1, 1, 1, 0]
    assert net.gather_buffers() is buffers
    buffers[-1] = 7
    assert net[1].count == 7
    net[1].norm.running_var = [4.0, 5.0, 6.0]
    assert buffers[6:9].tolist() == [4, 5, 6]
    assert net.gather() is params  # neither call undoes the other
    assert nn.mlp([2, 1]).gather_buffers().size == 0


def test_set_buffers():
    net, ctx = network(), nn.Context("train")
    hidden = net[0](X)
    net(X, ctx=ctx)
    assert sorted(ctx.updates) == sorted(BUFFERS)
    net.set_buffers(ctx.updates)
    np.testing.assert_allclose(net[1].centre, hidden.mean(0), rtol=1e-5, atol=1e-6)
    assert net[1].count == 1
    with pytest.raises(KeyError, match=r"no buffer 1\.center\. Did you mean 1\.centre"):
        net.set_buffers({"1.center": np.zeros(3)})
    with pytest.raises(ValueError, match=r"1\.centre must have shape \(3,\); got \(2,\)"):
        net.set_buffers({"1.centre": np.zeros(2)})


def test_files_have_them(tmp_path):
    net = network()
    net[1].centre, net[1].norm.running_mean = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    nn.save(net, tmp_path / "net")
    back = nn.load(tmp_path / "net", classes={"Centred": Centred})
    assert [name for name, _ in back.named_buffers()] == BUFFERS
    np.testing.assert_array_equal(back(X), net(X))
    assert back.n_parameters == net.n_parameters
