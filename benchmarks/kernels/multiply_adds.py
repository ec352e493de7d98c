"""GF/s of multiply-adds in registers on one thread and on two, printed as JSON.

Two threads do twice as many where each has a core of its own, and no more than one where the
system's two processors are two hyperthreads of one core. That explains figures on two threads, and
it may change while a virtual machine runs.
"""

from __future__ import annotations

import json

import numpy as np

from .roof import COUNT, multiply_add_walk, registers
from .timing import best, walking

ROUNDS = 200


def main() -> None:
    dtype = np.dtype(np.float32)
    lanes, sums = registers(dtype)
    works = [walking(multiply_add_walk(dtype, n), n) for n in (1, 2)]
    flops = 2 * lanes * sums * COUNT
    print(json.dumps([n * flops / s / 1e9 for n, s in zip((1, 2), best(works, ROUNDS))]))


if __name__ == "__main__":
    main()
