"""Loops in the jobs of matrix products: which join, that results and bits are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.compiler.conftest import split

import fallline as fl
from fallline import ops
from fallline.compiler import epilogue
from fallline.compiler.library.products import gemm
from fallline.compiler.plan import Plan
from fallline.core.graph import trace
from fallline.ops import random

rng = np.random.default_rng(0)
M, K, N = 130, 70, 200  # three blocks of 64 columns and more
X, W, U = (rng.standard_normal(s) for s in ((M, K), (K, N), (K, N)))
B, Z, V = (rng.standard_normal(s) for s in ((N,), (M, N), (M, K)))
KEY = random.key(5)


@pytest.fixture(autouse=True)
def _many_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gemm, "LEAST", 1 << 16)
    yield
    fl.set_threads(None)


def softmax(z: Any) -> Any:
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def two_uses(x: Any, w: Any, b: Any) -> Any:
    z = x @ w + b
    return np.where(z > 0, z, 0), np.sum(z * z, axis=0)


# name: (function, arguments, launches that are joined, products without a buffer)
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int, int]] = {
    "bias": (lambda x, w, b: x @ w + b, (X, W, B), 1, 1),
    "activation": (lambda x, w, b: np.tanh(x @ w + b), (X, W, B), 1, 1),
    "a column vector": (lambda x, w, z: x @ w * z[:, :1], (X, W, Z), 1, 1),
    "another matrix, turned": (lambda x, w, z: x @ w + z.T, (X, W, Z.T.copy()), 1, 1),
    "two results, one reduced": (two_uses, (X, W, B), 1, 1),
    "sum of columns": (lambda x, w, z: np.sum(x @ w * z, axis=0), (X, W, Z), 1, 1),
    "max of columns": (lambda x, w: np.max(x @ w, axis=0), (X, W), 1, 1),
    "the product is a result": (lambda x, w, b: (z := x @ w, z + b), (X, W, B), 1, 0),
    "read in another shape": (lambda x, w, b: (x @ w + b, (x @ w)[::2] * 2), (X, W, B), 1, 0),
    "two products": (lambda x, w, v, u: np.tanh(x @ w + v @ u), (X, W, V, U), 1, 1),
    "one after the other": (lambda x, w, v: np.tanh(np.tanh(x @ w) @ v), (X, W, W.T.copy()), 2, 2),
    "transposed": (lambda x, w, b: (x @ w).T * 2, (X, W, B), 0, 0),
    "backwards": (lambda x, w, b: (x @ w)[:, ::-1] + b, (X, W, B), 0, 0),
    "with itself transposed": (lambda x: (z := x @ x.T) + z.T, (X,), 0, 0),
    "its own total": (lambda x, w: np.sum(x @ w), (X, W), 0, 0),
    "rows cut into blocks": (lambda x, w: softmax(x @ w), (X, W), 0, 0),
    "rows whole": (lambda x, w: softmax(x @ w), (np.tile(X, (3, 1)), W[:, :50]), 1, 1),
    "columns cut": (lambda x, w: np.sum(x @ w, axis=0), (np.tile(X, (3, 1)), W[:, :50]), 0, 0),
    "one row": (lambda x, w, b: np.tanh(x @ w + b), (X[:1], W, B), 1, 1),
    "one column": (lambda x, w, b: np.tanh(x @ w + b), (X, W[:, :1], B[:1]), 0, 0),
    "a stack": (lambda x, w, b: np.tanh(x @ w + b), (np.stack([X, X]), W, B), 0, 0),
    "no rows": (lambda x, w, b: np.tanh(x @ w + b), (X[:0], W, B), 0, 0),
    "no depth": (lambda x, w, b: np.tanh(x @ w + b), (X[:, :0], W[:0], B), 1, 1),
    "float32": (lambda x, w, b: ops.relu(x @ w + b), [a.astype("f4") for a in (X, W, B)], 1, 1),
    "integers": (lambda x, w: x @ w + 1, [(9 * a).astype("i8") for a in (X, W)], 1, 1),
    "it waits": (lambda x, w: (z := x @ w) - np.sum(z, axis=1)[:, None], (X, W), 0, 0),
}


def compared(f: Callable[..., Any], args: tuple[Any, ...]) -> Plan:
    """The plan, after its results were found equal to NumPy's, and bits on several threads."""
    compiled = fl.compile(f)
    expected = _tuple(f(*args))
    fl.set_threads(1)
    alone = _tuple(compiled(*args))
    for y, e in zip(alone, expected, strict=True):
        tolerance = 1e-4 if y.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(y, e, rtol=tolerance, atol=tolerance)
    for n in (2, 3):
        fl.set_threads(n)
        for y, e in zip(_tuple(compiled(*args)), alone, strict=True):
            assert y.tobytes() == e.tobytes()
    return compiled.plan(*args)


def _tuple(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def joined(plan: Plan) -> int:
    return sum(launch.joined for launch in plan.lowered.launches)


@pytest.mark.parametrize("name", CASES)
def test_what_joins(name: str) -> None:
    f, args, loops, private = CASES[name]
    plan = compared(f, args)
    assert joined(plan) == loops
    assert len(plan.lowered.private) == private
    assert plan.explain().count("in the thread") == private


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("service", ["blas", "loops"])
def test_other_kernels_serve_as_well(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "forced", lambda: service)
    compared(*CASES[name][:2])


@pytest.mark.parametrize("name", CASES)
def test_loops_that_are_cut_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split(monkeypatch, nodes=1)
    compared(*CASES[name][:2])


def test_bits_are_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elementwise: the block that an element is in does not matter."""
    for name in ("activation", "two results, one reduced", "rows whole", "two products"):
        f, args, *_ = CASES[name]
        together = _tuple(fl.compile(f)(*args))
        with monkeypatch.context() as patch:
            patch.setattr(epilogue, "attach", lambda units: None)
            apart = _tuple(fl.compile(lambda *a, f=f: f(*a))(*args))
        for y, e in zip(together, apart, strict=True):
            assert y.tobytes() == e.tobytes(), name


def test_dropout_is_drawn_in_the_jobs() -> None:
    def f(x: Any, w: Any, b: Any, key: Any) -> Any:
        mask = random.dropout_mask(key, 0.4, (M, N))
        h = ops.relu(x @ w + b) * mask
        return h, mask

    args = (*[a.astype("f4") for a in (X, W, B)], KEY)
    plan = compared(f, args)
    titles = [launch.title for launch in plan.lowered.launches if launch.joined]
    assert titles[0] == "dropout" and len(titles) == 2


def test_numbers_that_wait_for_the_product_are_drawn_after_it() -> None:
    def f(x: Any, w: Any, key: Any) -> Any:
        z = x @ w
        count = np.sum(z > 0, dtype=np.int64)
        return z * random.normal(random.fold_in(key, count), (M, N), z.dtype)

    compared(f, (X, W, KEY))


@pytest.mark.parametrize("which", ["x", "z", "b"])
def test_what_other_jobs_read_is_not_overwritten(which: str) -> None:
    """A result that takes over the memory of an argument."""

    def f(x: Any, z: Any, b: Any) -> Any:
        return np.tanh(x @ z + b) * 0.1 + {"x": x, "z": z, "b": z}[which]

    n = 192
    arrays = [rng.standard_normal(s) for s in ((n, n), (n, n), (n, n))]
    expected = f(*arrays)
    donor = "xzb".index(which)
    plan = Plan(trace(f, *arrays), donate={0: donor})
    for threads in (1, 3):
        fl.set_threads(threads)
        given = [a.copy() for a in arrays]
        (y,) = plan.run(*given)
        assert y is given[donor]
        np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    assert joined(plan) == (which == "b")


def test_large_blocks_keep_their_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epilogue, "PRIVATE_BYTES", 1000)
    plan = compared(*CASES["bias"][:2])
    assert joined(plan) == 1 and not plan.lowered.private


def test_a_training_step_has_its_products_together_with_what_follows() -> None:
    net = fl.nn.mlp([K, N, N, 10], dropout=0.5)
    y = rng.integers(0, 10, M)
    trainer = fl.train.Trainer(
        net, (X.astype("f4"), y), loss="cross_entropy", optimizer="adam", batch_size=M
    )
    trainer.prepare()
    launches = trainer._step_of(M).step.plan.lowered.launches
    titles = [launch.title for launch in launches if launch.joined]
    assert titles.count("dropout") == 2
    assert sum("relu" in title for title in titles) == 2
    assert sum("where" in title and "sum" in title for title in titles) == 2


# Loops that read the product and, at another place, something that is made in the same jobs.
A, E = rng.standard_normal((200, 200)), rng.standard_normal((400, 200))
IMAGES, KERNELS = rng.standard_normal((19, 3, 9, 8)), rng.standard_normal((16, 3, 3, 3))
SQUARE_IMAGES, SQUARE_KERNELS = (
    rng.standard_normal((4, 16, 16, 16)),
    rng.standard_normal((16, 16, 3, 3)),
)


def convolved(x: Any, w: Any) -> Any:
    return ops.conv2d(x, w, padding=1)


ELSEWHERE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "turned": (lambda a: (z := a @ a) + np.tanh(z).T, (A,)),
    "the first column": (lambda a: (z := a @ a) + np.tanh(z)[:, :1], (A,)),
    "a sum of columns as rows": (lambda a: (z := a @ a.T) - np.sum(z, axis=0)[:, None], (A,)),
    "random numbers, turned": (
        lambda a, k: a @ a * ((m := random.uniform(k, (200, 200), a.dtype)) + m.T),
        (A, KEY),
    ),
    "a joined array": (
        lambda b, a, d: (z := b @ a) + np.concatenate([z, np.tanh(d)])[::2],
        (E, A, E * 2),
    ),
    "channels the other way, beside pooling": (
        lambda x, w: (
            ops.max_pool(np.tanh(z := convolved(x, w)), 3, stride=1, padding=1) + z[:, ::-1]
        ),
        (IMAGES, KERNELS),
    ),
    "channels joined": (
        lambda x, w: (z := convolved(x, w)) + np.concatenate([z, x], axis=1)[:, ::2],
        (SQUARE_IMAGES, SQUARE_KERNELS),
    ),
    "pixels turned": (
        lambda x, w: np.tanh(z := convolved(x, w)) + np.swapaxes(z, 2, 3),
        (SQUARE_IMAGES, SQUARE_KERNELS),
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_blocks_do_not_exist_yet(name: str) -> None:
    compared(*ELSEWHERE[name])
