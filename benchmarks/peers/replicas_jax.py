"""Many runs of a small network in JAX: `vmap` over the networks of a step, `lax.scan` over steps.

Seconds are per step of a network. All runs see the same batches. Optional argument: `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.peers.mlp_jax import SCAN, build, calls, scanned
from benchmarks.problem import PROBLEMS, REPLICAS
from benchmarks.worker import Measure, in_calls, serve, serve_check

PROBLEM = PROBLEMS["mlp_small"]


def together(batches: int | None = None) -> Callable:
    """A function that makes SCAN steps of every network; the losses, (SCAN, REPLICAS)."""
    import jax
    import jax.numpy as jnp

    step, _ = build(PROBLEM)
    carries = [build(PROBLEM, replica=i)[1] for i in range(REPLICAS)]
    carry = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
    many = scanned(PROBLEM, jax.vmap(step, in_axes=(0, None)), batches)
    return calls(PROBLEM, many, carry, batches)


def prepare() -> Measure:
    advance = together()
    advance()
    return in_calls(advance, SCAN * REPLICAS)


def check() -> list[float]:
    """The first losses of the first run and of the last."""
    losses = together(batches=1)()[: PROBLEM.check_steps]
    return [*losses[:, 0].tolist(), *losses[:, -1].tolist()]


if __name__ == "__main__":
    if "check" in sys.argv:
        serve_check(check)
    else:
        serve(prepare)
