"""Trainers that take their steps together: each stands where its own steps would have left it."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import numpy as np
import pytest

import fallline as fl
from fallline import nn, optim, schedule, train
from fallline.train.trainer import steps_together

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 6)).astype(np.float32)
Y = (X @ rng.standard_normal((6, 3))).argmax(1)

OPTIMIZERS = [
    optim.adam(lr=1e-2),
    optim.nadam(lr=1e-2),
    optim.momentum(lr=schedule.cosine(0.1, steps=40)),
    optim.chain(optim.clip_norm(0.5), optim.adam(lr=1e-2)),
    optim.adam(lr=3e-3),
]


def replicas() -> list[train.Trainer]:
    """Networks of other shapes, with other optimizers, batches, data and seeds."""
    found = []
    for i, optimizer in enumerate(OPTIMIZERS):
        n = 100 - 7 * i
        net = nn.mlp([6, 8 + i % 2, 3], dropout=0.1 * i, seed=i)
        found.append(
            train.Trainer(
                net,
                (X[:n], Y[:n]),
                loss="cross_entropy",
                optimizer=optimizer,
                batch_size=[32, 10, None][i % 3],
                seed=i,
                drop_last=i == 3,
            )
        )
    return found


def assert_same(one: train.Trainer, other: train.Trainer) -> None:
    assert (one.t, one.epoch, one.position) == (other.t, other.epoch, other.position)
    assert np.array_equal(one.params, other.params) and one.scalars == other.scalars
    assert all(map(np.array_equal, one.slots, other.slots))


@pytest.fixture(params=[1, 2, 3])
def n_threads(request):
    before = fl.get_threads()
    fl.set_threads(request.param)
    yield request.param
    fl.set_threads(before)


def test_the_bits_are_those_of_each_alone(n_threads):
    """Over the ends of epochs, in calls of different lengths; one has nothing to do."""
    together, alone = replicas(), replicas()
    for counts in ([1, 0, 5, 2, 3], [23, 17, 40, 0, 61], [1, 1, 1, 1, 1]):
        found = steps_together(together, counts)
        expected = [t.steps(n) for t, n in zip(alone, counts, strict=True)]
        assert all(map(np.array_equal, found, expected))
        for one, other in zip(together, alone, strict=True):
            assert_same(one, other)


def test_one_that_diverges_does_not_disturb_the_others(n_threads):
    def made():
        found = replicas()
        bad = X.copy()
        broken = train.Trainer(
            nn.mlp([6, 3], seed=0),
            (bad, Y),
            loss="cross_entropy",
            optimizer=optim.adam(lr=1e-2),
            batch_size=10,
        )
        bad[broken.order[75]] = np.inf  # met in the eighth step
        return [*found[:2], broken, *found[2:]]

    together, alone = made(), made()
    losses = steps_together(together, [30] * 6)
    for i, (one, other) in enumerate(zip(together, alone, strict=True)):
        if i == 2:
            with pytest.raises(fl.DivergedError) as caught:
                other.steps(30)
            error = losses[2]
            assert isinstance(error, fl.DivergedError) and error.step == caught.value.step == 8
            assert str(error) == str(caught.value)
            assert np.array_equal(error.losses, caught.value.losses) and len(error.losses) == 7
        else:
            assert np.array_equal(losses[i], other.steps(30))
        assert_same(one, other)


def picked(z, y):
    """A loss that takes a number by the label."""
    return np.square(1 - np.take_along_axis(z, y[:, None], axis=1)[:, 0])


def test_a_label_out_of_bounds(n_threads):
    """It is the error of its trainer; the others go on."""
    labels = Y.copy()
    labels[90] = 3
    settings = {"loss": picked, "optimizer": optim.adam(lr=1e-2), "batch_size": 10}
    wrong = train.Trainer(nn.mlp([6, 3], seed=0), (X, labels), **settings)
    together, alone = replicas(), replicas()
    error, *found = steps_together([wrong, *together], [20] * 6)
    assert isinstance(error, IndexError) and "out of bounds" in str(error)
    for one, other, losses in zip(together, alone, found, strict=True):
        assert np.array_equal(losses, other.steps(20))
        assert_same(one, other)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_ctrl_c_leaves_each_at_a_step_of_its_own(n_threads):
    together, alone = replicas(), replicas()
    for t in together:
        t.prepare()
    steps_together(together, [3] * 5)  # all is loaded

    came = []

    def interrupt(*_):
        came.append(None)
        raise KeyboardInterrupt  # which is lost if the garbage collector is running

    def go_on(seconds):
        before = len(came)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while len(came) == before:
            steps_together(together, [7, 50, 20, 1, 3])

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(30):
            with suppress(KeyboardInterrupt):
                go_on(5e-4 + 5e-5 * n)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for one, other in zip(together, alone, strict=True):
        other.steps(one.t)
        assert np.array_equal(one.params, other.params)
        assert np.array_equal(one.steps(5), other.steps(5))


def test_calls_are_short(monkeypatch):
    """However long a step takes and however many trainers there are, Python is soon back."""
    import fallline.train.trainer as module

    calls = []
    walk_together = module.walk_together

    def noted(walks, steps, n_threads):
        calls.append(sum(steps))
        return walk_together(walks, steps, n_threads)

    monkeypatch.setattr(module, "walk_together", noted)
    mine = replicas()
    steps_together(mine, [2] * 5)
    for t in mine:
        for bound in t._bound.values():
            bound.seconds = 1.0
    calls.clear()
    monkeypatch.setattr(module, "get_threads", lambda: 1)
    steps_together(mine, [1] * 5)
    assert calls == [1] * 5


def test_a_trainer_twice():
    (mine, *_) = replicas()
    with pytest.raises(ValueError, match="steps_together: each trainer may be given once"):
        steps_together([mine, mine], [1, 1])


def test_two_groups_at_once():
    groups, alone = (replicas(), replicas()), replicas()
    found = [None, None]

    def work(i):
        found[i] = steps_together(groups[i], [50] * 5)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, losses in zip(alone, zip(*found, strict=True), strict=True):
        expected = one.steps(50)
        assert all(np.array_equal(x, expected) for x in losses)
