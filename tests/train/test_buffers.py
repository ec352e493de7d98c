"""Training networks that keep arrays which are not trained: running statistics, fixed scales."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops, optim, train
from fallline.core import tree
from fallline.ops.loss import cross_entropy
from fallline.train.trainer import Trainer, steps_together

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, size=(22, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 22)
IMAGES = RNG.integers(0, 256, size=(20, 2, 8, 8), dtype=np.uint8)
SETTINGS = {"progress": False, "seed": 3}


def network(**settings):
    return nn.Sequential(
        nn.Linear(5, 6, seed=0, **settings),
        nn.BatchNorm(6, **settings),
        ops.tanh,
        nn.Linear(6, 3, seed=1, **settings),
    )


def convolutional():
    return nn.Sequential(
        nn.Standardise([127.0, 128.0], [60.0, 70.0]),
        nn.Conv2d(2, 4, 3, padding=1, bias=False, seed=0),
        nn.BatchNorm(4),
        ops.relu,
        nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, seed=1), nn.BatchNorm(4))),
        nn.MaxPool2d(2),
        nn.GlobalAvgPool(),
        nn.Linear(4, 3, seed=2),
    )


class Reading(nn.Module):
    """Uses its buffer forward and backward, and hands out another value."""

    buffers = ("size", "unused")

    def __init__(self):
        self.size, self.unused = np.full(6, 2.0, np.float32), np.full(3, 7.0, np.float32)

    def __call__(self, x, *, ctx=None):
        if ctx is not None and ctx.training:
            ctx.update("size", 0.5 * self.size + np.mean(np.abs(x), axis=0))
        return np.tanh(x / self.size) * self.size


def reading():
    return nn.Sequential(
        nn.Linear(5, 6, seed=0), Reading(), nn.Linear(6, 6, seed=1), Reading(), nn.Linear(6, 3)
    ).init(0)


def by_hand(net, x, y, order, batch, steps, lr):
    """Gradient descent, eagerly; running statistics written after each step."""

    def loss(net, x, y):
        ctx = nn.Context("train")
        return np.mean(cross_entropy(net(x, ctx=ctx), y)), ctx.updates

    losses, start = [], 0
    for _ in range(steps):
        rows = order[start : start + batch]
        start += batch
        both = fl.value_and_grad(loss, has_aux=True)
        (value, updates), gradient = both(net, x[rows], y[rows])
        losses.append(float(value))
        for (_, w), (_, g) in zip(net.named_parameters(), gradient.named_parameters(), strict=True):
            w -= lr * g
        net.set_buffers(updates)
    return losses


@pytest.mark.parametrize(
    "make, data", [(network, (X, Y)), (convolutional, (IMAGES, Y[:20])), (reading, (X, Y))]
)
def test_steps_are_those_of_a_loop_by_hand(make, data):
    net, other = make(), make()
    trainer = Trainer(
        net, data, loss="cross_entropy", optimizer=optim.sgd(lr=0.1), batch_size=7, seed=1
    )
    order = trainer.order
    found = trainer.steps(2)  # one after the other, over what the first one wrote
    want = by_hand(other, *data, order, 7, 2, 0.1)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    for (name, a), (_, b) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(net.gather(), other.gather(), rtol=1e-4, atol=1e-5)


class Twice(optim.Optimizer):
    """Looks at another place first, or last."""

    name = "twice"

    def __init__(self, flat):
        self._flat = flat

    @property
    def flat(self):
        return self._flat

    def init(self, params):
        return ()

    def step(self, evaluate, params, state, *, t, hyper=None):
        value, gradient = evaluate(params)
        ahead = tree.tree_map(lambda p, g: p + 10.0 * g, params, gradient)
        evaluate(ahead)
        return tree.tree_map(lambda p, g: p - 0.1 * g, params, gradient), state, value


@pytest.mark.parametrize(
    "optimizer",
    [Twice(True), Twice(False), optim.chain(optim.clip_norm(1e9), optim.sgd(lr=0.1))],
    ids=["twice", "twice, as a tree", "whole arrays"],
)
def test_optimizers_that_go_another_way(optimizer):
    """The first evaluation counts, which is that of the parameters themselves."""
    net, other = network(), network()
    settings = {"loss": "cross_entropy", "batch_size": 8, "seed": 1}
    Trainer(net, (X, Y), optimizer=optimizer, **settings).steps(4)
    Trainer(other, (X, Y), optimizer=optim.sgd(lr=0.1), **settings).steps(4)
    np.testing.assert_allclose(net.gather_buffers(), other.gather_buffers(), rtol=1e-5)
    np.testing.assert_allclose(net.gather(), other.gather(), rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_however_it_is_driven():
    def trained(drive):
        net = network()
        settings = {"loss": "cross_entropy", "optimizer": "adam", "batch_size": 4, "seed": 5}
        trainer = Trainer(net, (X, Y), **settings)
        drive(trainer)
        return np.concatenate([net.gather(), net.gather_buffers()])

    whole = trained(lambda t: t.steps(12))
    assert not (whole[-12:-6] == 0).any()
    np.testing.assert_array_equal(trained(lambda t: t.steps(12)), whole)
    np.testing.assert_array_equal(trained(lambda t: [t.steps(n) for n in (1, 4, 7)]), whole)
    beside = lambda t: steps_together(
        [t, Trainer(network(), (X, Y), loss="cross_entropy", optimizer="sgd")], [12, 5]
    )
    np.testing.assert_array_equal(trained(beside), whole)


def test_back_to_an_earlier_step():
    """What a run that goes on needs: buffers belong to it."""
    net = network()
    trainer = Trainer(net, (X, Y), loss="cross_entropy", optimizer="adam", batch_size=8)
    trainer.steps(4)
    vectors = [trainer.params, *trainer.slots, *trainer.buffers]
    kept = [v.copy() for v in vectors], trainer.t, trainer.epoch, trainer.position
    first = trainer.steps(2), net.gather_buffers().copy()
    for vector, value in zip(vectors, kept[0], strict=True):
        vector[:] = value
    trainer.t, trainer.epoch, trainer.position = kept[1:]
    np.testing.assert_array_equal(trainer.steps(2), first[0])
    np.testing.assert_array_equal(net.gather_buffers(), first[1])


def test_bits_do_not_depend_on_the_threads():
    found = []
    before = fl.get_threads()
    try:
        for threads in (1, 2):
            fl.set_threads(threads)
            net = convolutional()
            fl.fit(net, (IMAGES, Y[:20]), epochs=2, batch_size=8, **SETTINGS)
            found.append(np.concatenate([net.gather(), net.gather_buffers()]))
    finally:
        fl.set_threads(before)
    np.testing.assert_array_equal(*found)


def test_many_at_once_are_each_alone():
    nets, alone = [network() for _ in range(3)], [network() for _ in range(3)]
    for i, net in enumerate([*nets, *alone]):
        net[1].running_mean = np.full(6, i % 3)
    each = [{"seed": i} for i in range(3)]
    train.fit_many(nets, (X, Y), each=each, epochs=2, batch_size=8, progress=False)
    for i, net in enumerate(alone):
        fl.fit(net, (X, Y), epochs=2, batch_size=8, seed=i, progress=False)
        np.testing.assert_array_equal(net.gather_buffers(), nets[i].gather_buffers())
        np.testing.assert_array_equal(net.gather(), nets[i].gather())
    shared, other = network(), network()
    vars(other[1])["running_mean"] = shared[1].running_mean
    with pytest.raises(ValueError, match="networks 0 and 1 have an array in common"):
        train.fit_many([shared, other], (X, Y), epochs=1, progress=False)


def test_validation_and_predictions_use_the_running_statistics():
    net = network()
    history = fl.fit(net, (X, Y), validation=(X[:9], Y[:9]), epochs=3, batch_size=8, **SETTINGS)
    want = np.mean(cross_entropy(net(X[:9]), Y[:9]))
    assert history.epochs[-1]["val_loss"] == pytest.approx(float(want), rel=1e-5)
    np.testing.assert_allclose(net.predict_proba(X), ops.softmax(net(X)), rtol=1e-4, atol=1e-6)
    assert not np.allclose(net(X), net(X, ctx=nn.Context("train")), atol=1e-3)


def test_predictions_on_the_way_are_of_that_moment():
    net, seen = network(), []

    def look(trainer, history):
        seen.append(abs(net.predict_proba(X) - ops.softmax(net(X))).max())

    fl.fit(net, (X, Y), epochs=3, batch_size=8, callbacks=look, **SETTINGS)
    assert len(seen) == 3 and max(seen) < 1e-5


def test_optimizers_decay_and_penalties_leave_them_alone():
    fixed = convolutional()
    before = dict(fixed.named_buffers())["0.std"].copy()
    fl.fit(
        fixed,
        (IMAGES, Y[:20]),
        optimizer=optim.adamw(lr=0.01, wd=0.5),
        penalty=train.max_norm(0.1),
        epochs=2,
        **SETTINGS,
    )
    np.testing.assert_array_equal(fixed[0].std, before)
    means = dict(fixed.named_buffers())["2.running_mean"]
    assert means.any()


def test_two_networks_of_one_form_share_a_step_and_not_their_scales():
    """Fixed numbers are inputs of a step, no part of it."""
    scales = [(0.0, 1.0), (2.0, 3.0)]
    make = lambda mean, std: nn.Sequential(nn.Standardise(mean, std), nn.Linear(5, 3, seed=0))
    nets, plain = [make(*s) for s in scales], [make(0.0, 1.0) for _ in scales]
    train.fit_many(nets, (X, Y), epochs=2, batch_size=8, progress=False)
    for (mean, std), net, alone in zip(scales, nets, plain, strict=True):
        fl.fit(
            alone,
            ((X - np.float32(mean)) / np.float32(std), Y),
            epochs=2,
            batch_size=8,
            progress=False,
        )
        np.testing.assert_allclose(net.gather(), alone.gather(), rtol=1e-5, atol=1e-6)


def test_a_step_that_diverges_leaves_them_as_they_were():
    settings = {"loss": "cross_entropy", "optimizer": optim.sgd(lr=0.1), "batch_size": 8}
    good, bad = network(), network()
    usual = Trainer(good, (X, Y), **settings)
    broken = X.copy()
    broken[usual.order[-1]] = 3e38  # the sum over the third batch overflows
    usual.steps(2)
    with pytest.raises(train.DivergedError, match="became nan at step 3"):
        Trainer(bad, (broken, Y), **settings).steps(3)
    np.testing.assert_array_equal(bad.gather_buffers(), good.gather_buffers())
    np.testing.assert_array_equal(bad.gather(), good.gather())


def test_statistics_that_are_not_finite_are_named():
    net = network()
    net[1].running_mean = np.full(6, np.nan)
    trainer = Trainer(net, (X * np.inf, Y), loss="cross_entropy", optimizer="sgd")
    with pytest.raises(train.DivergedError, match="a running statistic was no longer finite"):
        trainer.steps(1)


def test_a_last_batch_of_one_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"got x of shape \(1, 6\).* or drop_last=True"):
        fl.fit(network(), (X, Y), epochs=1, batch_size=7, **SETTINGS)
    history = fl.fit(network(), (X, Y), epochs=1, batch_size=7, drop_last=True, **SETTINGS)
    assert len(history.loss) == 3


def test_float64_and_mixed_types():
    net = network(dtype=np.float64)
    fl.fit(net, (X.astype(np.float64), Y), epochs=1, batch_size=8, **SETTINGS)
    assert net.gather_buffers().dtype == np.float64
    mixed = network(dtype=np.float64)
    setattr(mixed, "2", nn.Standardise(0.5, 2.0, dtype=np.float64))
    fl.fit(mixed, (X.astype(np.float64), Y), epochs=1, batch_size=8, **SETTINGS)


class Handing(nn.Module):
    """Hands out what it is told to."""

    buffers = ("count",)
    what: str
    shape: tuple
    count: np.ndarray

    def __init__(self, what="count", shape=()):
        self.what, self.shape, self.count = what, shape, np.zeros((), np.float32)

    def __call__(self, x, *, ctx=None):
        if ctx is not None and ctx.training:
            ctx.update(self.what, np.zeros(self.shape) if self.shape else self.count + 1)
        return x


def test_layers_of_ones_own():
    net = nn.Sequential(Handing(), nn.Linear(5, 3, seed=0))
    fl.fit(net, (X, Y), epochs=3, batch_size=8, **SETTINGS)
    assert net[0].count == 9


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            Handing("counts"),
            r"0\.counts is handed out .* no buffer .*Did you mean 0\.count",
        ),
        (Handing("xyz"), r"no buffer of this name\. Name it in its class: buffers = \('xyz',\)\."),
        (Handing(shape=(2,)), r"fit: 0\.count has shape \(\); ctx\.update hands out \(2,\)\."),
    ],
)
def test_what_cannot_be_kept(layer, message):
    with pytest.raises(ValueError, match=message):
        fl.fit(nn.Sequential(layer, nn.Linear(5, 3)), (X, Y), epochs=1, **SETTINGS)


def test_files_and_going_on(tmp_path):
    net = network()
    fl.fit(net, (X, Y), optimizer=optim.sgd(lr=0.1), epochs=2, batch_size=8, **SETTINGS)
    fl.save(net, tmp_path / "net")
    back = fl.load(tmp_path / "net")
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))
    for one in (net, back):
        fl.fit(one, (X, Y), optimizer=optim.sgd(lr=0.1), epochs=1, batch_size=8, **SETTINGS)
    np.testing.assert_array_equal(back.gather_buffers(), net.gather_buffers())
    np.testing.assert_array_equal(back.gather(), net.gather())


def test_a_convolutional_network_learns():
    images = np.random.default_rng(1).integers(0, 80, size=(48, 2, 8, 8), dtype=np.uint8)
    labels = np.arange(48) % 3
    for k in (1, 2):
        images[labels == k, :, :, 2 * k : 2 * k + 3] += 120
    net = convolutional()
    history = fl.fit(
        net, (images, labels), optimizer=optim.adam(lr=0.02), epochs=15, batch_size=16, **SETTINGS
    )
    assert history.epochs[-1]["loss"] < 0.3 * history.epochs[0]["loss"]
    assert (net.predict(images) == labels).mean() > 0.9
