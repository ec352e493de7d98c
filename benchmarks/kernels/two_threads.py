"""How many times the multiply-adds of one thread two threads do: 1 to 2; printed.

2 where each has a core of its own, 1 where the system's two processors are two hyperthreads of one
core. That explains figures on two threads, and it may change while a virtual machine runs.
"""

from __future__ import annotations

import numpy as np

from fallline.compiler.walker import Walk

from .roof import multiply_add_walk
from .timing import best, walking

ROUNDS = 100


def main() -> None:
    walks: list[Walk] = [multiply_add_walk(np.dtype(np.float32), n) for n in (1, 2)]
    one, two = best([walking(walk, n) for n, walk in zip((1, 2), walks)], ROUNDS)
    print(2 * one / two)


if __name__ == "__main__":
    main()
