"""The worker's side: say READY, then answer each line `n` with a JSON list of n seconds.

A worker that cannot run says why (`SKIP reason` for what is not installed, `FAILED
reason` for anything else) instead of READY, so that the driver can report it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
Measure = Callable[[int], list[float]]


class Missing(Exception):
    """What should be measured does not exist here; the message says what."""


def serve(prepare: Callable[[], Measure]) -> None:
    """Prepare (imports, data, warm-up; all untimed), then measure on request until stdin closes."""
    pin()
    measure = attempt(prepare)
    say("READY")
    for line in sys.stdin:
        say(json.dumps(measure(int(line))))


def pin() -> None:
    """Stay on as many cores as there are threads to use: the only limit that every library obeys.

    XLA has no setting for its threads but takes its number from here; at one thread it is also
    faster so than with a second core to hand its work to.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-int(os.environ["BENCH_THREADS"]) :])


def attempt(action: Callable[[], T]) -> T:
    """The result of `action`; a failure becomes one line of the protocol and ends the process."""
    try:
        return action()
    except (Missing, ModuleNotFoundError) as error:
        say(f"SKIP {error}")
    except Exception as error:
        traceback.print_exc()
        say(f"FAILED {type(error).__name__}: {error}".splitlines()[0])
    sys.exit(0)


def say(line: str) -> None:
    print(line, flush=True)


def one_by_one(step: Callable[[], object], warm_up: int = 3) -> Measure:
    """Every sample is one call of `step`. A few untimed ones first: a neighbour used the caches."""

    def measure(n: int) -> list[float]:
        for _ in range(warm_up):
            step()
        seconds = []
        for _ in range(n):
            start = perf_counter()
            step()
            seconds.append(perf_counter() - start)
        return seconds

    return measure


def in_calls(steps: Callable[[], object], per_call: int) -> Measure:
    """Every sample is one call that makes `per_call` steps, divided by `per_call`."""
    measure = one_by_one(steps, warm_up=1)
    return lambda n: [seconds / per_call for seconds in measure(max(1, n // per_call))]


def serve_check(losses: Callable[[], list[float]]) -> None:
    """Print the first losses as one JSON list."""
    pin()
    say(json.dumps([float(loss) for loss in attempt(losses)]))
