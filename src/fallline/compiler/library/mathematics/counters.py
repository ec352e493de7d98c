"""Philox and what is made of its words, as functions for kernels: the formulas of `ops`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.compiler.library import value
from fallline.compiler.library.define import Resolve, function
from fallline.compiler.library.value import Value
from fallline.ops import gaussian, philox

__all__ = [
    *["philox_words", "philox_bits", "fold_in_words", "uniform_float32", "uniform_float64"],
    *["scale_uniform", "normal_float32", "normal_float64"],
]

_WORD, _WIDE = np.dtype(np.uint32), np.dtype(np.uint64)
_WORDS = (_WORD,) * 4


def _typed(*dtypes: Any) -> Resolve:
    """Operands and, last, result of a function whose types are fixed."""
    return lambda *_: dtypes


@function(_typed(_WIDE, _WIDE, _WIDE, _WIDE, _WIDE, _WORDS))
def philox_words(k0: Value, k1: Value, c2: Value, c3: Value, block: Value) -> tuple[Value, ...]:
    """The four words of a block: elements 4 block to 4 block + 3 of the key [k0, k1, c2, c3]."""
    return _words(k0, k1, c2, c3, block)


@function(_typed(_WIDE, _WIDE, _WIDE, _WIDE, _WIDE, _WORD))
def philox_bits(k0: Value, k1: Value, c2: Value, c3: Value, i: Value) -> Value:
    """Word i of the key [k0, k1, c2, c3], at the price of a block."""
    w0, w1, w2, w3 = _words(k0, k1, c2, c3, i >> 2)
    odd = (i & 1) != 0
    return value.where((i & 2) != 0, value.where(odd, w3, w2), value.where(odd, w1, w0))


@function(_typed(_WIDE, _WIDE, _WIDE, _WIDE, _WIDE, _WORDS))
def fold_in_words(k0: Value, k1: Value, c2: Value, c3: Value, data: Value) -> tuple[Value, ...]:
    """The key fold_in([k0, k1, c2, c3], data) of an integer data >= 0."""
    return _words(k0 ^ philox.FOLD_INTEGER, k1, c2, c3, data)


@function(_typed(_WORD, np.dtype(np.float32)))
def uniform_float32(word: Value) -> Value:
    """The upper 24 bits of a word, in [0, 1)."""
    return gaussian.uniform_float32(word)


@function(_typed(_WORD, _WORD, np.dtype(np.float64)))
def uniform_float64(high: Value, low: Value) -> Value:
    """53 bits of two words, in [0, 1)."""
    return gaussian.uniform_float64(high, low)


@function(lambda u, low, width, last: (u, u, u, u, u))
def scale_uniform(u: Value, low: Value, width: Value, last: Value) -> Value:
    """low + width u, at most last."""
    return philox.scale_uniform(u, low, width, last, value)


@function(_typed(_WORD, _WORD, (np.dtype(np.float32),) * 2))
def normal_float32(word: Value, angle: Value) -> tuple[Value, Value]:
    """Two normal numbers from two words."""
    return gaussian.normal_float32(word, angle, value)


@function(_typed(_WORD, _WORD, _WORD, _WORD, (np.dtype(np.float64),) * 2))
def normal_float64(w0: Value, w1: Value, w2: Value, w3: Value) -> tuple[Value, Value]:
    """Two normal numbers from the four words of a block."""
    return gaussian.normal_float64((w0, w1), (w2, w3), value)


def _words(k0: Value, k1: Value, c2: Value, c3: Value, block: Value) -> tuple[Value, ...]:
    return philox.philox(block & 0xFFFFFFFF, block >> 32, c2, c3, k0, k1)
