"""How many threads a compiled function runs on. Results do not depend on it.

set_threads(4); get_threads()
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import SupportsIndex

_chosen: int | None = None  # by `set_threads`; a process that is forked off has it too
_usual: int | None = None  # the default of this process, once it is known


def set_threads(n: int | None) -> None:
    """Compiled functions run on n threads from now on; None: on as many as there are processors.

    The default is $FALLLINE_NUM_THREADS, else the processors that this process may use; and 1 in
    worker processes of multiprocessing, concurrent.futures and joblib, which share the machine.
    A process that is forked off keeps what was set here before; one that is spawned does not.
    """
    global _chosen, _usual
    if n is not None and (isinstance(n, bool) or not isinstance(n, SupportsIndex) or int(n) < 1):
        raise ValueError(f"set_threads: n must be a whole number >= 1, or None; got {n!r}.")
    _usual = _default() if n is None else _usual
    _chosen = None if n is None else int(n)


def get_threads() -> int:
    """The number of threads that a compiled function runs on."""
    global _usual
    if _chosen is not None:
        return _chosen
    if _usual is None:
        _usual = _default()
    return _usual


def _after_fork() -> None:
    """The default is another one in a worker process."""
    global _usual
    _usual = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
