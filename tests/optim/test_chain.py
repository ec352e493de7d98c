"""Transforms, and chains of them with a rule."""

import numpy as np
import pytest

from fallline import optim
from fallline.core.spec import array_spec

TREE = {"W": np.array([[3.0, 0.0]]), "b": np.array([4.0])}


def clipped(transform, grads, lr=1.0):
    """What a transform makes of a gradient."""
    zeros = {k: np.zeros_like(g) for k, g in grads.items()}
    new, _ = optim.chain(transform, optim.sgd(lr=lr)).update(grads, zeros, {}, t=1)
    return {k: -x for k, x in new.items()}


def test_clip_value():
    found = clipped(optim.clip_value(2.0), {"a": np.array([-9.0, -1.0, 0.0, 2.0, np.inf, np.nan])})
    np.testing.assert_array_equal(found["a"], [-2, -1, 0, 2, 2, np.nan])


def test_clip_norm_is_over_all_parameters():
    found = clipped(optim.clip_norm(1.0), TREE)
    np.testing.assert_allclose(found["W"], [[0.6, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(found["b"], [0.8], rtol=1e-15)


def test_clip_tensor_norm_is_for_each_array():
    found = clipped(optim.clip_tensor_norm(1.0), TREE)
    np.testing.assert_allclose(found["W"], [[1.0, 0.0]])
    np.testing.assert_allclose(found["b"], [1.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_norm_is_exact_at_the_bound(dtype):
    tree = {k: g.astype(dtype) for k, g in TREE.items()}
    for bound in (5.0, 5.1, 1e30):
        found = clipped(optim.clip_norm(bound), tree)
        for k in tree:
            np.testing.assert_array_equal(found[k], tree[k])
            assert found[k].dtype == dtype


def test_clip_norm_of_nothing_is_nothing():
    found = clipped(optim.clip_norm(1.0), {"a": np.zeros(3)})
    np.testing.assert_array_equal(found["a"], 0)


def test_clip_norm_lets_nan_through():
    found = clipped(optim.clip_norm(1.0), {"a": np.array([np.nan, 1.0])})
    assert np.isnan(found["a"]).all()


def test_decays():
    g, p = np.array([0.5, 0.5]), np.array([2.0, -4.0])
    decoupled = optim.chain(optim.decay(0.1), optim.sgd(lr=0.5))
    np.testing.assert_allclose(decoupled.update(g, p, {}, t=1)[0], p - 0.5 * 0.1 * p - 0.5 * g)
    coupled = optim.chain(optim.decay(0.1, coupled=True), optim.sgd(lr=0.5))
    np.testing.assert_allclose(coupled.update(g, p, {}, t=1)[0], p - 0.5 * (g + 0.1 * p))
    assert decoupled.name == "decoupled_decay+sgd" and coupled.name == "coupled_decay+sgd"


def test_decay_of_some_parameters():
    p = {"W": np.ones(2), "b": np.ones(2)}
    g = {"W": np.zeros(2), "b": np.zeros(2)}
    some = optim.chain(optim.decay(0.5, only=lambda name: name == "W"), optim.sgd(lr=1.0))
    new, _ = some.update(g, p, {}, t=1)
    np.testing.assert_array_equal(new["W"], 0.5)
    np.testing.assert_array_equal(new["b"], 1.0)
    assert not some.flat and optim.chain(optim.decay(0.5), optim.sgd()).flat


def test_the_order_is_the_order_written():
    g, p = np.array([10.0]), np.array([10.0])
    first = optim.chain(optim.clip_value(1.0), optim.decay(1.0, coupled=True), optim.sgd(lr=1.0))
    last = optim.chain(optim.decay(1.0, coupled=True), optim.clip_value(1.0), optim.sgd(lr=1.0))
    assert first.update(g, p, {}, t=1)[0] == 10 - 11
    assert last.update(g, p, {}, t=1)[0] == 10 - 1


def test_the_decay_follows_the_rate():
    optimizer = optim.adamw(lr=lambda t: 0.1 * t, wd=0.5)
    p, state = np.ones(1), optimizer.init(np.ones(1))
    for t in (1, 2):
        p, state = optimizer.update(np.zeros(1), p, state, t=t)
    np.testing.assert_allclose(p, (1 - 0.05) * (1 - 0.1))


def test_a_chain_is_an_optimizer_like_any_other():
    inner = optim.chain(optim.decay(0.01), optim.adam)
    chain = optim.chain(optim.clip_norm(1.0), optim.clip_value(2.0), inner)
    assert [part.formula.name for part in chain.parts] == [
        "clip_norm",
        "clip_value",
        "decoupled_decay",
        "adam",
    ]
    assert chain.hyper(1) == {
        "lr": 1e-3,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "bound": 1.0,
        "bound_2": 2.0,
        "wd": 0.01,
    }
    assert list(chain.space) == ["lr", "b1", "b2", "eps", "wd"]
    assert chain.defaults == chain.hyper(1)
    changed = chain.bind(bound_2=3.0, lr=0.5, eps_place="hat")
    assert changed.hyper(1)["bound_2"] == 3.0 and changed.hyper(1)["bound"] == 1.0
    assert changed.rule.settings["eps_place"] == "hat"
    assert chain.describe()["parts"][0] == "clip_norm"


def test_adamw_is_a_named_chain():
    assert optim.adamw.name == "adamw" and optim.adamw(lr=0.1).name == "adamw"
    assert repr(optim.adamw(lr=0.1)) == "adamw(decoupled_decay(wd=0.01), adam(lr=0.1))"
    assert optim.adamw.formula == "p -= lr wd p;  then as adam"
    assert list(optim.adamw.space) == ["lr", "b1", "b2", "eps", "wd"]


def test_a_transform_of_ones_own_with_state():
    """Keeps a count and the last gradient, and gives the difference."""

    @optim.transform("g", slots={"last": 0.0}, scalars={"count": 0.0})
    def difference(g, p, last, count, *, t, lr, scale=1.0):
        return scale * (g - last) * lr, g, count + t

    optimizer = optim.chain(difference(scale=2.0), optim.momentum(lr=0.5))
    p = {"x": np.zeros(1)}
    state = optimizer.init(p)
    assert set(state) == {"last", "count", "v"}
    for t, g in enumerate((1.0, 4.0), 1):
        p, state = optimizer.update({"x": np.array([g])}, p, state, t=t)
    assert state["last"]["x"] == 4.0 and state["count"] == 3.0
    np.testing.assert_allclose(state["v"]["x"], 0.9 * 1.0 + 3.0)


def test_two_of_a_kind_keep_their_states_apart():
    @optim.transform("g", slots={"v": 0.0})
    def smooth(g, p, v, *, b=0.5):
        v = b * v + g
        return v, v

    optimizer = optim.chain(smooth(), smooth(b=0.25), optim.momentum(lr=1.0, b=0.75))
    state = optimizer.init(np.zeros(1))
    assert set(state) == {"v", "v_2", "v_3"}
    assert optimizer.hyper(1)["b"] == 0.75
    _, state = optimizer.update(np.ones(1), np.zeros(1), state, t=1)
    _, state = optimizer.update(np.ones(1), np.zeros(1), state, t=2)
    assert (state["v_2"], state["v_3"], state["v"]) == (1.5, 1.75, 2.5)


def test_a_chain_records_one_graph():
    spec = {"W": array_spec((2, 3), "float32"), "b": array_spec((3,), "float32")}
    graph = optim.chain(optim.clip_norm(1.0), optim.adamw).trace_update(spec)
    assert [o.spec for o in graph.outputs][:2] == [spec["W"], spec["b"]]
    assert sum(node.op.kind == "reduce" for node in graph.nodes) == 1
    flat = optim.chain(optim.clip_norm(1.0), optim.adamw).trace_update(array_spec((9,), "float32"))
    assert not [n for n in flat.nodes if n.op.name in ("concatenate", "reshape")]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: optim.chain(optim.clip_norm(1.0)), "needs a rule as its last part"),
        (lambda: optim.chain(optim.sgd, optim.clip_norm(1.0)), "it must come last; got sgd, clip"),
        (lambda: optim.chain(optim.sgd, optim.sgd), "one rule, and it must come last"),
        (lambda: optim.chain(optim.clip_norm, optim.sgd), r"clip_norm must be bound first"),
        (lambda: optim.chain(1.0, optim.sgd), "a bound transform or a rule; got 1.0"),
        (lambda: optim.clip_norm(1.0, 2.0), "clip_norm: takes 1 hyperparameters; got 2"),
        (lambda: optim.clip_norm(), "clip_norm: bound has no default"),
        (lambda: optim.clip_norm(0.0), r"clip_norm: bound must be in \(0, inf\); got 0.0"),
        (lambda: optim.decay(-1.0), r"decoupled_decay: wd must be in \[0, inf\)"),
        (lambda: optim.transform("q")(lambda g, p: g), "changes must be 'g' or 'p'"),
    ],
)
def test_mistakes_are_answered(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_decoupled_decay_needs_a_rate():
    @optim.rule
    def rateless(g, p, *, speed=0.1):
        return p - speed * g

    with pytest.raises(
        TypeError, match="decoupled_decay uses the rule's lr, and rateless has none"
    ):
        optim.chain(optim.decay(0.1), rateless)
