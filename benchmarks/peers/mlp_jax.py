"""A training step in JAX: jax.jit, parameters and state donated, Adam from Optax.

The batches are put on the device beforehand. Arguments: problem, `step` (waits for every loss),
`stream` (20 calls, then waits: dispatch overlaps the computation) or `scan` (lax.scan over 200
steps a call), for dropout the implementation of random keys (`threefry2x32`, the default of JAX,
`rbg` or `unsafe_rbg`, which are there for speed), optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle, islice

from benchmarks.problem import B1, B2, EPS, PROBLEMS, Problem
from benchmarks.worker import Measure, in_calls, one_by_one, serve, serve_check

STREAM, SCAN = 20, 200


def build(problem: Problem, keys: str = "threefry2x32", replica: int = 0) -> tuple[Callable, tuple]:
    """The pure step (carry, batch) -> (carry, loss), not yet compiled, and the first carry."""
    import jax
    import jax.numpy as jnp
    import optax

    adam = optax.adam(problem.lr, b1=B1, b2=B2, eps=EPS)
    kept = 1 - problem.dropout

    def loss_of(params, x, y, key):
        for i, (W, b) in enumerate(params[:-1]):
            x = jax.nn.relu(x @ W + b)
            if problem.dropout:
                mask = jax.random.bernoulli(jax.random.fold_in(key, i), kept, x.shape)
                x = jnp.where(mask, x / kept, 0)
        W, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ W + b, y).mean()

    def step(carry, batch):
        params, state, key = carry
        key, drawn = jax.random.split(key) if problem.dropout else (key, key)
        loss, grads = jax.value_and_grad(loss_of)(params, *batch, drawn)
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state, key), loss

    params = jax.tree.map(jnp.array, problem.weights(replica))
    return step, (params, adam.init(params), jax.random.key(0, impl=keys))


def stepper(problem: Problem, keys: str, batches: int | None = None) -> Callable[[], object]:
    """A function that makes one jitted step on the next batch; it does not wait for the loss."""
    step, carry = build(problem, keys)
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


def scanner(problem: Problem, keys: str, batches: int | None = None) -> Callable[[], object]:
    """A function that makes SCAN steps in one call; the batch is sliced from the data inside."""
    step, carry = build(problem, keys)
    return calls(problem, scanned(problem, step, batches), carry, batches)


def scanned(problem: Problem, step: Callable, batches: int | None) -> Callable:
    """SCAN steps as one pure function (carry, X, y) -> (carry, losses)."""
    import jax
    import jax.numpy as jnp

    n = problem.batch * (batches or problem.batches)
    starts = jnp.array(list(islice(cycle(range(0, n, problem.batch)), SCAN)))

    def many(carry, X, y):
        def one(carry, start):
            batch = [jax.lax.dynamic_slice_in_dim(a, start, problem.batch) for a in (X, y)]
            return step(carry, batch)

        return jax.lax.scan(one, carry, starts)

    return many


def calls(problem: Problem, many: Callable, carry: tuple, batches: int | None) -> Callable:
    """A function that calls `many`, compiled, on the problem's data, and waits for the losses."""
    import jax
    import jax.numpy as jnp

    X, y = (jnp.array(a) for a in problem.data(batches))
    compiled = jax.jit(many, donate_argnums=0)

    def advance():
        nonlocal carry
        carry, losses = compiled(carry, X, y)
        return losses.block_until_ready()

    return advance


def prepare(problem: Problem, mode: str, keys: str) -> Measure:
    if mode == "scan":
        scan = scanner(problem, keys)
        scan()
        return in_calls(scan, SCAN)
    advance = stepper(problem, keys)

    def wait():
        return advance().block_until_ready()

    def stream():
        for _ in range(STREAM - 1):
            advance()
        return wait()

    stream()
    return in_calls(stream, STREAM) if mode == "stream" else one_by_one(wait)


def check(problem: Problem, mode: str, keys: str) -> list[float]:
    still, n = problem.at_check(), problem.check_steps
    if mode == "scan":
        return problem.figures(scanner(still, keys, batches=1)().tolist())
    advance = stepper(still, keys, batches=1)
    return problem.figures([float(advance()) for _ in range(n)])


if __name__ == "__main__":
    given = [word for word in sys.argv[2:] if word != "check"]
    args = (PROBLEMS[sys.argv[1]], given[0], given[1] if len(given) > 1 else "threefry2x32")
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
