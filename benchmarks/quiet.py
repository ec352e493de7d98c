"""Is something else using the machine? Read from /proc/stat; elsewhere unknown."""

from __future__ import annotations

import time

SETTLE = 0.25  # s; also lets the last worker's OpenMP threads stop spinning
BUSY = 0.08  # share of all cores


def wait_quiet(limit: float) -> bool | None:
    """Wait for a quiet machine, at most `limit` seconds. True if it is, None if nobody knows."""
    deadline = time.monotonic() + limit
    while True:
        share = busy_share()
        if share is None or share < BUSY:
            return None if share is None else True
        if time.monotonic() > deadline:
            return False


def busy_share() -> float | None:
    """Share of the cores' time that is used, or stolen by the host, in the next SETTLE seconds."""
    before = _ticks()
    time.sleep(SETTLE)
    after = _ticks()
    if before is None or after is None:
        return None
    return 1 - (after[1] - before[1]) / max(1, after[0] - before[0])


def _ticks() -> tuple[int, int] | None:
    """(all, idle) clock ticks since boot."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return None
    return sum(ticks), ticks[3] + ticks[4]
