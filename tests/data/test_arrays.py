"""A user's arrays: what becomes of each kind, and the sentence that refuses what cannot be used."""

import numpy as np
import pytest
import scipy.sparse

from fallline.data import as_arrays, as_examples, as_targets


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        (np.zeros((2, 3), np.float32), "float32"),
        (np.zeros((2, 3), np.float64), "float64"),
        (np.zeros((2, 3), np.float16), "float32"),
        (np.zeros((2, 3), np.longdouble), "float64"),
        (np.zeros((2, 3), np.uint8), "float32"),
        (np.zeros((2, 3), np.int64), "float32"),
        (np.zeros((2, 3), bool), "float32"),
        (np.zeros((2, 3), ">f4"), "float32"),
        ([[1.5, 2.5, 3.5], [1, 2, 3]], "float32"),
    ],
)
def test_dtypes_of_examples(given, becomes):
    X = as_examples(given)
    assert X.dtype == becomes and X.dtype.isnative and X.flags.c_contiguous
    assert np.array_equal(X, np.asarray(given, becomes))


def test_bytes_are_kept_where_they_are_wanted():
    X = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert as_examples(X, keep_uint8=True) is X
    assert as_examples(X.astype(np.int16), keep_uint8=True).dtype == np.float32


def test_what_fits_is_not_copied():
    X = np.ones((3, 4), np.float32)
    assert as_examples(X) is X
    assert as_examples(X.T).flags.c_contiguous and as_examples(X.T).shape == (4, 3)


@pytest.mark.parametrize(
    ("given", "task", "becomes"),
    [
        (np.array([0, 1, 2], np.uint8), None, "int64"),
        (np.array([True, False, True]), None, "int64"),
        (np.array([-1, 1, 1]), None, "int64"),
        ([0, 1, 2], None, "int64"),
        (np.array([0.0, 1.0, 2.0]), "classification", "int64"),
        (np.array([0.5, 1.0, 2.0]), None, "float64"),
        (np.array([0, 1, 2]), "regression", "float32"),
        (np.eye(3, dtype=int), None, "float32"),
        (np.eye(3), "classification", "float64"),
        (np.ones((3, 1)), "regression", "float64"),
    ],
)
def test_dtypes_of_targets(given, task, becomes):
    y = as_targets(given, task=task)
    assert y.dtype == becomes and np.array_equal(y, np.asarray(given, becomes))


def with_one(value, dtype=np.float64):
    X = np.zeros((3, 4), dtype)
    X[1, 2] = value
    return X


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(4), ValueError, r"fit: X must have a row for each .* Did you mean X.reshape"),
        (np.float64(1.0), ValueError, r"fit: X must have a row for each example"),
        (np.zeros((0, 4)), ValueError, r"fit: X must hold at least one value; got shape \(0, 4\)"),
        (np.zeros((4, 0)), ValueError, r"fit: X must hold at least one value"),
        (with_one(np.nan), ValueError, r"fit: X must be finite; got X\[1, 2\] = nan. Fill"),
        (with_one(-np.inf), ValueError, r"fit: X must be finite; got X\[1, 2\] = -inf. Fill"),
        (np.full((2, 2), np.nan), ValueError, r"X\[0, 0\] = nan, and 3 more like it"),
        (with_one(1e300, object), TypeError, r"fit: X must hold numbers; got dtype object"),
        (with_one(10**39, np.longdouble), None, ""),
        ([[1e300, 1.0]], ValueError, r"X\[0, 0\] = 1e\+300. It is too large for float32"),
        (with_one(1j, complex), TypeError, "fit: X must hold real numbers; got dtype complex128"),
        (np.array([["a"]]), TypeError, "must hold numbers; got dtype <U1. Encode names"),
        (np.zeros((1, 1), "M8[D]"), TypeError, "must hold numbers; got dtype datetime64"),
        (
            [[1, 2], [3]],
            ValueError,
            "X must be an array of numbers; its rows differ in length",
        ),
        (
            scipy.sparse.eye(3),
            TypeError,
            r"fit: X must be a dense array; .* X.toarray\(\)",
        ),
        (np.ma.masked_array(np.zeros((2, 2))), TypeError, r"Did you mean X.filled\(value\)"),
    ],
)
def test_refused_examples(X, error, message):
    if error is None:
        assert as_examples(X, caller="fit").dtype == np.float64
        return
    with pytest.raises(error, match=message):
        as_examples(X, caller="fit")


def test_a_sum_that_overflows_is_not_an_infinity():
    assert as_examples(np.full((100, 100), 3e38, np.float32)).shape == (100, 100)
    X = np.full((100, 100), 3e38, np.float32)
    X[-1, -1] = np.inf
    with pytest.raises(ValueError, match=r"X\[99, 99\] = inf"):
        as_examples(X)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([0, 10], {"n_classes": 10}, r"fit: y must hold labels in \[0, 10\); got 10 at index 1\.$"),
        ([-1, 1], {"n_classes": 2}, r"got -1 at index 0"),
        ([1, 2, 3], {"n_classes": 3}, r"got 3 at index 2. Do they count from 1\?"),
        (
            [0.0, 0.5],
            {"task": "classification"},
            r"whole numbers .* got 0.5 at index 1. Is",
        ),
        ([0.0, np.nan], {"task": "classification"}, r"got nan at index 1. Drop the row"),
        ([0.0, np.inf], {"task": "classification"}, r"got inf at index 1. Drop the row"),
        ([0.0, np.nan], {}, r"fit: y must be finite; got y\[1\] = nan"),
        ([[0], [1]], {"task": "classification"}, r"got shape \(2, 1\). Did you mean y.ravel\(\)"),
        (np.eye(2), {"task": "classification", "n_classes": 3}, r"rows of 3 class probabilities"),
        ([], {}, r"fit: y must have a target for each example; got shape \(0,\)"),
        (3, {}, r"fit: y must have a target for each example; got shape \(\)"),
    ],
)
def test_refused_targets(y, options, message):
    with pytest.raises(ValueError, match=message):
        as_targets(y, caller="fit", **options)


def test_names_as_labels_are_refused_with_the_cure():
    y = np.array(["cat", "dog", "cat"])
    with pytest.raises(TypeError, match=r"np.unique\(y, return_inverse=True\)\[1\] makes labels"):
        as_targets(y)
    assert as_targets(np.unique(y, return_inverse=True)[1]).tolist() == [0, 1, 0]


def test_lengths():
    with pytest.raises(ValueError, match="fit: X and y must have equally many rows; got 3 and 4"):
        as_arrays(np.zeros((3, 2)), np.zeros(4), caller="fit")
    with pytest.raises(ValueError, match="Did you mean A.T?"):
        as_arrays(np.zeros((3, 4)), np.zeros(4), names=("A", "b"))
