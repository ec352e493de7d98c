"""Random trials without end: programs, layers, training, products, threads, processes, Ctrl-C, ...

    python -m tests.stress --minutes 10 [--seed 0] [--only a_fork]

It stops at the first wrong bit and says the seed of the trial, with which it can be repeated.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter

# A store of its own, chosen before fallline is imported: worker processes inherit it.
_FOLDER = tempfile.TemporaryDirectory(prefix="fallline-stress-")
os.environ.setdefault("FALLLINE_CACHE_DIR", _FOLDER.name)

from tests.stress.trials import TRIALS, trial  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 10**9)
    parser.add_argument("--only", action="append", choices=TRIALS, help="a trial; repeatable")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    end, done = time.monotonic() + 60 * arguments.minutes, Counter[str]()
    for seed in itertools.count(arguments.seed):
        if time.monotonic() > end:
            break
        faulthandler.dump_traceback_later(300)  # where threads wait for each other for ever
        try:
            done[trial(seed, arguments.only)] += 1
        except BaseException:
            traceback.print_exc()
            only = "".join(f" --only {name}" for name in arguments.only or ())
            sys.exit(f"stress: failed; python -m tests.stress --seed {seed}{only} repeats it.")
        faulthandler.cancel_dump_traceback_later()
    counts = ", ".join(f"{name} {count}" for name, count in sorted(done.items()))
    print(f"{sum(done.values())} trials, no wrong bit: {counts}")


if __name__ == "__main__":
    main()
