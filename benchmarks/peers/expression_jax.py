"""Value and gradient of an expression with JAX: `jax.jit(jax.value_and_grad(f))`.

Arguments: `call` (a fresh gradient each time) or `donate` (the last gradient's buffer is donated,
so that the next may be written there), optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.expression import N_CHECKED, numbers, of_arrays
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(mode: str) -> Callable[[], tuple]:
    """A function that gives value and gradient, computed."""
    import jax
    import jax.numpy as jnp

    both = jax.value_and_grad(lambda x: of_arrays(jnp, x))
    x = jax.device_put(numbers())
    if mode == "call":
        compiled = jax.jit(both)
        return lambda: jax.block_until_ready(compiled(x))
    compiled = jax.jit(lambda x, scratch: both(x), donate_argnums=1, keep_unused=True)
    scratch = jnp.zeros_like(x)

    def into_the_last() -> tuple:
        nonlocal scratch
        value, scratch = jax.block_until_ready(compiled(x, scratch))
        return value, scratch

    return into_the_last


def prepare(mode: str) -> Measure:
    return one_by_one(build(mode), warm_up=2)


def check(mode: str) -> list[float]:
    value, gradient = build(mode)()
    return [float(value), *gradient[:N_CHECKED].tolist()]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(lambda: check(sys.argv[1]))
    else:
        serve(lambda: prepare(sys.argv[1]))
