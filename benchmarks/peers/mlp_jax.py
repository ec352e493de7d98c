"""A training step in JAX: jax.jit, parameters and state donated, Adam from Optax.

The batches are put on the device beforehand. Arguments: problem, `step` (waits for every loss),
`stream` (20 calls, then waits: dispatch overlaps the computation) or `scan` (lax.scan over 200
steps a call), optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle, islice

from benchmarks.problem import B1, B2, EPS, LR, PROBLEMS, Problem
from benchmarks.worker import Measure, in_calls, one_by_one, serve, serve_check

STREAM, SCAN = 20, 200


def build(problem: Problem) -> tuple[Callable, tuple]:
    """The pure step (carry, batch) -> (carry, loss), not yet compiled, and the first carry."""
    import jax
    import jax.numpy as jnp
    import optax

    adam = optax.adam(LR, b1=B1, b2=B2, eps=EPS)

    def loss_of(params, x, y):
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ W + b, y).mean()

    def step(carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, *batch)
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    params = jax.tree.map(jnp.array, problem.weights())
    return step, (params, adam.init(params))


def stepper(problem: Problem, batches: int | None = None) -> Callable[[], object]:
    """A function that makes one jitted step on the next batch; it does not wait for the loss."""
    step, carry = build(problem)
    import jax

    compiled = jax.jit(step, donate_argnums=0)
    X, y = problem.data(batches)
    split = (len(X) // problem.batch, problem.batch)
    feed = cycle(
        [jax.device_put(b) for b in zip(X.reshape(*split, -1), y.reshape(split), strict=True)]
    )

    def advance():
        nonlocal carry
        carry, loss = compiled(carry, next(feed))
        return loss

    return advance


def scanner(problem: Problem, batches: int | None = None) -> Callable[[], object]:
    """A function that makes SCAN steps in one call; the batch is sliced from the data inside."""
    step, carry = build(problem)
    import jax
    import jax.numpy as jnp

    X, y = (jnp.array(a) for a in problem.data(batches))
    starts = jnp.array(list(islice(cycle(range(0, len(X), problem.batch)), SCAN)))

    def many(carry, X, y):
        def one(carry, start):
            batch = [jax.lax.dynamic_slice_in_dim(a, start, problem.batch) for a in (X, y)]
            return step(carry, batch)

        return jax.lax.scan(one, carry, starts)

    compiled = jax.jit(many, donate_argnums=0)

    def advance():
        nonlocal carry
        carry, losses = compiled(carry, X, y)
        return losses.block_until_ready()

    return advance


def prepare(problem: Problem, mode: str) -> Measure:
    if mode == "scan":
        scan = scanner(problem)
        scan()
        return in_calls(scan, SCAN)
    advance = stepper(problem)

    def wait():
        return advance().block_until_ready()

    def stream():
        for _ in range(STREAM - 1):
            advance()
        return wait()

    stream()
    return in_calls(stream, STREAM) if mode == "stream" else one_by_one(wait)


def check(problem: Problem, mode: str) -> list[float]:
    if mode == "scan":
        return scanner(problem, batches=1)()[:5].tolist()
    advance = stepper(problem, batches=1)
    return [float(advance()) for _ in range(5)]


if __name__ == "__main__":
    args = (PROBLEMS[sys.argv[1]], sys.argv[2])
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
