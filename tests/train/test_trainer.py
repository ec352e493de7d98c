"""The engine under `fit`: however steps are asked for, they are the same steps."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import numpy as np
import pytest

import fallline as fl
from fallline import nn, optim, schedule, train
from fallline.compiler import store
from fallline.train import bound

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 6)).astype(np.float32)
Y = (X @ rng.standard_normal((6, 3))).argmax(1)

OPTIMIZERS = {
    "sgd": optim.sgd(lr=0.1),
    "adam": optim.adam(lr=1e-2),
    "nadam, with a number of its own": optim.nadam(lr=1e-2),
    "a schedule": optim.momentum(lr=schedule.cosine(0.1, steps=40)),
    "whole arrays": optim.chain(optim.clip_norm(0.5), optim.adam(lr=1e-2)),
}


def trainer(optimizer="adam", *, dropout=0.0, seed=0, **more):
    net = nn.mlp([6, 8, 3], dropout=dropout, seed=1)
    settings = {"loss": "cross_entropy", "batch_size": 32, **more}
    return train.Trainer(net, (X, Y), optimizer=OPTIMIZERS[optimizer], seed=seed, **settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_call_equals_single_steps(name):
    """Bit for bit, over the ends of epochs, whose last batches are smaller."""
    one, other = trainer(name, dropout=0.2), trainer(name, dropout=0.2)
    together = one.steps(23)
    alone = np.concatenate([other.steps(1) for _ in range(23)])
    assert np.array_equal(together, alone)
    assert np.array_equal(one.params, other.params) and one.scalars == other.scalars
    assert all(map(np.array_equal, one.slots, other.slots))
    # an epoch begins when its first step is taken
    assert (one.t, one.epoch, one.position) == (23, 5, 96) == (other.t, other.epoch, other.position)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tables_of_few_rows(name, monkeypatch):
    """Rows that were written ahead are used, and are not used for other steps."""
    expected = trainer(name, dropout=0.2)
    losses = expected.steps(23)
    monkeypatch.setattr(bound, "ROWS_AHEAD", 3)
    monkeypatch.setattr(bound, "MOST_ROWS", 5)
    mine = trainer(name, dropout=0.2, batch_size=32)
    assert np.array_equal(np.concatenate([mine.steps(n) for n in (1, 1, 1, 1, 4, 9, 1, 5)]), losses)
    assert np.array_equal(mine.params, expected.params)


def test_back_to_an_earlier_step():
    """As a checkpoint does it: where t, the state and the parameters stand, a step goes on."""
    mine = trainer("nadam, with a number of its own", dropout=0.2)
    mine.steps(2)
    params, slots, scalars = mine.params.copy(), [s.copy() for s in mine.slots], mine.scalars
    losses = mine.steps(2)
    mine.params[:], mine.t, mine.position, mine.scalars = params, 2, 64, scalars
    for slot, before in zip(mine.slots, slots, strict=True):
        slot[:] = before
    assert np.array_equal(mine.steps(2), losses)


def test_a_callback_may_lower_the_rate():
    mine, other = trainer("adam"), trainer("adam")
    mine.steps(5)
    mine.optimizer = mine.optimizer(lr=1e-3)
    other.steps(5)
    other._bound.clear()  # nothing is known of the steps before
    other.optimizer = optim.adam(lr=1e-3)
    assert np.array_equal(mine.steps(7), other.steps(7))
    kept = trainer("adam")
    kept.steps(5)
    assert not np.array_equal(kept.steps(7)[1:], mine.steps(7)[1:])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_ctrl_c_leaves_a_trainer_at_a_step_of_its_own():
    """Whenever it comes: steps that were walked are counted, so that training can go on."""
    mine, other = trainer("adam", dropout=0.2), trainer("adam", dropout=0.2)
    mine.prepare()

    came = []

    def interrupt(*_):
        came.append(None)
        raise KeyboardInterrupt  # which is lost if the garbage collector is running

    def go_on(seconds):
        before = len(came)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while len(came) == before:
            mine.steps(50)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(100):
            with suppress(KeyboardInterrupt):
                go_on(5e-4 + 1e-5 * n)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other.steps(mine.t)
    assert np.array_equal(mine.params, other.params) and mine.t > 100
    assert np.array_equal(mine.steps(10), other.steps(10))


@pytest.mark.parametrize("parts", [[10], [3, 3, 4], [4, 4, 2], [5, 5], [1] * 10])
def test_steps_across_an_epoch_are_those_of_fit(parts):
    net = nn.mlp([6, 8, 3], seed=1)
    settings = {"optimizer": OPTIMIZERS["adam"], "epochs": 3, "batch_size": 32, "seed": 0}
    expected = fl.fit(net, (X, Y), progress=False, **settings).loss[:10]
    mine = trainer()
    assert np.array_equal(np.concatenate([mine.steps(n) for n in parts]), expected)


@pytest.mark.parametrize(
    "more, steps", [({}, 4), ({"drop_last": True}, 3), ({"batch_size": None}, 1)]
)
def test_steps_of_an_epoch(more, steps):
    mine = trainer(**more)
    assert mine.steps_per_epoch == steps
    mine.steps(steps)
    assert mine.epoch == 0
    mine.steps(1)
    assert mine.epoch == 1 and mine.position == min(mine.batch_size, mine.n)


def test_two_trainers_at_once():
    """They share a plan, each in memory of its own."""
    alone = [(t.steps(200), t.params.copy()) for t in (trainer(seed=0), trainer(seed=1))]
    both = [trainer(seed=0), trainer(seed=1)]
    found = [None, None]

    def work(i):
        found[i] = both[i].steps(200)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in (0, 1):
        assert np.array_equal(found[i], alone[i][0]) and np.array_equal(both[i].params, alone[i][1])


def test_networks_of_the_same_shapes_share_their_plans():
    one, other = trainer(), trainer(seed=5)
    one.prepare()
    other.prepare()
    assert one._step_of(32).step is other._step_of(32).step


def test_a_prepared_trainer_loads_nothing_more(monkeypatch):
    mine = trainer("sgd", batch_size=16)
    mine.prepare()
    mine.prepare_evaluation(X, Y, "softmax")
    monkeypatch.setattr(store, "load_many", lambda texts: pytest.fail("loaded a kernel"))
    mine.steps(2 * mine.steps_per_epoch)
    mine.evaluate(X, Y, "softmax")


def test_fit_prepares_before_its_clock_starts(monkeypatch):
    order = []
    prepare, steps = train.Trainer.prepare, train.Trainer.steps
    monkeypatch.setattr(
        train.Trainer, "prepare", lambda self: (order.append("prepare"), prepare(self))
    )
    monkeypatch.setattr(
        train.Trainer, "steps", lambda self, n: (order.append("steps"), steps(self, n))[1]
    )
    fl.fit(nn.mlp([6, 3]), (X, Y), epochs=1, progress=False)
    assert order[0] == "prepare" and order.count("prepare") == 1


def test_evaluation_in_pieces(monkeypatch):
    import fallline.train.trainer as module

    mine = trainer()
    whole = mine.evaluate(X, Y, "softmax")
    monkeypatch.setattr(module, "EVALUATION_ROWS", 32)
    pieces = mine.evaluate(X, Y, "softmax")
    assert pieces[1] == whole[1] == (mine.net(X).argmax(1) == Y).mean()
    np.testing.assert_allclose(pieces[0], whole[0], rtol=1e-6)


def test_a_step_that_diverges_leaves_what_was_before_it():
    bad = X.copy()
    mine = train.Trainer(
        nn.mlp([6, 3], seed=0),
        (bad, Y),
        loss="cross_entropy",
        optimizer=OPTIMIZERS["adam"],
        batch_size=10,
    )
    mine.steps(7)
    before, t = mine.params.copy(), mine.t
    bad[mine.order[mine.position + 25]] = np.inf  # two steps later
    with pytest.raises(fl.DivergedError, match="step 10 .*X holds") as caught:
        mine.steps(20)
    assert caught.value.step == 10 and len(caught.value.losses) == 2 and mine.t == t + 2
    assert np.isfinite(mine.params).all() and not np.array_equal(mine.params, before)


def test_callbacks_that_look_at_different_steps():
    seen = {2: [], 3: []}

    class Every:
        def __init__(self, every):
            self.every = every

        def __call__(self, trainer, history):
            seen[self.every].append(trainer.t)

    fl.fit(
        nn.mlp([6, 3]),
        (X, Y),
        epochs=1,
        batch_size=10,
        callbacks=[Every(2), Every(3)],
        progress=False,
    )
    assert seen == {2: [2, 4, 6, 8, 10], 3: [3, 6, 9, 10]}
