"""Data sets, their splits and scales, and the digits that are part of the package."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallline.data import (
    Dataset,
    Examples,
    digits,
    from_arrays,
    minmax,
    split,
    standardise,
    standardiser,
)


def examples(n, classes=3):
    return Examples(np.arange(n, dtype=float)[:, None], np.arange(n) % classes)


@given(
    n=st.integers(2, 60),
    held=st.integers(1, 59),
    classes=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_stratified_split(n, held, classes, seed):
    whole = examples(n, classes)
    if held >= n:
        with pytest.raises(ValueError, match=f"both parts must hold an example; got {held} of {n}"):
            split(whole, held, seed=seed)
        return
    kept, out = split(whole, held, seed=seed)
    assert len(out.y) == held and len(kept.y) == n - held
    assert sorted([*kept.X[:, 0], *out.X[:, 0]]) == list(range(n))
    assert np.array_equal(whole.y[out.X[:, 0].astype(int)], out.y)
    assert np.all(np.diff(out.X[:, 0]) > 0)  # the order of the originals
    share = np.bincount(whole.y) * held / n
    assert np.all(np.abs(np.bincount(out.y, minlength=len(share)) - share) <= 1)


def test_a_split_by_share_and_seed():
    whole = examples(100)
    first, again, other = (split(whole, 0.25, seed=seed)[1] for seed in (0, 0, 1))
    assert len(first.y) == 25 and np.array_equal(first.X, again.X)
    assert not np.array_equal(first.X, other.X)
    one_hot = Examples(whole.X, np.eye(3)[whole.y])
    assert np.array_equal(split(one_hot, 0.25)[1].X, first.X)
    assert len(split(whole, 10, stratify=False)[1].y) == 10


@pytest.mark.parametrize("part", [-1, 1.0, -0.1, True, "half", None])
def test_what_is_no_part(part):
    with pytest.raises(ValueError, match=r"split: a part must be a number of examples or a share"):
        split(examples(10), part)


def test_from_arrays():
    X, y = np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 2
    data = from_arrays(X, y, validation=0.2, test=10, name="mine")
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [30, 10, 10]
    assert data.classes == ("0", "1") and data.task == "classification"
    rows = np.concatenate([part.X for part in (data.train, data.validation, data.test)])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, X))
    alone = from_arrays(X, y, validation=0, test=0)
    assert alone.validation is None and alone.test is None and alone.train.X is X
    real = from_arrays(X, X[:, 0])
    assert real.task == "regression" and real.n_classes == 0 and "regression" in repr(real)
    rows = from_arrays(X, np.eye(2)[y], task="classification")
    assert rows.n_classes == 2


def test_from_arrays_refuses():
    X = np.zeros((10, 2))
    with pytest.raises(ValueError, match=r"compare: y must hold labels in \[0, 2\); got 2"):
        from_arrays(X, np.arange(10) % 3, classes=("cat", "dog"), caller="compare")
    with pytest.raises(ValueError, match="compare: X and y must have equally many rows"):
        from_arrays(X, np.zeros(9), caller="compare")
    with pytest.raises(ValueError, match="from_arrays: both parts must hold an example"):
        from_arrays(X, np.zeros(10), validation=10, test=0)


def test_a_data_set_splits_off_a_validation():
    data = Dataset("numbers", examples(30), classes=("a", "b", "c"))
    assert data.validation is None and data.feature_shape == (1,)
    cut = data.split(0.2, seed=3)
    assert len(cut.validation.y) == 6 and len(cut.train.y) == 24 and cut.classes == data.classes
    X, y = cut.train
    assert X is cut.train.X and y is cut.train.y


def test_repr():
    assert repr(Dataset("numbers", examples(2000), classes=("a", "b", "c"))).splitlines() == [
        "Dataset 'numbers': 3 classes, examples of 1",
        "  train       X float64 2,000 x 1  y int64 2,000",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_standardise(dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(500, 3)) * [1, 10, 0] + [5, -3, 0.1]).astype(dtype)
    scaled = standardise(Dataset("x", Examples(X, X[:, 0]), test=Examples(X[:7], X[:7, 0])))
    Z = scaled.train.X
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    assert Z.dtype == dtype
    assert np.allclose(Z.mean(axis=0, dtype=float), 0, atol=tolerance)
    assert np.allclose(Z.std(axis=0, dtype=float), [1, 1, 0], atol=tolerance)
    assert np.array_equal(scaled.test.X, Z[:7])
    assert np.allclose(standardiser(X).inverse(Z), X, rtol=1e-5)


def test_scales_of_images():
    X = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    change = standardiser(X, axis=(0, 2, 3))
    assert change.shift.shape == (1, 3, 1, 1)
    Z = change(X)
    assert Z.dtype == np.float32 and np.allclose(Z.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    unit = minmax(X, axis=(0, 1, 2, 3))(X)
    assert unit.min() == 0 and unit.max() == 1


def test_minmax_of_a_constant():
    assert np.array_equal(minmax(np.full((3, 1), 7.0))(np.full((2, 1), 7.0)), np.zeros((2, 1)))


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    X, y = datasets.load_digits(return_X_y=True)
    data = digits()
    rank = [int(np.sum(y[:i] == label)) % 5 for i, label in enumerate(y)]
    for part, ranks in (("train", (0, 1, 2)), ("validation", (3,)), ("test", (4,))):
        rows = np.isin(rank, ranks)
        assert np.array_equal(getattr(data, part).X, X[rows] / 16)
        assert np.array_equal(getattr(data, part).y, y[rows])


def test_digits_as_images():
    flat, images = digits(), digits(flat=False)
    assert images.feature_shape == (1, 8, 8) and images.train.X.dtype == np.float32
    assert np.array_equal(images.train.X.reshape(-1, 64), flat.train.X)
    for part in (flat.train, flat.validation, flat.test):
        counts = np.bincount(part.y, minlength=10)
        assert counts.min() > 0.09 * counts.sum()


def test_images_and_rows_are_the_same_numbers():
    data = digits()
    images = data.as_images()
    assert data.image_shape == images.image_shape == images.feature_shape == (1, 8, 8)
    for part in ("train", "validation", "test"):
        rows, found = getattr(data, part), getattr(images, part)
        assert np.shares_memory(rows.X, found.X) and np.array_equal(rows.y, found.y)
        assert np.array_equal(found.X[:, 0, 3, 2], rows.X[:, 8 * 3 + 2])
    assert images.as_images().feature_shape == (1, 8, 8)
    assert images.as_rows().feature_shape == (64,) and digits(flat=False).as_rows().image_shape
    assert images.split(0.2).image_shape == (1, 8, 8)


def test_what_are_no_images_cannot_become_some():
    data = from_arrays(np.zeros((20, 6)), np.arange(20) % 2)
    with pytest.raises(
        ValueError, match=r"as_images: the examples of 'arrays', of 6, must be images"
    ):
        data.as_images()
    halves = digits().map_X(lambda X: X[:, :32])
    assert halves.image_shape == ()
    with pytest.raises(ValueError, match="as_images"):
        halves.as_images()
    whole = data.map_X(lambda X: X.reshape(-1, 1, 2, 3))
    assert whole.as_rows().feature_shape == (6,)
