"""An epoch: the order of the examples, cut into mini-batches. Functions of (n, seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_SITE = 0x6F72646572  # "order": keeps these numbers apart from all others drawn from the same seed


def epoch_order(n: int, seed: int, epoch: int, *, replacement: bool = False) -> Array:
    """Indices in the order in which an epoch visits n examples: (n,), int64.

    A permutation, or n independent draws with replacement. The same (n, seed, epoch) gives the same
    order on every machine and with every version of NumPy: it depends on the words of Philox alone,
    not on how NumPy makes a permutation of them.

    >>> epoch_order(6, seed=0, epoch=0), epoch_order(6, seed=0, epoch=1)
    (array([3, 4, 2, 1, 5, 0]), array([3, 4, 5, 0, 2, 1]))
    """
    n = _count("epoch_order", "n", n, least=1)
    words = _philox(seed, epoch).random_raw(n)
    if replacement:
        words %= np.uint64(n)  # uneven by n / 2**64
        return words.view(np.int64)
    # The index in the low bits of a random word: one sort shuffles, and ties cannot be.
    low = np.uint64((1 << n.bit_length()) - 1)
    words &= ~low
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    words &= low
    return words.view(np.int64)


def partition(n: int, batch_size: int | None, *, drop_last: bool = False) -> list[slice]:
    """Cut n examples into mini-batches; the last may be smaller, and is left out by `drop_last`.

    `None` is the full batch, 1 a single example at a time.

    >>> len(partition(60_000, 128)), partition(60_000, 128)[-1]
    (469, slice(59904, 60000, None))
    >>> len(partition(60_000, 128, drop_last=True)), len(partition(60_000, None))
    (468, 1)
    """
    n = _count("partition", "n", n, least=1)
    size = n if batch_size is None else _count("partition", "batch_size", batch_size, least=1)
    if drop_last and size > n:
        raise ValueError(
            f"partition: batch_size must be at most n = {n} when the last batch is dropped; "
            f"got {size}. No batch would be left."
        )
    end = n - n % size if drop_last else n
    return [slice(start, min(start + size, n)) for start in range(0, end, size)]


def batches(
    *arrays: Array,
    batch_size: int | None,
    seed: int = 0,
    epoch: int = 0,
    replacement: bool = False,
    drop_last: bool = False,
) -> Iterator[tuple[Array, ...]]:
    """One epoch of shuffled mini-batches of arrays with equally many rows; each batch is a copy.

    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [yb for Xb, yb in batches(X, y, batch_size=2)]
    [array([3, 4]), array([2, 1]), array([0])]
    """
    lengths = {len(a) for a in arrays}
    if len(lengths) != 1:
        found = ", ".join(f"{len(a):,}" for a in arrays) or "none"
        raise ValueError(f"batches: the arrays must have equally many rows; got {found}.")
    n = lengths.pop()
    order = epoch_order(n, seed, epoch, replacement=replacement)
    for part in partition(n, batch_size, drop_last=drop_last):
        yield tuple(a[order[part]] for a in arrays)


def _philox(seed: int, epoch: int) -> np.random.Philox:
    seed = _count("epoch_order", "seed", seed, least=0)
    epoch = _count("epoch_order", "epoch", epoch, least=0)
    # The epoch in the counter's highest word: streams of 2**192 numbers that never meet.
    return np.random.Philox(key=[seed, _SITE], counter=[0, 0, 0, epoch])


def _count(caller: str, name: str, value: int, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{caller}: {name} must be an integer; got {value!r}.")
    if not least <= value < 1 << 63:
        raise ValueError(f"{caller}: {name} must be in [{least}, 2**63); got {value}.")
    return int(value)
