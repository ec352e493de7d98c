"""Random numbers that are a function of a key and an index: no state, the same bits in any order.

    word i  =  lane i mod 4 of  Philox4x32-10(counter = (i // 4, c2, c3), key = (k0, k1))

A key is an array [k0, k1, c2, c3] of uint32. Element i of a result, counted in C order, depends on
the key and on i alone. So a range may be drawn in pieces, by any number of threads, by NumPy here
or by a compiled kernel. One key is for one use: `split` and `fold_in` make more of them.
Salmon, Moraes, Dror and Shaw 2011, Parallel random numbers: as easy as 1, 2, 3. SC '11, section 3.

>>> k = key(42)
>>> uniform(fold_in(k, "dropout"), (2,)).dtype
dtype('float32')
>>> bool((bits(k, 10)[3:] == bits(k, 7, offset=3)).all())
True
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fallline.ops import gaussian

__all__ = [
    *["key", "fold_in", "split", "bits", "uniform", "normal", "truncated_normal", "bernoulli"],
    *["randint", "permutation"],
]

Key = NDArray[np.uint32]
Shape = int | Sequence[int]

_MASK = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_CHUNK = 8192  # blocks at a time: the temporaries of the ten rounds stay in cache
# New keys come from ciphers of their own: none is also a number drawn with its parent.
FOLD_INTEGER, FOLD_STRING, SPLIT = 0x464F4C44, 0x4E414D45, 0x53504C54


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10: four words of counter and two of key to four words of output.

    A word is a number below 2^32 in something that holds 64 bits: an int, an array of uint64, a
    value of a kernel.
    """
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ (c1 ^ k0), p1 & _MASK, (p0 >> 32) ^ (c3 ^ k1), p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


# Keys


def key(seed: int) -> Key:
    """The key of a seed. Seeds from 0 to 2^64 - 1 have different keys, others a hash."""
    low, high = _words64(_integer("key", "seed", seed))
    return np.array([low, high, 0, 0], np.uint32)


def fold_in(key: Key, data: int | str) -> Key:
    """A new key from a key and a step number or a name: one Philox block, so all words are mixed.

    A name stands for 64 bits of its BLAKE2b hash; an integer outside [0, 2^64) likewise.
    """
    k0, k1, c2, c3 = _key_words("fold_in", key)
    if isinstance(data, str):
        domain, number = FOLD_STRING, _hash64(data)
    else:
        domain, number = FOLD_INTEGER, _integer("fold_in", "data", data)
    return np.array(philox(*_words64(number), c2, c3, k0 ^ domain, k1), np.uint32)


def split(key: Key, n: int = 2) -> Key:
    """n new keys, the rows of an (n, 4) array. Row i does not depend on n."""
    k0, k1, c2, c3 = _key_words("split", key)
    index = np.arange(n, dtype=np.uint64)
    return np.stack(philox(index, 0, c2, c3, k0 ^ SPLIT, k1), axis=1).astype(np.uint32)


# Numbers


def bits(key: Key, shape: Shape, offset: int = 0) -> NDArray[np.uint32]:
    """Random words: the elements from `offset` on."""
    words = _key_words("bits", key)
    shape = _shape(shape)
    count = math.prod(shape)
    first, last = offset // 4, -(-(offset + count) // 4)
    out = np.empty((last - first, 4), np.uint32)
    for start in range(0, len(out), _CHUNK):
        part = out[start : start + _CHUNK]
        block = np.arange(first + start, first + start + len(part), dtype=np.uint64)
        for lane, word in enumerate(_blocks(words, block)):
            part[:, lane] = word
    return out.reshape(-1)[offset - 4 * first :][:count].reshape(shape)


def _blocks(key_words: tuple[int, int, int, int], block: NDArray[np.uint64]) -> tuple[Any, ...]:
    k0, k1, c2, c3 = key_words
    return philox(block & _MASK, block >> 32, c2, c3, k0, k1)


def uniform(
    key: Key,
    shape: Shape,
    dtype: DTypeLike = np.float32,
    low: float = 0.0,
    high: float = 1.0,
    *,
    offset: int = 0,
) -> NDArray[Any]:
    """Uniform in [low, high): low + (high - low) u, at most the number before high.

    In float32 u has the upper 24 bits of word i; in float64 the upper 27 bits of word 2 i above the
    upper 26 of word 2 i + 1.
    """
    dtype, shape = _float("uniform", dtype), _shape(shape)
    if not low < high:
        raise ValueError(f"uniform: low must be below high; got low={low}, high={high}.")
    count = math.prod(shape)
    if dtype == np.float32:
        u = gaussian.uniform_float32(bits(key, count, offset))
    else:
        words = bits(key, 2 * count, 2 * offset)
        u = gaussian.uniform_float64(words[0::2], words[1::2])
    if (low, high) != (0.0, 1.0):
        u = scale_uniform(u, *uniform_range(dtype, low, high), np)
    return u.reshape(shape)


def uniform_range(dtype: DTypeLike, low: float, high: float) -> tuple[float, float, float]:
    """low, high - low and the largest number below high, rounded to the type."""
    kind: Any = np.dtype(dtype).type
    first, end = kind(low), kind(high)
    return float(first), float(end - first), float(np.nextafter(end, first))


def scale_uniform(u: Any, low: Any, width: Any, last: Any, ops: Any) -> Any:
    """low + width u. The sum may round up to the open end, from which `last` takes it back."""
    x = u * width + low
    return ops.where(x > last, last, x)


def normal(
    key: Key, shape: Shape, dtype: DTypeLike = np.float32, *, offset: int = 0
) -> NDArray[Any]:
    """Standard normal numbers, by Box and Muller.

    Elements 2 j and 2 j + 1 are a pair. In float32 it is made of words 2 j (its radius) and 2 j + 1
    (its angle), in float64 of words 4 j to 4 j + 3, two for each. See `gaussian`.
    """
    dtype, shape = _float("normal", dtype), _shape(shape)
    count = math.prod(shape)
    first, last = offset // 2, -(-(offset + count) // 2)
    per_pair = 2 if dtype == np.float32 else 4
    words = bits(key, (last - first, per_pair), per_pair * first)
    out = np.empty((len(words), 2), dtype)
    for start in range(0, len(words), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part, 0], out[part, 1] = _normal_pairs(np.ascontiguousarray(words[part].T))
    return out.reshape(-1)[offset - 2 * first :][:count].reshape(shape)


def _normal_pairs(words: NDArray[np.uint32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pairs of float32 from two rows of words, of float64 from four."""
    if len(words) == 2:
        return gaussian.normal_float32(words[0], words[1], np)
    return gaussian.normal_float64((words[0], words[1]), (words[2], words[3]), np)


def truncated_normal(
    key: Key,
    shape: Shape,
    dtype: DTypeLike = np.float32,
    low: float = -2.0,
    high: float = 2.0,
) -> NDArray[Any]:
    """Normal numbers given that low <= x <= high, by rejection.

    An element's attempt t is that element of normal(fold_in(key, t), ...). Raises ValueError if the
    interval holds less than a hundredth of the normal distribution.
    """
    mass = 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    if not mass >= 0.01:
        raise ValueError(
            f"truncated_normal: the interval must hold 0.01 of the normal distribution; "
            f"got [{low}, {high}], which holds {mass:.2g}."
        )
    dtype = _float("truncated_normal", dtype)
    out = normal(fold_in(key, 0), shape, dtype)
    flat, attempt = out.reshape(-1), 0
    while (missing := np.flatnonzero((flat < low) | (flat > high))).size:
        attempt += 1
        flat[missing] = _normal_at(fold_in(key, attempt), missing, dtype)
    return out


def _normal_at(key: Key, index: NDArray[np.intp], dtype: np.dtype) -> NDArray[Any]:
    """Elements of normal(key, ...) here and there."""
    per_block = 4 if dtype == np.float32 else 2
    block = (index // per_block).astype(np.uint64)
    words = np.stack(_blocks(_key_words("normal", key), block)).astype(np.uint32)
    if dtype == np.float32:
        words = np.where(index % 4 < 2, words[:2], words[2:])
    return np.where(index % 2 == 0, *_normal_pairs(words))


def bernoulli(key: Key, p: ArrayLike, shape: Shape | None = None) -> NDArray[np.bool_]:
    """True with probability p, a number or an array that broadcasts to the shape: word < p 2^32."""
    p = np.asarray(p, np.float64)
    wrong = p[~((p >= 0) & (p <= 1))]
    if wrong.size:
        raise ValueError(f"bernoulli: p must be in [0, 1]; got {wrong.flat[0]}.")
    return bits(key, p.shape if shape is None else shape) < bernoulli_threshold(p)


def bernoulli_threshold(p: Any) -> Any:
    """ceil(p 2^32), a float64: so many of the 2^32 words are below it."""
    return np.ceil(np.float64(p) * 2.0**32)


def dropout_mask(
    key: Key, rate: float, shape: Shape, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """0 with probability rate, else 1 / (1 - rate): what dropout multiplies by."""
    dtype = _float("dropout_mask", dtype)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout_mask: rate must be in [0, 1); got {rate}.")
    return np.where(bernoulli(key, rate, shape), dtype.type(0), dtype.type(1 / (1 - rate)))


def randint(
    key: Key, low: int, high: int, shape: Shape, dtype: DTypeLike = np.int64
) -> NDArray[Any]:
    """Integers in [low, high): low + floor(w (high - low) / 2^64), w of words 2 i and 2 i + 1.

    w has 64 bits, word 2 i above word 2 i + 1. Nothing is rejected, so probabilities of the values
    differ, but by no more than 2^-64.
    """
    low, high = _integer("randint", "low", low), _integer("randint", "high", high)
    dtype, shape = np.dtype(dtype), _shape(shape)
    if not low < high:
        raise ValueError(f"randint: low must be below high; got low={low}, high={high}.")
    if dtype.kind not in "iu" or low < np.iinfo(dtype).min or high - 1 > np.iinfo(dtype).max:
        raise ValueError(f"randint: dtype must be integers that hold [{low}, {high}); got {dtype}.")
    words = bits(key, (math.prod(shape), 2)).astype(np.uint64)
    number = _multiply_high(words[:, 0], words[:, 1], high - low)
    return (number + np.uint64(low & _MASK64)).astype(dtype).reshape(shape)


def _multiply_high(high: Any, low: Any, n: int) -> Any:
    """floor((2^32 high + low) n / 2^64) of words high, low, and n <= 2^64, multiplied in parts."""
    if n == 1 << 64:
        return (high << 32) | low
    n_high, n_low = n >> 32, n & _MASK
    middle = high * n_low + (low * n_low >> 32)  # below 2^64
    other = low * n_high
    carry = ((middle & _MASK) + (other & _MASK)) >> 32
    return high * n_high + (middle >> 32) + (other >> 32) + carry


def permutation(key: Key, n: int) -> NDArray[np.int64]:
    """A random order of range(n): the indices sorted by random numbers.

    A number has 64 bits, of which the index takes the low ceil(log2 n): all are different, and the
    order is the same whoever sorts. For n = 10^6 the other 44 bits are ever equal in 3% of orders.
    """
    n = _integer("permutation", "n", n)
    if n < 0:
        raise ValueError(f"permutation: n must not be negative; got {n}.")
    words = bits(key, (n, 2)).astype(np.uint64)
    index_bits = (1 << max(n - 1, 0).bit_length()) - 1
    numbers = ((words[:, 0] << 32) | words[:, 1]) & (_MASK64 ^ index_bits)
    numbers |= np.arange(n, dtype=np.uint64)
    numbers.sort()
    return (numbers & index_bits).astype(np.int64)


# Arguments


def _words64(number: int) -> tuple[int, int]:
    """Low and high word of an integer; one that is not in [0, 2^64) is hashed."""
    if not 0 <= number <= _MASK64:
        number = _hash64(str(number))
    return number & _MASK, number >> 32


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _key_words(caller: str, key: Key) -> tuple[int, int, int, int]:
    key = np.asarray(key)
    if key.dtype != np.uint32 or key.shape != (4,):
        raise TypeError(
            f"{caller}: key must be four uint32, as key(seed) returns; "
            f"got {key.dtype}{list(key.shape)}."
        )
    k0, k1, c2, c3 = key.tolist()
    return k0, k1, c2, c3


def _integer(caller: str, name: str, number: Any) -> int:
    try:
        return number.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{caller}: {name} must be an integer; got {number!r}.") from None


def _float(caller: str, dtype: DTypeLike) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"{caller}: dtype must be float32 or float64; got {dtype}.")
    return dtype


def _shape(shape: Any) -> tuple[int, ...]:
    return (shape.__index__(),) if hasattr(shape, "__index__") else tuple(shape)
