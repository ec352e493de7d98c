"""Random numbers as operations: the bits of `philox`, eager, traced and compiled."""

from __future__ import annotations

import numpy as np
import pytest

import fallline as fl
from fallline.core.errors import UnsupportedError
from fallline.ops import philox, random

KEY = philox.fold_in(philox.key(3), "test")

DRAWS = {
    "bits": (lambda k, s: random.bits(k, s), lambda k, s: philox.bits(k, s)),
    "uniform": (lambda k, s: random.uniform(k, s), lambda k, s: philox.uniform(k, s)),
    "uniform64": (
        lambda k, s: random.uniform(k, s, "float64", -1, 3),
        lambda k, s: philox.uniform(k, s, "float64", -1, 3),
    ),
    "normal": (lambda k, s: random.normal(k, s), lambda k, s: philox.normal(k, s)),
    "normal64": (
        lambda k, s: random.normal(k, s, np.float64),
        lambda k, s: philox.normal(k, s, np.float64),
    ),
    "bernoulli": (
        lambda k, s: random.bernoulli(k, 0.3, s),
        lambda k, s: philox.bernoulli(k, 0.3, s),
    ),
    "dropout_mask": (
        lambda k, s: random.dropout_mask(k, 0.3, s),
        lambda k, s: philox.dropout_mask(k, 0.3, s),
    ),
    "dropout_mask64": (
        lambda k, s: random.dropout_mask(k, 0.3, s, np.float64),
        lambda k, s: philox.dropout_mask(k, 0.3, s, np.float64),
    ),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (13, 7), (300, 500)])  # the last in several jobs
def test_same_bits_eager_and_compiled(name, shape, threads):
    draw, reference = DRAWS[name]
    expected = reference(KEY, shape)
    compiled = fl.compile(lambda k: draw(k, shape))
    for found in (draw(KEY, shape), compiled(KEY)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    # the key is an input: another one needs no other plan
    np.testing.assert_array_equal(compiled(philox.key(9)), reference(philox.key(9), shape))


def test_sites_are_independent():
    f = fl.compile(lambda k: [random.uniform(k, (1000,), site=s) for s in (0, 1, 2**32 - 1)])
    columns = f(KEY)
    for site, found in zip((0, 1, 2**32 - 1), columns):
        np.testing.assert_array_equal(found, random.uniform(KEY, (1000,), site=site))
    assert abs(np.corrcoef(columns) - np.eye(3)).max() < 0.1


@pytest.mark.parametrize("data", [0, 77, 2**40, 2**63 + 5, -5, "name", "another name"])
def test_fold_in_on_a_traced_key(data):
    found = fl.compile(lambda k: random.fold_in(k, data))(KEY)
    np.testing.assert_array_equal(found, philox.fold_in(KEY, data))
    np.testing.assert_array_equal(random.fold_in(KEY, data), found)


@pytest.mark.parametrize("step", [12, np.int32(12), np.array(12), np.uint8(12)])
def test_fold_in_of_a_traced_step(step):
    found = fl.compile(random.fold_in)(KEY, step)
    np.testing.assert_array_equal(found, philox.fold_in(KEY, 12))


def test_split_on_a_traced_key():
    found = fl.compile(lambda k: random.split(k, 3))(KEY)
    np.testing.assert_array_equal(found, philox.split(KEY, 3))


def test_keys_that_are_views():
    keys = philox.split(KEY, 4)
    rows = fl.compile(lambda keys: random.uniform(keys[2], (9,)))(keys)
    np.testing.assert_array_equal(rows, philox.uniform(keys[2], (9,)))
    columns = fl.compile(lambda keys: random.uniform(keys[:, 1], (9,)))(keys)
    np.testing.assert_array_equal(columns, philox.uniform(keys[:, 1].copy(), (9,)))


def test_bernoulli_of_several_probabilities():
    p = np.linspace(0, 1, 11)
    expected = philox.bernoulli(KEY, p, (200, 11))
    for f in (lambda k: random.bernoulli(k, p, (200, 11)),):
        np.testing.assert_array_equal(f(KEY), expected)
        np.testing.assert_array_equal(fl.compile(f)(KEY), expected)
    traced = fl.compile(lambda k, p: random.bernoulli(k, p, (200, 11)))(KEY, p)
    np.testing.assert_array_equal(traced, expected)


def test_derivatives_pass_by():
    def f(x):
        return np.sum(x * random.uniform(KEY, (3,), np.float64))

    np.testing.assert_array_equal(fl.grad(f)(np.ones(3)), random.uniform(KEY, (3,), np.float64))
    g = fl.compile(fl.grad(lambda x, k: np.sum(x * random.dropout_mask(k, 0.5, (3,), x.dtype))))
    np.testing.assert_array_equal(g(np.ones(3), KEY), philox.dropout_mask(KEY, 0.5, 3, "float64"))


def test_what_is_only_eager():
    assert sorted(random.permutation(KEY, 5)) == [0, 1, 2, 3, 4]
    assert abs(random.truncated_normal(KEY, (100,))).max() <= 2
    for f in (
        lambda k: random.permutation(k, 5),
        lambda k: random.truncated_normal(k, (3,)),
        lambda k: random.randint(k, 0, 9, (3,)),
    ):
        with pytest.raises(UnsupportedError, match="cannot be compiled: .* pass the result"):
            fl.compile(f)(KEY)


@pytest.mark.parametrize(
    "f, message",
    [
        (lambda: random.uniform(3, (2,)), r"uniform: key must be four uint32, .* got int"),
        (lambda: random.normal(KEY[:2], (2,)), r"normal: key must be four uint32"),
        (lambda: random.uniform(KEY, (2,), low=2), r"low must be below high; got low=2, high=1.0"),
        (lambda: random.uniform(KEY, 2, int), r"dtype must be float32 or float64; got int64"),
        (lambda: random.bernoulli(KEY, 1.5), r"p must be in \[0, 1\]; got 1.5"),
        (lambda: random.dropout_mask(KEY, 1.0, (2,)), r"rate must be in \[0, 1\); got 1.0"),
        (lambda: random.bits(KEY, (2,), site=-1), r"site must be in \[0, 2\*\*32\); got -1"),
    ],
)
def test_refusals(f, message):
    with pytest.raises((ValueError, TypeError), match=message):
        f()
