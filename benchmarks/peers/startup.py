"""Start-up times: every sample is a fresh process that runs `first_step.py`.

Arguments: library and what to report: `import`, `step` (the first training step after it; warm),
`total` (both), or `cold` (import and one epoch with an empty kernel store, as in the first training
ever on a machine). "Cold" empties Fallline's store; the files of the Python packages stay in the
system's page cache, as they do after installing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from benchmarks.worker import Measure, Missing, serve


def once(library: str, what: str) -> float:
    """Seconds of one fresh process."""
    env = dict(os.environ)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as after installing: nothing is parsed anew
    command = [sys.executable, "-m", "benchmarks.peers.first_step", library]
    if what == "import":
        env["BENCH_IMPORT_ONLY"] = "1"
    if what != "cold":
        return _last_json(command, env)[what]
    with tempfile.TemporaryDirectory() as empty:
        return _last_json([*command, "epoch"], env | {"FALLLINE_CACHE_DIR": empty})["total"]


def _last_json(command: list[str], env: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        kind, _, message = last.partition("ModuleNotFoundError: ")
        raise RuntimeError(last) if kind else Missing(message)
    return json.loads(done.stdout.splitlines()[-1])


def prepare(library: str, what: str) -> Measure:
    once(library, what)  # fills the store and the page cache; for `cold` only the latter
    return lambda n: [once(library, what) for _ in range(n)]


if __name__ == "__main__":
    serve(lambda: prepare(*sys.argv[1:3]))
