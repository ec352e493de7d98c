"""An optimizer that is more than a formula trains a network through the one interface."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline import nn, optim, train
from fallline.core import tree


class Sam(optim.Optimizer):
    """Sharpness-aware minimisation around gradient descent. Foret et al. 2021, Algorithm 1."""

    name = "sam"

    def __init__(self, lr, rho):
        self.lr, self.rho = lr, rho

    def init(self, params):
        return {}

    def step(self, evaluate, params, state, *, t, hyper=None):
        value, grads = evaluate(params)
        norm = np.sqrt(sum(np.sum(g * g) for g in tree.leaves(grads)))
        ahead = tree.tree_map(lambda p, g: p + self.rho * g / norm, params, grads)
        _, grads = evaluate(ahead)
        return tree.tree_map(lambda p, g: p - self.lr * g, params, grads), state, value


class Averaged(optim.Optimizer):
    """Gradient descent whose running average is evaluated."""

    name = "averaged"

    @property
    def flat(self):
        return True

    def init(self, params):
        return {"mean": np.array(params)}

    def step(self, evaluate, params, state, *, t, hyper=None):
        value, grads = evaluate(params)
        params = params - 0.1 * grads
        return params, {"mean": 0.9 * state["mean"] + 0.1 * params}, value

    def eval_params(self, params, state):
        return state["mean"]


def data(n=60):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 6)).astype(np.float32)
    return X, (X @ rng.standard_normal((6, 3))).argmax(1)


def test_two_evaluations_a_step():
    X, y = data()
    net = nn.mlp([6, 8, 3], seed=0)
    history = fl.fit(net, (X, y), optimizer=Sam(0.3, 0.05), epochs=20, progress=False)
    assert history.epochs[-1]["loss"] < 0.5 * history.epochs[0]["loss"]


def test_the_average_is_evaluated():
    X, y = data()
    net = nn.mlp([6, 3], seed=0)
    trainer = train.Trainer(net, (X, y), loss="cross_entropy", optimizer=Averaged())
    means = trainer.params.copy()
    for _ in range(5):
        trainer.steps(1)
        means = 0.9 * means + 0.1 * trainer.params
    np.testing.assert_allclose(trainer.eval_params(), means, rtol=1e-5)
    assert not np.allclose(trainer.eval_params(), trainer.params)


def test_rules_without_settings_and_names_are_taken():
    X, y = data()
    for optimizer in ("sgd", optim.sgd, optim.sgd()):
        fl.fit(nn.mlp([6, 3]), (X, y), optimizer=optimizer, epochs=1, progress=False)
    with pytest.raises(TypeError, match="an optimizer must be a name, a rule or a bound rule"):
        fl.fit(nn.mlp([6, 3]), (X, y), optimizer=3, progress=False)


def test_a_loss_that_reads_a_global_is_read_anew():
    X, y = data()
    weight = 1.0

    def loss(z, t):
        return weight * fl.ops.loss.cross_entropy(z, t.astype(np.int64))

    first = train.Trainer(nn.mlp([6, 3], seed=0), (X, y), loss=loss, optimizer="sgd").steps(1)
    weight = 3.0
    second = train.Trainer(nn.mlp([6, 3], seed=0), (X, y), loss=loss, optimizer="sgd").steps(1)
    np.testing.assert_allclose(second, 3 * first, rtol=1e-6)
