"""The main job: wall seconds of `fallline compare digits --budget quick`, start-up included.

Warm: a run before the measured ones fills the kernel store. Every run writes its records to an
empty folder, so that none continues another.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from time import perf_counter

from benchmarks.worker import Measure, serve

COMMAND = [sys.executable, "-m", "fallline", "compare", "digits", "--budget", "quick"]
WARM_UP = ["--optimizers", "sgd,adam", "--epochs", "1"]


def once(*options: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        done = subprocess.run([*COMMAND, *options, "--out", folder], capture_output=True, text=True)
        seconds = perf_counter() - start
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return seconds


def prepare() -> Measure:
    import fallline  # noqa: F401  (missing: skipped, not failed)

    once(*WARM_UP)
    return lambda n: [once() for _ in range(n)]


if __name__ == "__main__":
    serve(prepare)
