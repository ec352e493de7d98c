"""Driving runs: one with all threads, or many side by side, a thread for each.

What runs in Python, the bookkeeping of the runs and their callbacks, runs in the thread that asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fallline.compiler.threads import get_threads
from fallline.train.run import Array, Routine, Run
from fallline.train.trainer import steps_together

PER_THREAD = 8  # runs on their way for each thread: few enough to lie in its cache


def together(runs: Iterable[Run], at_once: int | None = None) -> Iterator[Run]:
    """Train runs, at most `at_once` of them at a time; yields each when it has ended.

    Runs are taken from `runs` when there is room for them, so it may make them one by one. A run
    has the bits that it has alone. One that an exception ends has it as its `error`; Ctrl-C ends
    all of them, and goes on to the caller.
    """
    waiting = iter(runs)
    most = at_once or _usual()
    active: list[_Driven] = []
    try:
        while True:
            while len(active) < most and (run := next(waiting, None)) is not None:
                active.append(_Driven(run, run.routine()))
                active[-1].resume(None)
            if not active:
                return
            for driven in [d for d in active if d.ended]:
                active.remove(driven)
                yield driven.run
            _step(active)
    finally:
        for driven in active:
            driven.routine.close()


@dataclass
class _Driven:
    """A run on its way, and how many steps it wants."""

    run: Run
    routine: Routine
    wanted: int = 0
    ended: bool = False

    def resume(self, answer: Array | Exception | None) -> None:
        """Tell it what became of its steps, up to its next wish or its end."""
        try:
            if isinstance(answer, Exception):
                self.wanted = self.routine.throw(answer)
            else:
                self.wanted = self.routine.send(answer)  # type: ignore[arg-type]  # None begins
        except StopIteration:
            self.ended = True
        except Exception as error:
            self.ended, self.run.error = True, error


def _usual() -> int:
    """Runs at a time: on one thread they would only be in each other's way."""
    threads = get_threads()
    return PER_THREAD * threads if threads > 1 else 1


def _step(active: list[_Driven]) -> None:
    """The next steps of all of them: of one alone on all threads, else each on one."""
    going = [driven for driven in active if not driven.ended]
    if len(going) == 1:
        going[0].resume(_steps_alone(going[0]))
    elif going:
        found = steps_together([d.run.trainer for d in going], [d.wanted for d in going])
        for driven, answer in zip(going, found, strict=True):
            driven.resume(answer)


def _steps_alone(driven: _Driven) -> Array | Exception:
    try:
        return driven.run.trainer.steps(driven.wanted)
    except Exception as error:
        return error
