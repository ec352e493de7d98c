"""A convolution and both its gradients with JAX, jitted; images (n, height, width, channels).

Arguments: channels, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.convolution import CONVOLUTIONS, PADDING, Convolution, figures
from benchmarks.peers.image_jax import channels_behind
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(problem: Convolution) -> Callable[[], tuple]:
    """A function that gives y and both gradients, computed."""
    import jax

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), [(PADDING, PADDING)] * 2, dimension_numbers=("NHWC", "OIHW", "NHWC")
        )

    @jax.jit
    def all_three(x, w, dy):
        y, back = jax.vjp(convolve, x, w)
        return (y, *back(dy))

    x, w, dy = problem.arrays()
    arrays = jax.device_put((channels_behind(x), w, channels_behind(dy)))
    return lambda: jax.block_until_ready(all_three(*arrays))


def prepare(problem: Convolution) -> Measure:
    return one_by_one(build(problem))


def check(problem: Convolution) -> list[float]:
    *images, dw = (np.asarray(part) for part in build(problem)())
    y, dx = (part.transpose(0, 3, 1, 2) for part in images)
    return figures(y, dx, dw)


if __name__ == "__main__":
    chosen = CONVOLUTIONS[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen))
