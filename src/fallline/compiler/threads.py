"""Helper threads for walking a plan.

    set_threads(4); get_threads()

A run of a plan borrows the team of helpers, if no other run has it, and gives each of them its part
to walk; otherwise it walks alone. Results do not depend on it. A helper that has nothing to do
sleeps on a lock.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import SupportsIndex

Job = Callable[[], object]

_chosen: int | None = None
_helpers: list[Helper] = []
# Who has borrowed the helpers. An entry is made by one operation that also says who made it, so a
# Ctrl-C at any moment leaves nobody in doubt.
lent: dict[str, object] = {}
TEAM = "the team"


def set_threads(n: int | None) -> None:
    """Compiled functions run on n threads from now on; None: on as many as there are processors.

    The default is $FALLLINE_NUM_THREADS, else the processors that this process may use; and 1 in
    worker processes of multiprocessing, concurrent.futures and joblib, which share the machine.
    """
    global _chosen
    if n is not None and (isinstance(n, bool) or not isinstance(n, SupportsIndex) or int(n) < 1):
        raise ValueError(f"set_threads: n must be a whole number >= 1, or None; got {n!r}.")
    _chosen = int(n) if n is not None else _default()


def get_threads() -> int:
    """The number of threads that a compiled function runs on."""
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def borrow(borrower: object, n: int) -> Sequence[Helper]:
    """Up to n helpers, or none if another run has them.

    The borrower gives them back by deleting lent[TEAM], if it is there and the borrower's. They may
    then still be on their way out of its last job.
    """
    # While the interpreter shuts down a helper could no longer enter it.
    if sys.is_finalizing() or lent.setdefault(TEAM, borrower) is not borrower:
        return ()
    with suppress(RuntimeError):  # no thread can be started: fewer will do
        while len(_helpers) < n:
            _helpers.append(Helper())
    return _helpers[:n]


class Helper:
    """A thread that calls the job it was last posted."""

    # This is the place for helpers that stay in a native loop between runs and spin for a while
    # before they sleep: `post` would then be one atomic store instead of waking a thread.

    def __init__(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self._job: Job | None = None
        threading.Thread(target=self._serve, name="fallline-helper", daemon=True).start()

    def post(self, job: Job) -> None:
        """Have the job called soon, perhaps after it has become pointless, perhaps twice."""
        self._job = job
        if self._wake.locked():
            self._wake.release()

    def _serve(self) -> None:
        while True:
            self._wake.acquire()
            if job := self._job:
                job()


def _default() -> int:
    given = os.environ.get("FALLLINE_NUM_THREADS", "")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"FALLLINE_NUM_THREADS must be a whole number >= 1; got {given!r}.")
        return int(given)
    return 1 if _in_worker_process() else _processors()


def _in_worker_process() -> bool:
    # Every kind of worker process has imported this module before anything of ours.
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.current_process().name != "MainProcess"


def _processors() -> int:
    """The processors that this process may use: its affinity, and its cgroup's share of time."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        processors = os.cpu_count() or 1
    return max(1, int(min(processors, _cgroup_quota())))


def _cgroup_quota(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float:
    """Processors' worth of time that the cgroups of this process grant; infinite if unlimited."""
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return math.inf
    quotas = [math.inf]
    for _, controllers, path in groups:
        version_1 = "cpu" in controllers.split(",")
        if version_1 or not controllers:
            top = root / "cpu" if version_1 else root
            folder = top / path.lstrip("/")
            quotas += [
                _quota(f, version_1) for f in (folder, *folder.parents) if top in (f, *f.parents)
            ]
    return min(quotas)


def _quota(folder: Path, version_1: bool) -> float:
    try:
        if version_1:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        else:
            quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return math.inf


def _after_fork() -> None:
    """A child has none of its parent's threads, and may be a worker process."""
    _helpers.clear()
    lent.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
