"""Statistics in chunks, beside those of a float64 copy."""

import fractions

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline.data import Affine, channel_standardiser, moments, standardiser, statistics
from fallline.data.statistics import chunks, covariance


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few rows."""
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", 2000)


def images(dtype, n=37, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.uint8:
        return rng.integers(0, 256, (n, 3, 5, 4), dtype=np.uint8)
    return (rng.normal(size=(n, 3, 5, 4)) * [[[3.0]], [[0.1]], [[50.0]]] + 1000).astype(dtype)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("axis", [0, (0, 2, 3), (0, 1, 2, 3), (0, -1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16])
def test_moments(dtype, axis):
    X = images(dtype)
    assert len(list(chunks(X))) > 5
    mean, std = moments(X, axis=axis)
    wide = X.astype(np.float64)
    # rounding of sums in another order, of values around 1000
    assert np.allclose(mean, wide.mean(axis=axis, keepdims=True), rtol=1e-13, atol=0)
    assert np.allclose(std, wide.std(axis=axis, keepdims=True), rtol=1e-9, atol=0)


def test_bytes_are_counted_exactly():
    X = images(np.uint8, n=200, seed=3)
    mean, std = moments(X, axis=(0, 2, 3))
    for channel in range(3):
        values = [fractions.Fraction(int(v)) for v in X[:, channel].ravel()]
        m = sum(values) / len(values)
        variance = sum(v * v for v in values) / len(values) - m * m
        assert mean[0, channel, 0, 0] == float(m)
        assert std[0, channel, 0, 0] == pytest.approx(float(variance) ** 0.5, rel=1e-15)


def test_large_rows_of_bytes_do_not_overflow():
    X = np.full((1, 1, 3000, 3000), 255, np.uint8)  # 9 million, whose squares times n exceed int64
    X[0, 0, 0, 0] = 0
    mean, std = moments(X, axis=(0, 2, 3))
    n = X.size
    assert mean.item() == pytest.approx(255 * (n - 1) / n, rel=1e-14)
    assert std.item() == pytest.approx(255 * np.sqrt(n - 1) / n, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_standardised_data_have_mean_0_and_deviation_1(n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, d) + rng.normal(size=d) * 100
    X[:, 0] = 7.25  # constant
    Z = standardiser(X)(X)
    assert np.allclose(Z.mean(axis=0), 0, atol=1e-9)
    expected = np.ones(d) if n > 1 else np.zeros(d)
    expected[0] = 0
    assert np.allclose(Z.std(axis=0), expected, atol=1e-9)


def test_channel_standardiser():
    X = images(np.uint8)
    scaler = channel_standardiser(X)
    assert scaler.shift.shape == scaler.scale.shape == (1, 3, 1, 1)
    Z = scaler(X)
    assert Z.dtype == np.float32
    assert np.allclose(Z.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    assert np.allclose(Z.std(axis=(0, 2, 3)), 1, atol=1e-6)
    assert np.array_equal(np.rint(scaler.inverse(Z)).astype(np.uint8), X)
    with pytest.raises(ValueError, match=r"channel_standardiser: X must be images .*as_images"):
        channel_standardiser(X.reshape(len(X), -1))


def test_moments_need_examples():
    for X, axis in ((np.zeros((0, 3)), 0), (np.zeros((3, 3)), 1)):
        with pytest.raises(ValueError, match="moments: axis must include 0"):
            moments(X, axis=axis)


@pytest.mark.usefixtures("small_chunks")
def test_covariance():
    X = images(np.uint8)
    rows = X.reshape(len(X), -1).astype(np.float64)
    found = covariance(X, rows.mean(axis=0))
    assert np.allclose(found, np.cov(rows.T, bias=True), rtol=1e-11, atol=1e-9)


def test_equal_scales_are_equal():
    a, b = (Affine(np.array([1.0]), np.array([2.0])) for _ in range(2))
    assert a == b and hash(a) == hash(b)
    assert a != Affine(np.array([1.0]), np.array([3.0])) and a != 1


def test_a_scale_is_the_first_layer_of_a_network():
    """Bytes stay bytes in memory; the compiled step brings them to scale."""
    import fallline as fl

    X, y = images(np.uint8, n=40), np.arange(40) % 2
    scaler = channel_standardiser(X)
    flatten = lambda x: np.reshape(x, (-1, 60))
    settings = {"epochs": 2, "batch_size": 16, "progress": False}
    raw = fl.nn.Sequential(scaler, flatten, fl.nn.Linear(60, 2, seed=0))
    losses = fl.fit(raw, (X, y), **settings).loss
    ready = fl.nn.Sequential(flatten, fl.nn.Linear(60, 2, seed=0))
    expected = fl.fit(ready, (scaler(X), y), **settings).loss
    assert np.array_equal(losses, expected)
    assert np.array_equal(raw.predict(X), ready.predict(scaler(X)))
