"""Initialisers: moments, ranges, structure; each by its name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fallline import nn
from fallline.nn import initialisers
from fallline.nn.initialisers import INITIALISERS, fans
from fallline.ops import philox

SHAPE = (300, 200)
KEY = philox.key(1)

# standard deviation, and the largest value where there is one
MOMENTS = {
    "glorot_uniform": (math.sqrt(2 / 500), math.sqrt(6 / 500)),
    "glorot_normal": (math.sqrt(2 / 500), None),
    "he_uniform": (math.sqrt(2 / 300), math.sqrt(6 / 300)),
    "he_normal": (math.sqrt(2 / 300), None),
    "lecun_uniform": (math.sqrt(1 / 300), math.sqrt(3 / 300)),
    "lecun_normal": (math.sqrt(1 / 300), None),
    "uniform": (0.1 / math.sqrt(12), 0.05),
    "normal": (0.05, None),
    "truncated_normal": (0.05 * 0.8796256610342398, 0.1),
    "orthogonal": (1 / math.sqrt(300), None),
    "constant": (0, 0),
    "zeros": (0, 0),
}


def test_every_initialiser_has_a_case():
    assert MOMENTS.keys() == INITIALISERS.keys()


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments(name, dtype):
    std, largest = MOMENTS[name]
    w = nn.initialiser(name)(KEY, SHAPE, dtype)
    assert (w.shape, w.dtype) == (SHAPE, dtype)
    assert w.flags.c_contiguous
    assert abs(w.mean()) <= 5 * std / math.sqrt(w.size)
    assert w.std() == pytest.approx(std, rel=0.02)
    if largest:
        assert 0.99 * largest < abs(w).max() <= largest * (1 + 1e-6)
    np.testing.assert_array_equal(w, nn.initialiser(name)(KEY, SHAPE, dtype))


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (3, 3, 4, 50), (7,)])
def test_orthogonal(shape):
    w = initialisers.orthogonal(KEY, shape, np.float64, gain=2.0)
    rows = w.reshape(-1, shape[-1])
    small = rows.T @ rows if len(rows) >= shape[-1] else rows @ rows.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_is_uniform_over_rotations():
    """Without the signs of R's diagonal, the first entry would never be positive."""
    first = [initialisers.orthogonal(philox.key(s), (2, 2))[0, 0] for s in range(200)]
    assert abs(np.mean(first)) < 5 * math.sqrt(0.5 / 200)


def test_fans():
    assert fans((784, 100)) == (784, 100)
    assert fans((5, 5, 6, 16)) == (150, 400)
    assert fans((7,)) == (7, 7)
    assert fans(()) == (1, 1)


def test_settings():
    wide = nn.initialiser("uniform", low=-1, high=1)
    w = wide(KEY, SHAPE)
    assert w.min() < -0.99 and w.max() > 0.99
    assert wide == nn.initialiser("uniform", high=1, low=-1)
    assert wide != nn.initialiser("uniform")
    assert (nn.initialiser("constant", value=3)(KEY, (2,)) == 3).all()
    layer = nn.Linear(3, 2, init=nn.initialiser("constant", value=3))
    assert (layer.W == 3).all()


def test_functions_are_taken_too():
    assert nn.initialiser(initialisers.he_normal) == nn.initialiser("he_normal")
    ones = lambda key, shape, dtype: np.ones(shape, dtype)
    assert (nn.Linear(3, 2, init=ones).init(4).W == 1).all()


@pytest.mark.parametrize(
    "how, message",
    [
        (("he_normall", {}), r"none called 'he_normall'\. Did you mean he_normal\?"),
        (("qqq", {}), r"none called 'qqq'\. There are glorot_uniform, "),
        (("uniform", {"lo": 1}), r"uniform has no setting 'lo': its settings are low, high\."),
        (("zeros", {"value": 1}), r"zeros has no setting 'value': it has no settings\."),
    ],
)
def test_refusals(how, message):
    with pytest.raises((ValueError, TypeError), match=message):
        nn.initialiser(how[0], **how[1])
