"""Results that take over the memory of inputs: whatever is read of those is read before.

Whether a result is written in place or copied at the end is the plan's affair; test_plan.py holds
the cases of one or two inputs where it matters.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.conftest import split
from tests.compiler.programs import Program, compose

import fallline as fl
from fallline.compiler.plan import Plan

A, B, C, D = np.arange(16.0).reshape(4, 4, 1)
M = np.arange(16.0).reshape(4, 4) / 7


def unfolded(p, m, g):
    """An update by an orthogonalised momentum, say: products of what is written over."""
    m = 0.9 * m + g
    return p * 0.9 - m @ m.T @ m, m


def needs_both(p, m):
    """The new m needs the new p times the old m."""
    return p * 2, m + (p * 2) @ m


def summed(p, m, g):
    p2 = p - g
    return p2, m * np.linalg.norm(p2 @ p2 + m @ p2)


# name: function, inputs; output i takes over the memory of input i.
CASES = {
    "exchanged": (lambda p, m: (m, p), [A, B]),
    "a history": (lambda p, h1, h2, g: (p - g, g, h1), [A, B, C, D]),
    "the sum of one for all of the other": (lambda p, m: (p * 2, m + np.sum(p)), [A, np.ones(3)]),
    "a row for all rows of the other": (lambda p, m: (p * 2, m + p[:, 0]), [A, M]),
    "a row of each other": (lambda p, m: (p + m[:1].T, m + p[:, 0]), [A, M]),
    "a circle": (needs_both, [M, M + 1]),
    "products": (unfolded, [M, M + 1, M + 2]),
    "a norm of products": (summed, [M, M + 1, M + 2]),
    "transposes of each other": (lambda p, m: (p + m.T, m + p.T), [M, M + 1]),
    "its own transpose": (lambda p: (p + p.T,), [M]),
    "over the sums of its rows": (lambda p: (p / np.sum(p, axis=1, keepdims=True),), [M + 1]),
    "one result twice": (lambda p, m: (p + m,) * 2, [A, B]),
    "crosswise": (lambda p, m: (m * 2, p * 3), [A, B]),
    "crosswise and backwards": (lambda p, m: (m[::-1] * 2, p[::-1] * 3), [A, B]),
    "a view of the other": (lambda p, m: (m[:4], np.concatenate([p, p])), [A, np.ones((8, 1))]),
    "a constant": (lambda p, m: (np.zeros((4, 1)), p), [A, B]),
    "parts of both": (
        lambda p, m: (np.concatenate([p[1:], m[:1]]), np.concatenate([m[1:], p[:1]])),
        [A, B],
    ),
}


def check(graph: fl.Graph, inputs, donate, guard=None) -> None:
    """A plan computes what NumPy does, and changes no input that it was not given."""
    expected = graph.run(*[x.copy() for x in inputs])
    given = [x.copy() for x in inputs]
    plan = Plan(graph, donate=donate, guard=guard)
    if guard is not None and not np.isfinite(expected[guard]):
        with pytest.raises(FloatingPointError):
            plan.run(*given)
        donate = {}  # nothing was overwritten
    else:
        for y, e in zip(plan.run(*given), expected, strict=True):
            np.testing.assert_allclose(y, e, rtol=1e-12, atol=1e-12)
    for i, (x, y) in enumerate(zip(given, inputs, strict=True)):
        assert i in donate.values() or np.array_equal(x, y, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_read_before_they_are_overwritten(name, threads):
    f, inputs = CASES[name]
    graph = fl.trace(f, *inputs)
    check(graph, inputs, {i: i for i in range(len(graph.outputs))})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", CASES)
@np.errstate(all="ignore")
def test_nothing_is_overwritten_where_the_guard_stops(name, bad):
    f, inputs = CASES[name]
    graph = fl.trace(lambda *xs: (sum(np.sum(x) for x in xs), *f(*xs)), *inputs)
    donate = {i: i - 1 for i in range(1, len(graph.outputs))}
    check(graph, inputs, donate, guard=0)
    broken = [x.copy() for x in inputs]
    broken[-1][1] = bad
    check(graph, broken, donate, guard=0)


# Every value of these programs has one shape, so any result may lie where any input lay.
SQUARES = """
map    np.tanh({a})
map    {a} * 2
pair   {a} + {b}
pair   {a} * {b}
row    {a} + np.sum({b})
row    {a} - np.mean({b}, axis=0)
row    {a} / (1 + np.sum({b} * {b}, axis=1, keepdims=True))
move   np.transpose({a})
move   {a}[::-1]
move   {a} + {b}[0]
move   {a}[[2, 0, 3, 1]]
move   np.concatenate([{a}[1:], {b}[:1]])
dot    {a} @ {b}
"""


def draw(seed: int) -> Program:
    rng = np.random.default_rng(seed)
    inputs = {name: rng.standard_normal((4, 4)) for name in "pqrs"}
    kinds = ["map", "pair", "pair", "row", "move", "move", "dot"]
    return Program(f"draw({seed})", compose(rng, inputs, 6, SQUARES, kinds), inputs)


def check_random(seed: int) -> None:
    """A random program whose results take over random inputs; with a guard, or without."""
    program, rng = draw(seed), np.random.default_rng(seed)
    inputs = list(program.inputs.values())
    guarded = int(rng.integers(2))
    loss = lambda *xs: [np.sum(program.function(*xs)[-1])] * guarded
    graph = fl.trace(lambda *xs: (*loss(*xs), *program.function(*xs)), *inputs)
    results = rng.permutation(np.arange(guarded, len(graph.outputs)))[: rng.integers(1, 4)]
    donate = {int(i): int(j) for i, j in zip(results, rng.permutation(4))}
    if guarded and rng.random() < 0.5:
        inputs[rng.integers(4)][tuple(rng.integers(0, 4, 2))] = np.inf
    try:
        with np.errstate(all="ignore"):
            check(graph, inputs, donate, 0 if guarded else None)
    except Exception as error:
        raise AssertionError(f"donate={donate}, guarded={guarded}, of {program}") from error


@pytest.mark.parametrize("nodes, count", [(1, 300), (96, 60)])
def test_random_programs(nodes, count, monkeypatch):
    split(monkeypatch, nodes=nodes)
    for seed in range(count):
        check_random(seed)
