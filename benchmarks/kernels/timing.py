"""Least times of small pieces of work that take turns.

A piece is called with a number of turns, so that the way there and back is shared by many. The
least of several rounds is what the hardware can do; what disturbs only makes it longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from fallline.compiler.plan import Plan
from fallline.compiler.walker import Walk

Work = Callable[[int], object]
SECONDS = 3e-4  # about so long is one measurement


def best(works: Sequence[Work], rounds: int) -> list[float]:
    """Least seconds of one turn of each piece of work; all take turns, `rounds` times."""
    turns = [_turns(work) for work in works]
    found = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            found[i] = min(found[i], seconds(work, turns[i]))
    return found


def seconds(work: Work, turns: int) -> float:
    """Of one turn, now."""
    start = perf_counter()
    work(turns)
    return (perf_counter() - start) / turns


def _turns(work: Work) -> int:
    """How many of them are long enough to be timed; the first call has warmed up the caches."""
    work(1)
    return max(1, round(SECONDS / seconds(work, 1)))


def walking(walk: Walk, n_threads: int = 1) -> Work:
    """Steps of a walk."""
    return lambda turns: walk.run(turns, n_threads)


def repeating(function: Callable[..., object], *args: Any) -> Work:
    """Calls of a Python function."""

    def work(turns: int) -> None:
        for _ in range(turns):
            function(*args)

    return work


class Bound:
    """A plan bound to arrays of its own, so that only its kernels are timed."""

    def __init__(self, plan: Plan, args: Sequence[Any]) -> None:
        self.plan, self.args = plan, args
        self.frame = plan.frame()
        self.results = self.frame(args)  # kept: the walk goes on writing there

    def work(self, n_threads: int = 1) -> Work:
        return walking(self.frame.walk, n_threads)

    @property
    def jobs(self) -> int:
        """The most jobs of a launch."""
        return self.frame.most_threads

    @property
    def flops(self) -> int:
        return sum(launch.flops for launch in self.plan.lowered.launches)
