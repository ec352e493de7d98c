"""The fused loops of a training step, and reductions: formulas in NumPy, compiled as users' are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fallline as fl

from .roof import Roof
from .table import Table, percent
from .timing import Bound, best


class Loop(NamedTuple):
    """A formula, its arguments, and how it goes through memory: `roof.KINDS`."""

    title: str
    function: Callable[..., Any]
    args: tuple[np.ndarray, ...]
    kind: str = "copy"


def loops() -> list[Loop]:
    """What is timed."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    def labels(n: int, k: int) -> np.ndarray:
        return rng.integers(0, k, n)

    data, order = normal(2560, 784), rng.permutation(2560)[:128]
    small, small_order = normal(1792, 64), rng.permutation(1792)[:32]
    square, large = normal(1000, 1000), normal(10_000_000)
    hidden = [(32, 100), (128, 128), (128, 1000)]
    classes = [(32, 10), (128, 10), (128, 1000)]
    found = [
        Loop(f"bias, ReLU, {m} x {n}", _bias_relu, (normal(m, n), normal(n))) for m, n in hidden
    ]
    found += [
        Loop(f"ReLU's mask, gradient of the bias, {m} x {n}", _mask, (normal(m, n), normal(m, n)))
        for m, n in hidden
    ]
    found += [
        Loop(f"cross-entropy and its gradient, {m} x {k}", _loss, (normal(m, k), labels(m, k)))
        for m, k in classes
    ]
    found += [
        Loop("gather of 32 rows of 64", _take, (small, small_order)),
        Loop("gather of 128 rows of 784", _take, (data, order)),
    ]
    found += [
        Loop(f"{name} of {what}, 1000 x 1000", _reduction(function, axis), (square,), "read")
        for name, function in (("sum", np.sum), ("max", np.max))
        for what, axis in (("rows", 1), ("columns", 0), ("everything", None))
    ]
    return [
        *found,
        Loop("sum of 10,000,000", _reduction(np.sum, None), (large,), "read"),
        Loop("x + 1 of 10,000,000", lambda x: x + 1, (large,)),
    ]


def _bias_relu(z: Any, b: Any) -> Any:
    return fl.ops.activation.relu(z + b)


def _mask(g: Any, a: Any) -> Any:
    d = np.where(a > 0, g, 0)
    return d, np.sum(d, axis=0)


def _loss(z: Any, y: Any) -> Any:
    return fl.value_and_grad(lambda z: np.mean(fl.ops.loss.cross_entropy(z, y)))(z)


def _take(X: Any, index: Any) -> Any:
    return np.take(X, index, axis=0)


def _reduction(function: Callable[..., Any], axis: int | None) -> Callable[[Any], Any]:
    return lambda x: function(x, axis=axis)


def tables(roof: Roof, rounds: int) -> list[Table]:
    table = Table(
        "Fused loops",
        "Bytes are those of the arguments, read once, and of the results, written once; operations "
        "are counted one each, exp like a sum. The share is that of the roof named, the lower one. "
        "Of what is little larger than a cache a part still lies there, so it may exceed that.",
        ["loop", "jobs", "us, 1 thread", "GB/s", "of roof", "us, 2 threads", "GB/s", "of roof",
         "roof"],
    )  # fmt: skip
    for loop in loops():
        table.add(*_row(loop, roof, rounds))
    return [table]


def _row(loop: Loop, roof: Roof, rounds: int) -> list[object]:
    bound = Bound(fl.compile(loop.function).plan(*loop.args), loop.args)
    nbytes = _bytes(loop, bound)
    row: list[object] = [loop.title, bound.jobs]
    threads = (1, 2) if bound.jobs > 1 else (1,)
    which = ""
    for n, seconds in zip(threads, best([bound.work(n) for n in threads], rounds)):
        share, which = roof.share(seconds, 0, bound.flops, nbytes, loop.kind, n)
        row += [seconds * 1e6, nbytes / seconds / 1e9, percent(share)]
    return [*row, *[""] * (8 - len(row)), which]


def _bytes(loop: Loop, bound: Bound) -> int:
    """What must move; of gathered data only the rows that are taken."""
    results = sum(np.asarray(r).nbytes for r in bound.results)
    if loop.function is _take:
        return 2 * results + loop.args[1].nbytes
    return sum(a.nbytes for a in loop.args) + results
