"""The order of an epoch and its mini-batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallline.data import batches, epoch_order, partition


@given(n=st.integers(1, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**63 - 1))
def test_an_order_is_a_permutation(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, epoch_order(n, seed, epoch))


def test_the_order_is_the_same_everywhere():
    """Philox's words are the same on every machine, so these numbers are too."""
    assert epoch_order(8, 7, 3).tolist() == [7, 2, 0, 5, 1, 3, 6, 4]
    assert epoch_order(8, 7, 3, replacement=True).tolist() == [6, 5, 1, 4, 7, 2, 6, 7]


def test_seeds_and_epochs_differ():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_an_order_is_fair():
    """Each example stands in each place equally often: chi-squared of 10 x 10 counts, 81 free."""
    counts = np.zeros((10, 10))
    for epoch in range(5000):
        counts[np.arange(10), epoch_order(10, 0, epoch)] += 1
    chi2 = ((counts - 500) ** 2 / 500).sum()
    assert 42 < chi2 < 133  # 1e-4 on either side


def test_draws_with_replacement_are_fair():
    draws = epoch_order(100_000, 0, 0, replacement=True)
    assert draws.min() >= 0 and draws.max() < 100_000
    share = len(np.unique(draws)) / 100_000
    assert abs(share - (1 - np.exp(-1))) < 0.005  # its standard deviation is 0.001


@given(n=st.integers(1, 200), size=st.integers(1, 250), drop_last=st.booleans())
def test_a_partition_covers(n, size, drop_last):
    if drop_last and size > n:
        with pytest.raises(ValueError, match="No batch would be left"):
            partition(n, size, drop_last=True)
        return
    parts = partition(n, size, drop_last=drop_last)
    covered = [i for part in parts for i in range(n)[part]]
    assert covered == list(range(n - n % size if drop_last else n))
    assert all(len(range(n)[part]) == size for part in parts[:-1])


def test_a_partition_of_the_lecture():
    assert len(partition(60_000, 128)) == 469
    assert len(partition(60_000, 128, drop_last=True)) == 468
    assert partition(5, None) == [slice(0, 5)]
    assert len(partition(5, 1)) == 5


def test_batches_keep_rows_together():
    X, y = np.arange(20).reshape(10, 2), np.arange(10)
    seen = []
    for xb, yb in batches(X, y, batch_size=4, seed=1, epoch=2):
        assert np.array_equal(xb[:, 0], 2 * yb)
        seen += yb.tolist()
    assert seen == epoch_order(10, 1, 2).tolist()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: epoch_order(0, 0, 0),
            ValueError,
            r"epoch_order: n must be in \[1, .*; got 0",
        ),
        (lambda: epoch_order(5, -1, 0), ValueError, r"epoch_order: seed must be in .*; got -1"),
        (
            lambda: epoch_order(5, 0, 0.5),
            TypeError,
            r"epoch must be an integer; got 0.5",
        ),
        (lambda: epoch_order(5, None, 0), TypeError, r"epoch_order: seed must be an integer"),
        (lambda: partition(5, 0), ValueError, r"partition: batch_size must be in \[1, .*; got 0"),
        (
            lambda: partition(5, True),
            TypeError,
            r"batch_size must be an integer; got True",
        ),
        (lambda: next(batches(batch_size=2)), ValueError, r"equally many rows; got none"),
        (lambda: next(batches([1], [1, 2], batch_size=2)), ValueError, r"rows; got 1, 2"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
