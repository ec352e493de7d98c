"""What every optimizer rule must do, checked on one that a user wrote."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallline.compiler.function import compile
from fallline.core import tree
from fallline.optim.rule import Rule
from fallline.optim.update import Update

STEPS = 4


def check_rule(rule: Rule | Update, **settings: Any) -> None:
    """Raise AssertionError, with the reason, unless a rule keeps the promises of `optim.rule`.

    Bound with `settings`, it is run for a few steps in float32 and in float64. It must keep shapes,
    types and the structure of its state; leave its arguments as they are; give the same bits when
    it is run again; agree with its compiled self and, unless it is declared otherwise, with itself
    on one vector of all parameters; move them; and survive a gradient of zeros.

    >>> from fallline import optim
    >>> check_rule(optim.adam)
    """
    optimizer = rule(**settings)
    for dtype in (np.float32, np.float64):
        params, gradients = _example(np.dtype(dtype))
        found = _run(optimizer, params, gradients)
        _check_kept(optimizer, params, found)
        _same(optimizer, found, _run(optimizer, params, gradients), "when it is run again")
        _same(
            optimizer,
            found,
            _run(optimizer, params, gradients, compiled=True),
            "when it is compiled",
            close=True,
        )
        if optimizer.flat:
            joined = _run(optimizer, _joined(params), [_joined(g) for g in gradients])
            _same(
                optimizer,
                _flat(found),
                _flat(joined),
                "on one vector of all parameters",
                close=True,
            )
        _check_zero(optimizer, params)


def _example(dtype: np.dtype[Any]) -> tuple[Any, list[Any]]:
    """Parameters of several shapes, one of them empty, and gradients of many magnitudes."""
    rng = np.random.default_rng(0)
    shapes = {"W": (5, 4), "b": (4,), "scale": (), "none": (0, 3)}
    params = {n: np.asarray(rng.normal(size=s)).astype(dtype) for n, s in shapes.items()}
    magnitudes = (10.0 ** rng.uniform(-4, 2) for _ in range(STEPS))
    gradients = [
        {n: np.asarray(m * rng.normal(size=s)).astype(dtype) for n, s in shapes.items()}
        for m in magnitudes
    ]
    return params, gradients


def _run(optimizer: Update, params: Any, gradients: list[Any], compiled: bool = False) -> Any:
    """Parameters and state after a step for each gradient."""

    def update(g: Any, p: Any, s: Any, t: Any, hyper: Any) -> Any:
        return optimizer.update(g, p, s, t=t, hyper=hyper)

    p, s = params, optimizer.init(params)
    before = tree.tree_map(np.array, (p, s, gradients))
    first = p, s, gradients
    numbers = [name for name, value in s.items() if isinstance(value, float)]
    step = compile(update) if compiled else update
    for t, g in enumerate(gradients, 1):
        p, s = step(g, p, s, t, optimizer.hyper(t))
        s |= {name: float(s[name]) for name in numbers}
    _same(optimizer, before, first, "after a step: it writes to its arguments")
    return p, s


def _check_kept(optimizer: Update, params: Any, found: tuple[Any, Any]) -> None:
    """Structure, shapes, types, and that something happened."""
    name = optimizer.name
    for what, new, old in zip(("parameters", "state"), found, (params, optimizer.init(params))):
        assert tree.structure(new) == tree.structure(old), f"{name}: other {what}: {new}"
        for (path, a), b in zip(tree.named_leaves(new), tree.leaves(old), strict=True):
            was, now = (np.shape(b), np.asarray(b).dtype), (np.shape(a), np.asarray(a).dtype)
            assert now == was, f"{name}: {path} of the {what} was {was} and became {now}"
            assert np.all(np.isfinite(a)), f"{name}: {path} of the {what} became non-finite"
    moved = any(
        np.any(a != b) for a, b in zip(tree.leaves(found[0]), tree.leaves(params), strict=True)
    )
    assert moved, f"{name}: no parameter changed in {STEPS} steps"


def _check_zero(optimizer: Update, params: Any) -> None:
    zeros = tree.tree_map(np.zeros_like, params)
    new, _ = _run(optimizer, params, [zeros] * STEPS)
    finite = all(np.all(np.isfinite(x)) for x in tree.leaves(new))
    assert finite, f"{optimizer.name}: a zero gradient gave a non-finite parameter (0 / 0?)"


def _same(optimizer: Update, one: Any, other: Any, when: str, close: bool = False) -> None:
    """Bit by bit; `close` where functions such as exp, and sums, may differ in the last place."""
    for (path, a), b in zip(tree.named_leaves(one), tree.leaves(other), strict=True):
        tolerance = 64 * np.finfo(np.asarray(a).dtype).eps if close else 0
        same = np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert same, f"{optimizer.name}: {path} differs {when}: {a} and {b}"


def _joined(params: Any) -> Any:
    return np.concatenate([np.ravel(x) for x in tree.leaves(params)])


def _flat(found: tuple[Any, Any]) -> list[Any]:
    """Parameters and state as vectors, whatever their tree."""
    params, state = found
    return [_joined(params), *(_joined(state[name]) for name in sorted(state))]
