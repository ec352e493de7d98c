"""Kernels that fill a range with random numbers, in the same bits as `fallline.ops.philox`.

Each draws a block, `rows` times `count` elements, the first of them with the number `first`, and
`step` elements from one row's first to the next: a plan may cut a tensor into jobs anywhere.

    bits       (rows, step, count, first, key, out)
    uniform    (..., key, low, width, last, out)   the three of philox.uniform_range
    normal     (..., key, out)
    bernoulli  (..., key, threshold, out)          of philox.bernoulli_threshold; bool
    dropout    (..., key, threshold, scale, out)   0 where bernoulli has True, else scale
    fold_in    (key, data, out)                    philox.fold_in(key, data), data >= 0

A row is whole blocks of Philox, over which LLVM vectorises, and the elements of the two blocks at
its ends that it holds in part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

__all__ = [
    "bernoulli_text",
    "bits_text",
    "dropout_text",
    "fold_in_text",
    "normal_text",
    "uniform_text",
]

_IMPORT = "from fallline.compiler.library.mathematics import *\n\n\n"

_RANGE = """\
def kernel(
    rows: "int",
    step: "int",
    count: "int",
    first: "int",
    key: "uint32*",
    {parameters}out: "{dtype}*",
):
    k0, k1, c2, c3 = key[0], key[1], key[2], key[3]
    for row in range(rows):
        at = row * step
        head = min(-(first + at) & {mask}, count)
        blocks = (count - head) >> {shift}
        for edge in range(count - (blocks << {shift})):
            i = at + (edge if edge < head else edge + (blocks << {shift}))
            {edge}
        start = (first + at + head) >> {shift}
        for b in range(blocks):
            i = at + head + (b << {shift})
            w0, w1, w2, w3 = philox_words(k0, k1, c2, c3, start + b)
            {body}
"""

_FOLD_IN = """\
def kernel(key: "uint32*", data: "int64", out: "uint32*"):
    out[0], out[1], out[2], out[3] = fold_in_words(key[0], key[1], key[2], key[3], data)
"""


def bits_text() -> str:
    """Words of 32 random bits."""
    return _of_words("bits", "{}", "uint32")


def uniform_text(dtype: DTypeLike) -> str:
    """Uniform numbers in [low, low + width)."""
    name = np.dtype(dtype).name
    parameters = f'low: "{name}", width: "{name}", last: "{name}", '
    if name == "float32":
        return _of_words(
            "uniform", "scale_uniform(uniform_float32({}), low, width, last)", name, parameters
        )
    make = "scale_uniform(uniform_float64({}, {}), low, width, last)"
    body = [f"out[i] = {make.format('w0', 'w1')}", f"out[i + 1] = {make.format('w2', 'w3')}"]
    edge = [_WORDS_AT_2, f"out[i] = {make.format('w2 if odd else w0', 'w3 if odd else w1')}"]
    return _text("uniform", 1, name, parameters, edge, body)


def normal_text(dtype: DTypeLike) -> str:
    """Standard normal numbers."""
    name = np.dtype(dtype).name
    if name == "float32":
        body = [
            "out[i], out[i + 1] = normal_float32(w0, w1)",
            "out[i + 2], out[i + 3] = normal_float32(w2, w3)",
        ]
        edge = [
            "w0, w1, w2, w3 = philox_words(k0, k1, c2, c3, (first + i) >> 2)",
            "upper, odd = (first + i) & 2 != 0, (first + i) & 1 != 0",
            "even_z, odd_z = normal_float32(w2 if upper else w0, w3 if upper else w1)",
            "out[i] = odd_z if odd else even_z",
        ]
        return _text("normal", 2, name, "", edge, body)
    edge = [
        _WORDS_AT_2,
        "even_z, odd_z = normal_float64(w0, w1, w2, w3)",
        "out[i] = odd_z if odd else even_z",
    ]
    return _text(
        "normal", 1, name, "", edge, ["out[i], out[i + 1] = normal_float64(w0, w1, w2, w3)"]
    )


def bernoulli_text() -> str:
    """True with probability threshold / 2^32."""
    return _of_words("bernoulli", "int64({}) < threshold", "bool", 'threshold: "int", ')


def dropout_text(dtype: DTypeLike) -> str:
    """0 with probability threshold / 2^32, else scale: what dropout multiplies by."""
    name = np.dtype(dtype).name
    parameters = f'threshold: "int", scale: "{name}", '
    return _of_words(
        "dropout", f"{name}(0) if int64({{}}) < threshold else scale", name, parameters
    )


def fold_in_text() -> str:
    """The key of a step number."""
    return "# name: fold_in\n" + _IMPORT + _FOLD_IN


_WORDS_AT_2 = (
    "w0, w1, w2, w3 = philox_words(k0, k1, c2, c3, (first + i) >> 1)\nodd = (first + i) & 1 != 0"
)


def _of_words(kind: str, expression: str, dtype: str, parameters: str = "") -> str:
    """A kernel whose element i is an expression of word i."""
    places = ("i", "i + 1", "i + 2", "i + 3")
    body = [f"out[{at}] = {expression.format(f'w{lane}')}" for lane, at in enumerate(places)]
    edge = f"out[i] = {expression.format('philox_bits(k0, k1, c2, c3, first + i)')}"
    return _text(kind, 2, dtype, parameters, [edge], body)


def _text(
    kind: str, shift: int, dtype: str, parameters: str, edge: list[str], body: list[str]
) -> str:
    """A kernel with 2^shift elements to a block."""
    indented = ("\n".join(lines).replace("\n", "\n            ") for lines in (edge, body))
    edge_text, body_text = indented
    loops = _RANGE.format(
        mask=(1 << shift) - 1,
        shift=shift,
        dtype=dtype,
        parameters=parameters,
        edge=edge_text,
        body=body_text,
    )
    return f"# name: {kind}_{dtype}\n" + _IMPORT + loops
