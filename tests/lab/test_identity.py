"""A name is not an identity: the same name with another formula is another thing."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from tests.cli.running import environment
from tests.lab import fake

from fallline import lab, optim
from fallline.lab.identity import digest, formula_of
from fallline.lab.protocol import Budget
from fallline.lab.records import StudyMismatchError

ONE = Budget("one", trials=1, seeds=1)


def mine(sign):
    @optim.rule(space={"lr": optim.Log(1e-3, 1)})
    def mine(g, p, *, lr=0.1):
        return p - sign * lr * g

    return mine


def compare(out, optimizer=None, **more):
    def run(problem, optimizer, hyper, seed, on_epoch=None, *, test=True):
        return fake.train(problem, fake.TEN[0], {"lr": 0.1}, seed, on_epoch, test=test)

    problem = fake.problem(120, 3, **more)
    return lab.compare(problem, optimizer or fake.TEN[0], ONE, out=out, run=run, progress=False)


def test_gradient_ascent_under_the_same_name_is_refused(tmp_path):
    assert compare(tmp_path, mine(1)).complete
    with pytest.raises(StudyMismatchError, match="mine formula code computes something else"):
        compare(tmp_path, mine(-1))
    assert compare(tmp_path, mine(1)).complete  # written again, but the same


def test_another_option_is_refused_by_name(tmp_path):
    compare(tmp_path, optim.momentum(form="sum"))
    with pytest.raises(StudyMismatchError, match='options form is "sum" there and "ema" here'):
        compare(tmp_path, optim.momentum(form="ema"))


def test_a_part_that_sees_other_arrays_is_refused(tmp_path):
    chain = lambda only: optim.chain(optim.decay(0.1, only=only), optim.sgd())
    compare(tmp_path, chain(lambda name: name.startswith("layers.7")))
    with pytest.raises(StudyMismatchError):
        compare(tmp_path, chain(lambda name: name.startswith("layers.8")))


def test_another_loss_is_refused(tmp_path):
    loss = lambda power: lambda z, y: abs(z - y) ** power
    compare(tmp_path, loss=loss(1))
    with pytest.raises(StudyMismatchError, match="loss_code computes something else"):
        compare(tmp_path, loss=loss(2))


def test_another_metric_is_refused(tmp_path):
    error = lambda power: lambda z, y: np.mean(abs(z - y) ** power)
    metric = lambda power: lab.Metric("loss", error(power), higher_is_better=False)
    compare(tmp_path, metric=metric(1))
    with pytest.raises(StudyMismatchError, match="metric_code computes something else"):
        compare(tmp_path, metric=metric(2))


HALF = 0.5


def helped(x):
    return helper(x) * HALF


def helper(x):
    return x + 1


class Scaled:
    def __init__(self, scale):
        self._scale = scale

    def __call__(self, x):
        return self.inner(x)

    def inner(self, x):
        return self._scale * x


def test_what_makes_a_difference(monkeypatch):
    array = np.arange(3.0)
    different = [
        lambda x: x,
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x: x - 1,
        lambda x, k=1: x,
        lambda x, k=2: x,
        lambda x: np.sin(x),
        lambda x: np.cos(x),
        lambda x: x + array,
        functools.partial(max, 1),
        functools.partial(max, 2),
        Scaled(1),
        Scaled(2),
        Scaled(2).inner,
        helped,
    ]
    found = [digest(f) for f in different]
    array[0] = 7
    found.append(digest(different[8]))
    monkeypatch.setitem(globals(), "HALF", 0.25)
    found.append(digest(helped))
    monkeypatch.setitem(globals(), "helper", lambda x: x - 1)
    found.append(digest(helped))
    assert len(set(found)) == len(found)


def test_what_makes_none():
    def one(x):
        """Says this."""
        return x + 1  # plainly

    first = digest(one)

    def one(x):
        """Says that."""

        return x + 1

    assert digest(one) == first


def test_a_function_that_refers_to_itself():
    def again(x):
        return x if x <= 0 else again(x - 1)

    assert digest(again) == digest(again)


def test_the_digests_are_the_same_in_another_process():
    said = (
        "from fallline import optim; from fallline.lab.identity import *;"
        "print([formula_of(optim.rules()[n])['code'] for n in ('adam', 'nesterov')],"
        " digest(lambda x: {1, 'a', 'b', x}))"
    )
    command = [sys.executable, "-c", said]
    outputs = {
        subprocess.run(command, env=environment(), capture_output=True, text=True).stdout
        for _ in range(2)
    }
    (only,) = outputs
    assert formula_of(optim.adam)["code"] in only
