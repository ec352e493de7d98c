"""What holds for every layer, from one table."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops
from fallline.core import tree
from fallline.nn.models.resnet import ZeroPadded
from fallline.testing import check_gradients

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(5, 4))
IMAGES = RNG.permutation(2 * 4 * 6 * 6).reshape(2, 4, 6, 6) / 100.0  # no two are near a tie

WIDE = {"seed": 0, "dtype": np.float64}
LAYERS = {
    nn.Linear: (lambda: nn.Linear(4, 3, bias=0.5, **WIDE), ROWS),
    nn.Activation: (lambda: nn.Activation("elu", alpha=0.5), ROWS),
    nn.Dropout: (lambda: nn.Dropout(0.5), ROWS),
    nn.Sequential: (lambda: nn.Sequential(nn.Linear(4, 3, **WIDE), act=ops.tanh), ROWS),
    nn.Conv2d: (lambda: nn.Conv2d(4, 6, 3, stride=2, padding="same", groups=2, **WIDE), IMAGES),
    nn.ConvTranspose2d: (lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, **WIDE), IMAGES),
    nn.MaxPool2d: (lambda: nn.MaxPool2d(3, stride=2, padding=1), IMAGES),
    nn.AvgPool2d: (lambda: nn.AvgPool2d(2, padding=1, count_padding=False), IMAGES),
    nn.GlobalAvgPool: (nn.GlobalAvgPool, IMAGES),
    nn.Flatten: (nn.Flatten, IMAGES),
    nn.BatchNorm: (lambda: nn.BatchNorm(4, momentum=0.2, dtype=np.float64), IMAGES),
    nn.LayerNorm: (lambda: nn.LayerNorm((6, 6), eps=1e-3, dtype=np.float64), IMAGES),
    nn.Standardise: (lambda: nn.Standardise([1.0] * 4, [2.0] * 4, dtype=np.float64), IMAGES),
    nn.Residual: (lambda: nn.Residual(nn.Conv2d(4, 4, 1, **WIDE), activation=ops.tanh), IMAGES),
    nn.Concat: (lambda: nn.Concat(nn.Conv2d(4, 2, 1, **WIDE), keep_input=True), IMAGES),
    ZeroPadded: (lambda: ZeroPadded(2, 3), IMAGES),
}
EVERY = pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)


def context(mode):
    return nn.Context(mode, key=ops.random.key(1))


def test_every_layer_has_a_row():
    ours = {
        value
        for value in vars(nn).values()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value is not nn.Module
    }
    assert ours <= LAYERS.keys()


@EVERY
def test_gradients_in_training(kind):
    make, x = LAYERS[kind]
    f = lambda layer, x: np.tanh(layer(x, ctx=context("train")))
    check_gradients(f, make(), x, order=1, compiled=False)


@EVERY
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_compiled_as_eagerly(kind, mode):
    make, x = LAYERS[kind]
    f = lambda layer, x: layer(x, ctx=context(mode))
    np.testing.assert_allclose(fl.compile(f)(make(), x), f(make(), x), rtol=1e-12, atol=1e-12)


@EVERY
def test_copies_and_files(kind, tmp_path):
    make, x = LAYERS[kind]
    layer = make()
    for _, array in layer.named_buffers():
        array += 0.25
    nn.save(layer, tmp_path / "layer")
    for back in (layer.copy(), pickle.loads(pickle.dumps(layer)), nn.load(tmp_path / "layer")):
        assert type(back) is kind
        assert repr(back) == repr(layer)
        assert tree.structure(back) == tree.structure(layer)
        np.testing.assert_array_equal(back(x), layer(x))


@EVERY
def test_drawn_anew(kind):
    """By a seed, to where such a layer starts."""
    make, _ = LAYERS[kind]
    layer, other = make().init(5), make().init(5)
    for _, array in (*other.named_parameters(), *other.named_buffers()):
        array += 1
    other.init(5)
    fixed = kind is nn.Standardise
    for (name, a), (_, b) in zip(
        tree.named_leaves(layer, whole=True), tree.named_leaves(other, whole=True), strict=True
    ):
        assert np.array_equal(a, b) or fixed, name


@EVERY
def test_weights_by_name(kind):
    make, x = LAYERS[kind]
    layer, other = make(), make().init(9)
    for names in ("fallline", "torch"):
        nn.load_weights(other, nn.state_dict(layer, names=names), names=names)
        np.testing.assert_array_equal(other(x), layer(x))


@EVERY
def test_documented(kind):
    assert inspect.getdoc(kind) and "\n" in inspect.getdoc(kind)
