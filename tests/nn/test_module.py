"""Modules as trees, as one flat vector, and as objects that one may change and print."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops
from fallline.core import tree
from fallline.core.errors import TracingError
from fallline.core.spec import array_spec
from fallline.ops import philox


class Residual(nn.Module):
    """A user's own network: an __init__, a list of layers, a bare array, settings."""

    def __init__(self, n, depth=2, scale=0.5):
        self.scale = scale
        self.entry = nn.Linear(4, n, seed=0)
        self.blocks = [nn.Linear(n, n, seed=i + 1) for i in range(depth)] + [ops.tanh]
        self.gain = np.ones(n, np.float32)
        self.out = nn.Linear(n, 2, seed=9)

    def __call__(self, x, *, ctx=None):
        h = self.entry(x, ctx=ctx)
        for block in self.blocks:
            h = h + self.scale * block(h, ctx=ctx)
        return self.out(h * self.gain, ctx=ctx)

    def reset(self, key):
        self.gain = philox.uniform(key, self.gain.shape)


class Pair(nn.Module):
    """A dataclass: fields declared, no __init__."""

    left: np.ndarray
    right: np.ndarray
    how: str = "sum"

    def __call__(self, x, *, ctx=None):
        return x * self.left + self.right


X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


# Trees.


def test_arrays_are_leaves_and_settings_are_structure():
    net = Residual(3)
    names = [name for name, _ in net.named_parameters()]
    assert names == [
        *("entry.W", "entry.b", "blocks.0.W", "blocks.0.b", "blocks.1.W", "blocks.1.b"),
        *("gain", "out.W", "out.b"),
    ]
    assert net.n_parameters == 15 + 12 + 12 + 3 + 8
    assert [path for path, _ in net.modules()] == [
        *("", "entry", "blocks.0", "blocks.1", "blocks.2", "out")
    ]
    assert tree.structure(net) == tree.structure(Residual(7))
    assert hash(tree.structure(net)) == hash(tree.structure(Residual(7)))
    assert tree.structure(net) != tree.structure(Residual(3, scale=1.0))
    assert tree.structure(net) != tree.structure(Residual(3, depth=3))


def test_settings_compare_by_value_and_type():
    form = lambda **how: tree.structure(Pair(1 * np.ones(2), np.ones(2), **how))
    assert form(how=[1, {"a": (2, 3)}]) == form(how=[1, {"a": (2, 3)}])
    assert form(how=1) != form(how=1.0)
    assert form(how=1) != form(how=True)
    with pytest.raises(TypeError, match="Pair: how holds a Thing, which cannot be a setting"):
        form(how=type("Thing", (), {"__hash__": None})())


@pytest.mark.parametrize("leaf", [3, 2.5, None, "x", (1, 2), np.float32(1), array_spec((2,), "f4")])
def test_a_mapped_tree_keeps_its_structure_whatever_its_leaves_are(leaf):
    net = Residual(3)
    leaves, structure = tree.flatten(net)
    other = tree.unflatten(structure, [leaf] * len(leaves))
    assert type(other) is Residual
    assert other.entry.W is leaf
    assert other.scale == 0.5
    if not isinstance(leaf, (tuple, type(None))):  # these are trees themselves
        assert tree.flatten(other)[0] == [leaf] * len(leaves)
        assert tree.structure(other) == structure


def test_link_and_classes_travel_but_make_no_difference():
    net, other = Residual(3), Residual(3)
    net.link, net.classes = "softmax", ["no", "yes"]
    assert tree.structure(net) == tree.structure(other)
    for same in (tree.tree_map(lambda a: 2 * a, net), net.copy(), pickle.loads(pickle.dumps(net))):
        assert same.link == "softmax"
        assert same.classes.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match="link must be one of softmax, .* or None; got 'soft'"):
        net.link = "soft"


def test_gradients_and_compilation_take_a_module():
    net = Residual(3)
    f = lambda net, x: np.sum(net(x) ** 2)
    eager, compiled = fl.grad(f)(net, X), fl.compile(fl.grad(f))(net, X)
    assert type(eager) is type(compiled) is Residual
    for a, b in zip(tree.leaves(eager), tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * abs(a).max())  # sums in another order


def test_a_declared_module_gets_an_init():
    pair = Pair(np.ones(3), right=np.zeros(3))
    np.testing.assert_array_equal(pair(np.full(3, 2.0)), [2, 2, 2])

    class Wide(nn.Linear):  # keeps the __init__ that it inherits
        pass

    assert Wide(2, 3, seed=0)(np.ones((1, 2))).shape == (1, 3)


def test_a_module_without_call():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty: it cannot be called. Write def __call__"):
        Empty()(X)


def test_functions_among_layers_become_layers():
    net = Residual(3)
    assert isinstance(net.blocks[2], nn.Activation)
    with pytest.raises(TypeError, match="Residual: blocks holds parameters and also 3. Keep"):
        net.blocks = [nn.Linear(2, 2), 3]


# Assignment.


def test_assigning_an_array_writes_into_the_one_that_is_there():
    net = Residual(3)
    flat = net.gather()
    before = net.entry.W
    net.entry.W = np.arange(12.0).reshape(4, 3)  # float64 into float32
    net.entry.b += 1
    net.gain = [1, 2, 3]
    assert net.entry.W is before
    np.testing.assert_array_equal(flat[:15], [*range(12), 1, 1, 1])
    assert net.gain.tolist() == [1, 2, 3]
    assert net.gather() is flat


def test_what_cannot_be_assigned():
    net = nn.Linear(4, 3, seed=0)
    with pytest.raises(ValueError, match=r"Linear: W must have shape \(4, 3\); got \(3, 4\)\. Did"):
        net.W = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"got \(\)\. Did you mean b\[\.\.\.\] = 0\?"):
        net.b = 0
    with pytest.raises(TypeError, match="holds float32; got complex128"):
        net.b = np.zeros(3, complex)

    def stores(w):
        net.W = w
        return np.sum(w)

    with pytest.raises(TracingError, match="Linear: W of a network cannot be set to a traced"):
        fl.grad(stores)(np.zeros((4, 3)))


def test_inside_a_transformation_a_copy_may_be_changed():
    def f(net):
        net.W = net.W * 2  # net is made of tracers here
        return np.sum(net(X) ** 2)

    net = nn.Linear(4, 3, seed=0, dtype=np.float64)
    g = fl.grad(f)(net)
    np.testing.assert_allclose(g.W, 8 * X.T.astype(float) @ X @ net.W, rtol=1e-6)


def test_a_bias_may_be_dropped():
    net = nn.Linear(4, 3, seed=0)
    net.gather()
    net.b = None
    assert net.n_parameters == 12
    assert net.gather().size == 12


# One vector.


def test_gather_makes_views_and_is_idempotent():
    net = Residual(3)
    expected = np.concatenate([a.ravel() for _, a in net.named_parameters()])
    y = net(X)
    flat = net.gather()
    np.testing.assert_array_equal(flat, expected)
    np.testing.assert_array_equal(net(X), y)
    assert net.gather() is flat
    assert flat.ctypes.data % 64 == 0
    flat[:] = 0
    assert not net(X).any()
    assert all(np.shares_memory(a, flat) for a in tree.leaves(net))


def test_a_part_of_a_gathered_network_is_a_slice():
    net = Residual(3)
    flat = net.gather()
    part = net.blocks[0].gather()
    assert part.size == 12
    assert np.shares_memory(part, flat)
    assert net.gather() is flat  # not torn apart
    part[:] = 7
    assert (flat[15:27] == 7).all()


def test_gather_after_a_layer_was_replaced():
    net = Residual(3)
    first = net.gather()
    net.out = nn.Linear(3, 5, seed=4)
    second = net.gather()
    assert second is not first
    assert second.size == net.n_parameters
    np.testing.assert_array_equal(second[:42], first[:42])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gather_keeps_types_and_shapes(dtype):
    net = Pair(np.array(2, dtype), np.ones((2, 0), dtype))  # 0-d, and empty
    flat = net.gather()
    assert (flat.dtype, flat.shape) == (dtype, (1,))
    assert (net.left.shape, net.right.shape) == ((), (2, 0))
    flat[0] = 5
    assert net.left == 5


def test_a_network_without_parameters():
    net = nn.Sequential(ops.relu)
    assert net.gather().shape == (0,)
    assert net.n_parameters == 0


def test_gather_never_takes_over_memory_of_the_user():
    mine = np.arange(6.0)
    net = Pair(mine[:2], mine[2:])
    net.gather()[:] = 0
    assert mine.tolist() == [0, 1, 2, 3, 4, 5]
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert Pair(frozen, np.ones(3)).gather().flags.writeable


def test_what_cannot_be_gathered():
    one = np.ones(2)
    with pytest.raises(ValueError, match="gather: left and right of Pair are one array"):
        Pair(one, one).gather()
    with pytest.raises(TypeError, match="must have one type; got left float64, right float32"):
        Pair(one, np.ones(2, np.float32)).gather()
    with pytest.raises(TypeError, match="right of Pair must be of a float type .* got int64"):
        Pair(one, np.ones(2, int)).gather()


# Copies.


@pytest.mark.parametrize(
    "copied", [nn.Module.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_are_equal_and_apart(copied):
    net = Residual(3)
    flat = net.gather()
    other = copied(net)
    np.testing.assert_array_equal(other.gather(), flat)
    other.gather()[:] = 0
    assert flat.any()
    assert net.gather() is flat


# Drawing anew.


def test_init_depends_on_the_seed_and_the_path_alone():
    net, other = Residual(3), Residual(3)
    other.entry.W = 7 * np.ones((4, 3))
    flat = net.gather()
    for seed in (0, 1):
        np.testing.assert_array_equal(net.init(seed).gather(), other.init(seed).gather())
    assert net.gather() is flat  # in place
    one = net.init(1).gather().copy()
    assert (one != net.init(2).gather()).sum() > 30
    deeper = Residual(3, depth=4).init(2)
    np.testing.assert_array_equal(deeper.blocks[1].W, net.blocks[1].W)
    assert not np.array_equal(deeper.blocks[1].W, deeper.blocks[0].W)


def test_init_of_a_layer_that_does_not_say_how():
    with pytest.raises(TypeError, match=r"Pair holds arrays \(left, right\) and does not say how"):
        Pair(np.ones(2), np.ones(2)).init(0)


# In words.


def test_repr():
    net = Residual(12)
    net.link = "softmax"
    assert repr(net).splitlines() == [
        "Residual  scale=0.5  gain (12), 410 parameters, link softmax",
        "  entry     Linear  4 -> 12   W (4, 12)   b (12)   60",
        "  blocks.0  Linear  12 -> 12  W (12, 12)  b (12)  156",
        "  blocks.1  Linear  12 -> 12  W (12, 12)  b (12)  156",
        "  blocks.2  tanh",
        "  out       Linear  12 -> 2   W (12, 2)   b (2)    26",
    ]


def test_repr_of_networks_in_networks():
    inner = nn.Sequential(nn.Linear(2, 3), ops.relu)
    net = nn.Sequential(inner, nn.Dropout(0.2), nn.Linear(3, 1, bias=False))
    assert repr(net).splitlines() == [
        "Sequential, 12 parameters",
        "  0    Sequential",
        "    0  Linear      2 -> 3    W (2, 3)  b (3)  9",
        "    1  relu",
        "  1    Dropout     rate=0.2",
        "  2    Linear      3 -> 1    W (3, 1)         3",
    ]
    assert repr(inner[0]) == "Linear  2 -> 3  W (2, 3)  b (3), 9 parameters"
    assert "W (2, 3)" in repr(tree.tree_map(lambda a: array_spec(a.shape, a.dtype), net))
