"""A lock that a forked child finds open.

A thread that holds a lock does not exist in a child of the process, so nobody would release it
there. What these locks guard may have been left half-way: it must be such that this does no harm
(a plan that is not in its dictionary yet is made again).
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress

_all: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """Held by one thread at a time, by that thread any number of times: `with lock:`."""

    def __init__(self) -> None:
        self._inner = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # the thread that holds it has forked, and this is the child
            self._inner.release()


def _after_fork() -> None:
    for lock in list(_all):
        lock._inner = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
