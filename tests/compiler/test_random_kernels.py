"""Random numbers of kernels: the bits of `ops.philox`, for every piece of a range."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from tests.compiler.running import run

from fallline.compiler.library import random
from fallline.compiler.native import optimised
from fallline.ops import philox

KEY = philox.fold_in(philox.key(7), "kernel")
FLOATS = ("float32", "float64")
P, LOW, HIGH = 0.3, -1.5, 3.0
THRESHOLD = int(philox.bernoulli_threshold(P))


def uniform_case(dtype: str) -> tuple:
    kind = np.dtype(dtype).type
    bounds = [kind(v) for v in philox.uniform_range(dtype, LOW, HIGH)]

    def eager(count: int, first: int) -> np.ndarray:
        return philox.uniform(KEY, count, dtype, LOW, HIGH, offset=first)

    return random.uniform_text(dtype), bounds, dtype, eager


def normal_case(dtype: str) -> tuple:
    def eager(count: int, first: int) -> np.ndarray:
        return philox.normal(KEY, count, dtype, offset=first)

    return random.normal_text(dtype), [], dtype, eager


def dropped(count: int, first: int) -> np.ndarray:
    return philox.bits(KEY, count, first) < THRESHOLD


def dropout_case(dtype: str) -> tuple:
    kind = np.dtype(dtype).type
    scale = kind(1 / (1 - P))

    def eager(count: int, first: int) -> np.ndarray:
        return np.where(dropped(count, first), kind(0), scale)

    return random.dropout_text(dtype), [THRESHOLD, scale], dtype, eager


def bits(count: int, first: int) -> np.ndarray:
    return philox.bits(KEY, count, first)


# text, what stands between the key and the result, dtype, the same eagerly
CASES: dict[str, tuple[str, list, str, Callable[[int, int], np.ndarray]]] = {
    "bits": (random.bits_text(), [], "uint32", bits),
    "bernoulli": (random.bernoulli_text(), [THRESHOLD], "bool", dropped),
}
for _dtype in FLOATS:
    CASES[f"uniform_{_dtype}"] = uniform_case(_dtype)
    CASES[f"normal_{_dtype}"] = normal_case(_dtype)
    CASES[f"dropout_{_dtype}"] = dropout_case(_dtype)


def fill(name: str, count: int, first: int, room: int = 8) -> np.ndarray:
    """What the kernel writes, and that it writes no further."""
    text, extra, dtype, _ = CASES[name]
    out = np.full(count + room, 77, dtype)
    run(text, 1, 0, count, first, KEY, *extra, out)
    assert (out[count:] == np.full(1, 77, dtype)).all()
    return out[:count]


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_numpy(name: str) -> None:
    eager = CASES[name][3]
    for first in (0, 1, 2, 3, 4, 5, 1 << 33, (1 << 34) - 3):
        for count in (0, 1, 2, 3, 4, 5, 6, 7, 63, 64, 65, 1001):
            got, expected = fill(name, count, first), eager(count, first)
            assert got.dtype == expected.dtype
            assert got.tobytes() == expected.tobytes(), (first, count)
    assert fill(name, 100_003, 5).tobytes() == eager(100_003, 5).tobytes()


@pytest.mark.parametrize("name", CASES)
def test_pieces_join_to_the_whole(name: str) -> None:
    whole, cuts = fill(name, 1000, 3), [0, 1, 3, 10, 64, 201, 202, 999, 1000]
    pieces = [fill(name, end - start, 3 + start) for start, end in itertools.pairwise(cuts)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_a_block_is_that_part_of_the_whole(name: str) -> None:
    text, extra, dtype, eager = CASES[name]
    whole = eager(20 * 37, 3).reshape(20, 37)
    for i, height, j, width in ((0, 20, 0, 37), (4, 6, 5, 7), (19, 1, 36, 1), (2, 9, 8, 0)):
        out = np.full((20, 37), 77, dtype)
        at = i * 37 + j
        run(text, height, 37, width, 3 + at, KEY, *extra, out.reshape(-1)[at:])
        expected = np.full((20, 37), 77, dtype)
        expected[i : i + height, j : j + width] = whole[i : i + height, j : j + width]
        assert out.tobytes() == expected.tobytes()


def test_dropout_is_the_eager_mask() -> None:
    for dtype in FLOATS:
        mask = philox.dropout_mask(KEY, P, 1000, dtype)
        assert fill(f"dropout_{dtype}", 1000, 0).tobytes() == mask.tobytes()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_events(p: float) -> None:
    out = np.empty(1000, bool)
    run(random.bernoulli_text(), 1, 0, 1000, 0, KEY, int(philox.bernoulli_threshold(p)), out)
    assert (out == bool(p)).all()


def test_fold_in() -> None:
    out = np.empty(4, np.uint32)
    for data in (0, 1, 77, (1 << 32) + 5, (1 << 63) - 1):
        run(random.fold_in_text(), KEY, np.int64(data), out)
        np.testing.assert_array_equal(out, philox.fold_in(KEY, data))


def test_words_one_by_one() -> None:
    text = (
        "from fallline.compiler.library.mathematics import *\n"
        'def kernel(n: "int", key: "uint32*", y: "float32*"):\n'
        "    for i in range(n):\n"
        "        y[i] = uniform_float32(philox_bits(key[0], key[1], key[2], key[3], i))\n"
    )
    y = np.empty(1001, np.float32)
    run(text, len(y), KEY, y)
    np.testing.assert_array_equal(y, philox.uniform(KEY, 1001))


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_vectorised(name: str) -> None:
    code = str(optimised(CASES[name][0], "kernel"))
    assert re.search(r"mul nuw( nsw)? <\d+ x i64>", code)
    assert not re.search(r"\b(?:fast|contract|reassoc|llvm\.fma|llvm\.fmuladd)\b", code)
