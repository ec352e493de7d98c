"""What brings errors to light: memory that shows if it is read too early, and small pieces."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from fallline.compiler import fuse, launch
from fallline.compiler.frame import Frame


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)


def poison(patch: pytest.MonkeyPatch) -> None:
    """Let fresh memory, and each workspace before a run, hold NaN, -1 or no bool at all."""
    empty, walk_steps = np.empty, Frame.walk_steps

    def poisoned(*args: Any, **more: Any) -> np.ndarray[Any, Any]:
        array = empty(*args, **more)
        if not array.dtype.hasobject:
            ctypes.memset(array.ctypes.data, 0xFF, array.nbytes)
        return array

    def walk(self: Frame, steps: int = 1) -> int:
        self.workspace.fill(0xFF)
        return walk_steps(self, steps)

    patch.setattr(np, "empty", poisoned)  # of which workspaces and results are made
    patch.setattr(Frame, "walk_steps", walk)


def split(patch: pytest.MonkeyPatch, *, nodes: int, row: int = 6, job: int = 8) -> None:
    """Fuse at most so many operations; let rows, and jobs, have so few elements."""
    patch.setattr(fuse, "MOST_NODES", nodes)
    patch.setattr(fuse, "ROW_TOTAL", row)
    patch.setattr(launch, "JOB_ELEMENTS", job)
