"""Random numbers: known answers, independence of the order, and what the distributions promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fallline.ops import philox
from fallline.ops.philox import bits, fold_in, key, normal, permutation, randint, split, uniform

K = key(20240615)
FLOATS = ("float32", "float64")
N = 200_000

# The vectors "philox4x32 10" that the authors publish with Random123: counter, key, output.
KNOWN_ANSWERS = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (" ".join(["ffffffff"] * 4), "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, keys, expected", KNOWN_ANSWERS)
def test_known_answers(counter: str, keys: str, expected: str) -> None:
    c, k = words(counter), words(keys)
    assert list(philox.philox(*c, *k)) == words(expected)
    block = c[0] | c[1] << 32
    if block < 1 << 60:  # an offset is an index of elements, four to a block
        drawn = bits(np.array([*k, *c[2:]], np.uint32), 4, offset=4 * block)
        assert drawn.tolist() == words(expected)


def test_arrays_and_integers_agree() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 1 << 32, (6, 50)).astype(np.uint64)
    arrays = np.array(philox.philox(*inputs))
    integers = [philox.philox(*column) for column in inputs.T.tolist()]
    assert arrays.T.tolist() == [list(row) for row in integers]


# Order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [bits, uniform, normal])
def test_a_piece_is_a_piece_of_the_whole(draw) -> None:
    whole = draw(K, 50_000)
    for offset in (0, 1, 2, 3, 4, 7, 32_767, 49_999):
        for count in (0, 1, 2, 3, 4, 5, 33_000):
            piece = draw(K, count, offset=offset)
            np.testing.assert_array_equal(piece[: 50_000 - offset], whole[offset:][:count])


@pytest.mark.parametrize("draw", [uniform, normal])
def test_a_piece_of_float64(draw) -> None:
    whole = draw(K, 1000, np.float64)
    for offset, count in [(0, 999), (1, 3), (2, 1), (501, 499)]:
        piece = draw(K, count, np.float64, offset=offset)
        np.testing.assert_array_equal(piece, whole[offset : offset + count])


def test_far_offsets_use_the_second_word_of_the_counter() -> None:
    far = bits(K, 8, offset=(1 << 34) - 4)
    expected = [philox.philox(0xFFFFFFFF, 0, 0, 0, int(K[0]), int(K[1]))]
    expected += [philox.philox(0, 1, 0, 0, int(K[0]), int(K[1]))]
    assert far.reshape(2, 4).tolist() == [list(row) for row in expected]


def test_shapes() -> None:
    for shape in ((), 5, (2, 3), (0,), [4, 1], np.int64(3)):
        expected = np.empty(shape).shape
        for draw in (bits, uniform, normal, philox.truncated_normal):
            assert draw(K, shape).shape == expected
        assert randint(K, 0, 9, shape).shape == philox.bernoulli(K, 0.5, shape).shape == expected
    np.testing.assert_array_equal(bits(K, (10, 7)).ravel(), bits(K, 70))


# Keys ---------------------------------------------------------------------------------------------


def test_keys_are_four_words() -> None:
    assert key(5).tolist() == [5, 0, 0, 0]
    assert key((7 << 32) + 1).tolist() == [1, 7, 0, 0]
    for derived in (key(-1), key(1 << 70), fold_in(K, 3), fold_in(K, "a"), fold_in(K, -1)):
        assert derived.dtype == np.uint32 and derived.shape == (4,)
    assert split(K, 5).shape == (5, 4)
    np.testing.assert_array_equal(split(K, 5)[:2], split(K))


def test_derived_keys_differ() -> None:
    names = ["", "a", "b", "layers.0", "layers.1", "0", "1"]
    keys = [fold_in(K, data) for data in [*range(2000), -1, -2, 1 << 64, 1 << 70, *names]]
    keys += [*split(K, 2000), K, key(0), key(-1), fold_in(fold_in(K, 0), 1)]
    keys += [bits(K, 4, offset=4 * i) for i in range(2000)]  # nor is one drawn with its parent
    assert len({row.tobytes() for row in keys}) == len(keys)


def test_fold_in_mixes_every_word() -> None:
    """One more in the data flips half of the 128 bits: 64 +- 5.7 each time."""
    keys = np.array([fold_in(K, step) for step in range(1000)])
    flipped = np.bitwise_count(keys[1:] ^ keys[:-1]).sum(axis=1)
    assert abs(flipped.mean() - 64) < 1 and flipped.min() > 35 and flipped.max() < 93


def test_sites_and_steps_are_independent() -> None:
    """Correlations of 40 streams of 10^4: each +- 0.01, and the largest of 780 below 0.05."""
    sites = [fold_in(fold_in(K, site), step) for site in ("a", "b", 0, 1) for step in range(10)]
    streams = np.array([uniform(site, 10_000, np.float64) for site in sites])
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 0.05


# Distributions ------------------------------------------------------------------------------------


def largest_gap(sample: np.ndarray, cdf: np.ndarray) -> float:
    """Kolmogorov and Smirnov: sqrt(n) times the largest distance of the distribution functions.

    Above 2.2 with probability 1.3e-4, and keys are fixed.
    """
    n = sample.size
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1]))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def chi2(counts: np.ndarray, expected: np.ndarray | float) -> float:
    """How many standard deviations the statistic is from what it should be, about."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.size - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def test_every_bit_is_fair() -> None:
    word = bits(K, N)
    for place in range(32):
        ones = int((word >> place & 1).sum())
        assert abs(ones - N / 2) < 5 * math.sqrt(N) / 2, place
    bytes_ = np.bincount(word.view(np.uint8), minlength=256)
    assert abs(chi2(bytes_, 4 * N / 256)) < 5
    pairs = np.bincount((word[::2] >> 26) * 64 + (word[1::2] >> 26), minlength=4096)
    assert abs(chi2(pairs, N / 2 / 4096)) < 5


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform(dtype: str) -> None:
    x = uniform(K, N, dtype)
    assert x.dtype == dtype and x.min() >= 0 and x.max() < 1
    assert x.mean() == pytest.approx(0.5, abs=0.004)
    assert largest_gap(x, np.sort(x.astype(float))) < 2.2
    low, high = -3.0, 5.5
    y = uniform(K, N, dtype, low, high)
    assert y.dtype == dtype and y.min() >= low and y.max() < high
    np.testing.assert_allclose(y, low + (high - low) * x.astype(float), rtol=1e-5, atol=1e-6)


def test_uniform_is_made_of_the_upper_bits() -> None:
    word = bits(K, 2000).astype(np.uint64)
    np.testing.assert_array_equal(uniform(K, 2000), (word >> 8) / 2**24)
    double = ((word[0::2] >> 5) * 2**26 + (word[1::2] >> 6)) / 2**53
    np.testing.assert_array_equal(uniform(K, 1000, np.float64), double)


def test_uniform_never_reaches_its_open_end() -> None:
    low, high = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    assert (uniform(K, 1000, np.float32, float(low), float(high)) == low).all()
    assert uniform(K, N, np.float32, 1000.0, 1001.0).max() < 1001


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(dtype: str) -> None:
    x = normal(K, N, dtype).astype(float)
    assert normal(K, 3, dtype).dtype == dtype
    moments = [np.mean(x**power) for power in range(1, 5)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.05)
    assert largest_gap(x, normal_cdf(np.sort(x))) < 2.2
    assert abs(np.corrcoef(x[0::2], x[1::2])[0, 1]) < 0.016
    assert abs(np.corrcoef(x[0::2] ** 2, x[1::2] ** 2)[0, 1]) < 0.016
    assert 4 < np.abs(x).max() < 6.8


def test_normal_is_box_and_muller() -> None:
    u, v = bits(K, (N // 2, 2)).astype(float).T
    radius = np.sqrt(-2 * np.log((u.astype(np.float32) + np.float32(0.5)).astype(float) / 2**32))
    angle = 2 * np.pi * v / 2**32
    x, y = normal(K, (N // 2, 2)).T
    np.testing.assert_allclose(x, radius * np.cos(angle), rtol=5e-7, atol=1e-9)
    np.testing.assert_allclose(y, radius * np.sin(angle), rtol=5e-7, atol=1e-9)

    w = bits(K, (N // 2, 4)).astype(np.uint64)
    u = ((w[:, 0] >> 5) * 2**26 + (w[:, 1] >> 6) + 1) / 2**53
    angle = 2 * np.pi * (((w[:, 2] >> 5) * 2**26 + (w[:, 3] >> 6)) / 2**53)
    radius = np.sqrt(-2 * np.log(u))
    x, y = normal(K, (N // 2, 2), np.float64).T
    np.testing.assert_allclose(x, radius * np.cos(angle), rtol=2e-15, atol=4e-15)
    np.testing.assert_allclose(y, radius * np.sin(angle), rtol=2e-15, atol=4e-15)


def test_normal_at_the_ends_of_the_words() -> None:
    """The longest radius is finite, the shortest 0, and the axes are met."""
    from fallline.ops import gaussian

    ends = np.array([0, 0, 0xFFFFFFFF, 0xFFFFFFFF], np.uint32)
    angles = np.array([0, 1 << 30, 1 << 31, 0xC0000000], np.uint32)
    x, y = gaussian.normal_float32(ends, angles, np)
    longest = math.sqrt(2 * 33 * math.log(2))
    np.testing.assert_allclose(x, [longest, 0, 0, 0], rtol=1e-6, atol=0)
    np.testing.assert_allclose(y, [0, longest, 0, 0], rtol=1e-6, atol=0)
    zero, top = np.zeros(1, np.uint32), ends[2:3]
    x, _ = gaussian.normal_float64((zero, zero), (zero, zero), np)
    np.testing.assert_allclose(x, math.sqrt(2 * 53 * math.log(2)), rtol=1e-15)
    x, y = gaussian.normal_float64((top, top), (top, top), np)
    assert x == 0 and y == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_truncated_normal(dtype: str) -> None:
    x = philox.truncated_normal(K, N, dtype)
    assert x.dtype == dtype and np.abs(x).max() <= 2
    ends = normal_cdf(np.array([-2.0, 2.0]))
    cdf = (normal_cdf(np.sort(x)) - ends[0]) / (ends[1] - ends[0])
    assert largest_gap(x, cdf) < 2.2
    first = normal(fold_in(K, 0), N, dtype)
    inside = np.abs(first) <= 2
    np.testing.assert_array_equal(x[inside], first[inside])
    second = normal(fold_in(K, 1), N, dtype)
    again = ~inside & (np.abs(second) <= 2)
    np.testing.assert_array_equal(x[again], second[again])
    narrow = philox.truncated_normal(K, 1000, dtype, 0.0, 0.1)
    assert narrow.min() >= 0 and narrow.max() <= 0.1


def test_bernoulli() -> None:
    for p in (0.0, 1e-4, 0.3, 0.5, 1.0):
        x = philox.bernoulli(K, p, N)
        assert x.dtype == bool
        assert abs(x.sum() - N * p) <= 5 * math.sqrt(N * p * (1 - p))
    p = np.linspace(0, 1, 11)
    x = philox.bernoulli(K, p, (20_000, 11))
    assert not x[:, 0].any() and x[:, -1].all()
    np.testing.assert_allclose(x.mean(axis=0), p, atol=0.02)
    assert philox.bernoulli(K, p).shape == (11,)
    assert philox.bernoulli_threshold(0.25) == 2**30


def test_dropout_mask() -> None:
    mask = philox.dropout_mask(K, 0.25, N)
    assert mask.dtype == np.float32 and set(np.unique(mask)) == {0, np.float32(1 / 0.75)}
    assert mask.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(mask == 0, philox.bernoulli(K, 0.25, N))


def test_randint() -> None:
    x = randint(K, -3, 7, N)
    assert x.dtype == np.int64 and set(np.unique(x)) == set(range(-3, 7))
    assert abs(chi2(np.bincount(x + 3), N / 10)) < 5
    word = bits(K, (100, 2)).astype(object)
    for low, high, dtype in [
        (0, 2, np.int8),
        (0, 2**32 + 1, np.int64),
        (-(2**63), 2**63, np.int64),
        (0, 2**64, np.uint64),
        (5, 2**63 - 25, np.int64),
        (-128, 128, np.int8),
    ]:
        got = randint(K, low, high, 100, dtype)
        expected = [low + ((hi << 32 | lo) * (high - low) >> 64) for hi, lo in word]
        assert got.dtype == dtype and got.tolist() == expected


def test_permutation() -> None:
    for n in (0, 1, 2, 3, 1000):
        assert sorted(permutation(K, n).tolist()) == list(range(n))
    orders = [tuple(permutation(fold_in(K, i), 4).tolist()) for i in range(12_000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert counts.size == 24 and abs(chi2(counts, 500)) < 5
    word = bits(K, (1000, 2)).astype(np.uint64)
    same = np.argsort(word[:, 0] << 32 | word[:, 1] & ~np.uint64(1023), kind="stable")
    np.testing.assert_array_equal(permutation(K, 1000), same)


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: key(0.5), "key: seed must be an integer; got 0.5"),
        (lambda: fold_in(K, 1.0), "fold_in: data must be an integer"),
        (lambda: bits(K.astype(np.int64), 3), r"bits: key must be four uint32.*got int64\[4\]"),
        (lambda: bits(split(K), 3), r"got uint32\[2, 4\]"),
        (lambda: uniform(K, 3, np.int32), "uniform: dtype must be float32 or float64; got int32"),
        (lambda: uniform(K, 3, low=1, high=1), "uniform: low must be below high; got low=1"),
        (lambda: normal(K, 3, np.float16), "normal: dtype must be float32 or float64"),
        (lambda: philox.bernoulli(K, [0.5, 1.5]), r"bernoulli: p must be in \[0, 1\]; got 1.5"),
        (lambda: philox.bernoulli(K, math.nan), "got nan"),
        (lambda: philox.dropout_mask(K, 1.0, 3), r"rate must be in \[0, 1\); got 1.0"),
        (lambda: philox.truncated_normal(K, 3, low=5, high=6), "0.01 of the normal distribution"),
        (lambda: randint(K, 3, 3, 1), "randint: low must be below high"),
        (lambda: randint(K, 0, 300, 1, np.uint8), r"integers that hold \[0, 300\); got uint8"),
        (lambda: permutation(K, -1), "permutation: n must not be negative; got -1"),
    ],
)
def test_mistakes_are_named(call, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
