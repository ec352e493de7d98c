"""Random numbers as operations: what `philox` draws, traced and compiled, in the same bits.

A key is an array of four uint32 (`key`), and may be traced: then a compiled function draws other
numbers at every call without being compiled again. `site` makes of one key as many as there are
places that draw: it is combined with the last word, so keys of one step need not be split.

>>> k = key(0)
>>> uniform(k, (2,)).shape, bool(uniform(k, ()) == uniform(k, (), site=1))
((2,), False)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.core.op import Op, primitive
from fallline.core.spec import Spec, spec_of
from fallline.core.trace import Tracer, operand
from fallline.ops import philox

__all__ = [
    *["key", "fold_in", "split", "bits", "uniform", "normal", "truncated_normal", "bernoulli"],
    *["dropout_mask", "randint", "permutation"],
]

Shape = int | Sequence[int]


def key(seed: int) -> philox.Key:
    """The key of a seed."""
    return philox.key(seed)


def bits(key: Any, shape: Shape, *, site: int = 0) -> Any:
    """Words of 32 random bits, uint32."""
    return _bits(_key("bits", key, site), shape=_shape(shape))


def uniform(
    key: Any,
    shape: Shape,
    dtype: Any = np.float32,
    low: float = 0.0,
    high: float = 1.0,
    *,
    site: int = 0,
) -> Any:
    """Uniform numbers in [low, high)."""
    if not low < high:
        raise ValueError(f"uniform: low must be below high; got low={low}, high={high}.")
    return _uniform(
        _key("uniform", key, site),
        shape=_shape(shape),
        dtype=_float("uniform", dtype),
        low=float(low),
        high=float(high),
    )


def normal(key: Any, shape: Shape, dtype: Any = np.float32, *, site: int = 0) -> Any:
    """Standard normal numbers."""
    dtype = _float("normal", dtype)
    return _normal(_key("normal", key, site), shape=_shape(shape), dtype=dtype)


def bernoulli(key: Any, p: Any, shape: Shape | None = None, *, site: int = 0) -> Any:
    """True with probability p, a number or an array that broadcasts to the shape."""
    key, p = _key("bernoulli", key, site), operand(p)
    shape = (
        p.shape if shape is None and hasattr(p, "shape") else _shape(() if shape is None else shape)
    )
    if p.__class__ in (float, int, bool):
        _check_probability("bernoulli: p", p, p <= 1)
        return _bernoulli(key, shape=shape, p=float(p))
    if p.__class__ is not Tracer:
        return (
            philox.bernoulli(key, p, shape)
            if key.__class__ is not Tracer
            else _below(key, p, shape)
        )
    return _below(key, p, shape)


def dropout_mask(
    key: Any, rate: float, shape: Shape, dtype: Any = np.float32, *, site: int = 0
) -> Any:
    """0 with probability rate, else 1 / (1 - rate): what dropout multiplies by."""
    _check_probability("dropout_mask: rate", rate, rate < 1, ")")
    dtype = _float("dropout_mask", dtype)
    key = _key("dropout_mask", key, site)
    return _dropout(key, shape=_shape(shape), dtype=dtype, rate=float(rate))


def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and a step number, which may be traced (then >= 0), or a name."""
    key, traced = _key("fold_in", key), data.__class__ is Tracer
    if key.__class__ is not Tracer and not traced:
        return philox.fold_in(key, data)
    if isinstance(data, str):
        key, data = _domain(key, philox.FOLD_STRING), philox._hash64(data)
    if not traced:
        low, high = philox._words64(philox._integer("fold_in", "data", data))
        data = np.array(low | high << 32, np.uint64).view(np.int64)
    elif spec_of(data).dtype.kind not in "iu":
        raise TypeError(f"fold_in: data must be an integer; got {spec_of(data).dtype}.")
    return _fold_in(key, data if getattr(data, "weak", False) else data.astype(np.int64))


def split(key: Any, n: int = 2) -> Any:
    """n new keys, the rows of an (n, 4) array. Row i does not depend on n."""
    key = _key("split", key)
    if key.__class__ is not Tracer:
        return philox.split(key, n)
    key = _domain(key, philox.SPLIT)
    return np.stack([_fold_in(key, np.array(i, np.int64)) for i in range(n)])


def truncated_normal(
    key: Any, shape: Shape, dtype: Any = np.float32, low: float = -2.0, high: float = 2.0
) -> Any:
    """Normal numbers given that low <= x <= high; not compiled."""
    return _truncated_normal(
        _key("truncated_normal", key),
        shape=_shape(shape),
        dtype=_float("truncated_normal", dtype),
        low=float(low),
        high=float(high),
    )


def randint(key: Any, low: int, high: int, shape: Shape, dtype: Any = np.int64) -> Any:
    """Integers in [low, high); not compiled."""
    key, dtype = _key("randint", key), np.dtype(dtype)
    return _randint(key, low=low, high=high, shape=_shape(shape), dtype=dtype)


def permutation(key: Any, n: int) -> Any:
    """A random order of range(n); not compiled."""
    return _permutation(_key("permutation", key), n=n)


# The operations. Kernel data: the name of a kernel, and the numbers that it takes.


def _random(
    function: Callable[..., Any],
    name: str,
    dtype: Any = None,
    numbers: Callable[..., Sequence[int | float]] | None = None,
    **how: Any,
) -> Op:
    def spec(*args: Spec, shape: tuple[int, ...], **params: Any) -> Spec:
        return Spec(shape, np.dtype(dtype or params["dtype"]))

    kernel = None if "eager_only" in how else (name, numbers or (lambda **params: ()))
    return primitive(function, spec=spec, name=name, kind="random", kernel=kernel, **how)


_bits = _random(philox.bits, "bits", np.uint32)
_uniform = _random(
    philox.uniform,
    "uniform",
    numbers=lambda *, dtype, low, high, shape: philox.uniform_range(dtype, low, high),
)
_normal = _random(philox.normal, "normal")
_bernoulli = _random(
    philox.bernoulli,
    "bernoulli",
    np.bool_,
    lambda *, p, shape: (int(philox.bernoulli_threshold(p)),),
)
_dropout = _random(
    philox.dropout_mask,
    "dropout",
    numbers=lambda *, rate, dtype, shape: (
        int(philox.bernoulli_threshold(rate)),
        1 / (1 - rate),
    ),
)
_fold_in = primitive(
    lambda key, data: philox.fold_in(key, int(data) & (2**64 - 1)),
    spec=lambda key, data: Spec((4,), np.dtype(np.uint32)),
    name="fold_in",
    kind="random",
    arrays=2,
    kernel=("fold_in", lambda: ()),
)
_REJECTS = "how many numbers it draws depends on what it draws. Draw outside, and pass the result"
_truncated_normal = _random(philox.truncated_normal, "truncated_normal", eager_only=_REJECTS)
_randint = _random(
    philox.randint, "randint", eager_only="it has no kernel. Draw outside, and pass the result"
)
_permutation = primitive(
    philox.permutation,
    spec=lambda key, n: Spec((n,), np.dtype(np.int64)),
    name="permutation",
    kind="random",
    eager_only="it sorts. Draw outside, and pass the result",
)


def _below(key: Any, p: Any, shape: tuple[int, ...]) -> Any:
    """Bernoulli numbers whose probabilities are an array, or traced."""
    if p.__class__ is not Tracer:
        philox.bernoulli(np.zeros(4, np.uint32), p, ())  # refuses what is no probability
    threshold = np.ceil(p.astype(np.float64) * 2.0**32)
    return _bits(key, shape=shape).astype(np.float64) < threshold


# Arguments.


def _key(caller: str, key: Any, site: int = 0) -> Any:
    key = operand(key)
    spec = spec_of(key)
    if spec.shape != (4,) or spec.dtype != np.uint32:
        raise TypeError(f"{caller}: key must be four uint32, as key(seed) returns; got {spec!r}.")
    if not 0 <= site < 2**32:
        raise ValueError(f"{caller}: site must be in [0, 2**32); got {site}.")
    return key ^ np.array([0, 0, 0, site], np.uint32) if site else key


def _domain(key: Any, domain: int) -> Any:
    """The key whose fold_in of an integer is another cipher's."""
    return key ^ np.array([domain ^ philox.FOLD_INTEGER, 0, 0, 0], np.uint32)


def _shape(shape: Shape) -> tuple[int, ...]:
    return (shape.__index__(),) if hasattr(shape, "__index__") else tuple(map(int, shape))


def _float(caller: str, dtype: Any) -> np.dtype[Any]:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"{caller}: dtype must be float32 or float64; got {dtype}.")
    return dtype


def _check_probability(what: str, p: float, below: bool, end: str = "]") -> None:
    if not (p >= 0 and below):
        raise ValueError(f"{what} must be in [0, 1{end}; got {p}.")
