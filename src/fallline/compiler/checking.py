"""Bounds of memory: each kernel is rehearsed on copies, with every access checked, before it runs.

    FALLLINE_CHECK_BOUNDS=1       checks from the start
    check_bounds(True)            checks what is compiled from now on

Every element that a kernel reads or writes must lie in the buffer that its pointer was made for. So
each phase of a plan is preceded by another, in which the same kernels, compiled with bounds
(`library.bounds`), do the same jobs on copies of the buffers that they may write to. If one goes
astray, nothing is harmed: the walk stops there, and an error says which kernel it was, where, and
by how much. Else the kernels themselves run, so results are the same bits as without checks.

For kernels of one's own, and for whoever works on the compiler. It is slow. The kernel that walks
the program is not checked: what it touches are the program's words, not buffers.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fallline.compiler import memory, store
from fallline.compiler.launch import Launch, Place, Row
from fallline.compiler.memory import CONSTANTS, CONTROL, PRIVATE, SCALARS
from fallline.compiler.walker import Program
from fallline.core.graph import Node

if TYPE_CHECKING:
    from fallline.compiler.plan import Plan

_on: bool | None = None


class BoundsError(IndexError):
    """A kernel touched memory outside the buffer of one of its arguments."""


def check_bounds(on: bool = True) -> None:
    """Whether every access of a compiled function's kernels to memory is checked, which is slow.

    It is for finding errors in kernels of one's own: one that reads or writes outside of an array
    harms no memory and raises a BoundsError. Functions that were called before go on as they are.
    The default is off, or on where the environment says FALLLINE_CHECK_BOUNDS=1.
    """
    global _on
    _on = bool(on)


def checks_bounds() -> bool:
    """Whether what is compiled now is checked."""
    global _on
    if _on is None:
        given = os.environ.get("FALLLINE_CHECK_BOUNDS", "")
        if given not in ("", "0", "1"):
            raise ValueError(f"FALLLINE_CHECK_BOUNDS must be 0 or 1; got {given!r}.")
        _on = given == "1"
    return _on


COPY = """\
# name: copy_bytes
def kernel(n: "int", x: "uint8*", y: "uint8*"):
    for i in range(n):
        y[i] = x[i]
"""


class Rehearsal:
    """The rehearsals of a plan's launches, in memory of their own: `area`, the base after the last.

    Each launch has a record, where its kernel writes down its first violation.
    """

    def __init__(self, plan: Plan) -> None:
        from fallline.compiler.library import bounds

        self.plan, self._bounds = plan, bounds
        self._launches = plan.lowered.launches
        self._records: NDArray[np.int64] = np.zeros(
            (len(self._launches), bounds.RECORD_WORDS), np.int64
        )
        donors = set(plan.lowered.donors.values())
        inputs = [plan.base_of[node][0] for node in plan.inputs if node not in donors]
        self._kept = {CONTROL, CONSTANTS, SCALARS, PRIVATE, *inputs}  # bases that are not copied
        ends = [at + n for g in self._groups() for at, n in self._copied(g).values()]
        self.area = memory.allocate(max(ends, default=0))

    def append(self, program: Program, first: int) -> None:
        """The phase that rehearses a launch and those that are joined to it."""
        group = self._group(first)
        launches = [self._launches[i] for i in group]
        texts = [COPY, *(self._bounds.checked_text(launch.text) for launch in launches)]
        copy, *kernels = store.load_many(texts)
        copied = self._copied(group)
        phase = program.phase(1)
        for (base, offset), (to, nbytes) in copied.items():
            phase.call(copy, [[nbytes, base, offset, self.plan.n_bases, to]])
        for job in range(len(launches[0].rows)):
            for i, launch, kernel in zip(group, launches, kernels, strict=True):
                record = self._records[i].ctypes.data
                phase.call(kernel, [[record, *self._arguments(launch.rows[job], copied)]])

    def check(self, name: str) -> None:
        """Raise the error that the first violation of a run calls for; the records begin anew."""
        found = np.flatnonzero(self._records[:, self._bounds.FOUND])
        if len(found):
            record = self._records[found[0]].tolist()
            self._records[...] = 0
            raise BoundsError(f"{name}: {self._sentence(self._launches[found[0]], record)}")

    def _groups(self) -> Iterator[list[int]]:
        """Launches that share their jobs, by their numbers."""
        for first, launch in enumerate(self._launches):
            if not launch.joined:
                yield self._group(first)

    def _group(self, first: int) -> list[int]:
        end = first + 1
        while end < len(self._launches) and self._launches[end].joined:
            end += 1
        return list(range(first, end))

    def _copied(self, group: Sequence[int]) -> dict[tuple[int, int], tuple[int, int]]:
        """For the place of each buffer that may be written, where its copy lies, and its bytes.

        What lies at one place has one copy: a result may be written over an argument.
        """
        sizes: dict[tuple[int, int], int] = {}
        for i in group:
            for row in self._launches[i].rows[:1]:  # all jobs touch the same buffers
                for item in row:
                    if isinstance(item, Place):
                        place = self.plan.base_of[item.key]
                        sizes[place] = max(sizes.get(place, 0), self._extent(item.key))
        found, at = {}, 0
        for place, nbytes in sizes.items():
            if place[0] not in self._kept:
                found[place] = at, nbytes
                at += memory.aligned(nbytes)
        return found

    def _arguments(self, row: Row, copied: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
        """As `bounds.checked_text` says."""
        found: list[int] = []
        for item in row:
            if not isinstance(item, Place):
                found.append(item)
                continue
            base, start = place = self.plan.base_of[item.key]
            if place in copied:
                base, start = self.plan.n_bases, copied[place][0]
            found += [base, start + item.offset, start, start + self._extent(item.key)]
        return found

    def _extent(self, key: Any) -> int:
        """The bytes of a buffer, or of a number."""
        if isinstance(key, Node):
            return self.plan.lowered.private.get(key, key.spec.nbytes)
        return memory.SCALAR_BYTES if key == "status" else np.dtype(key[1]).itemsize

    def _sentence(self, launch: Launch, record: Sequence[int]) -> str:
        bounds = self._bounds
        number, offset = record[bounds.PARAMETER], record[bounds.OFFSET]
        does = "writes" if record[bounds.WRITES] else "reads"
        whose = "its own memory"
        if number != bounds.SCRATCH:
            whose = f"its argument {_parameters(launch.text)[number]}"
        said = (
            f"the kernel {launch.title} {does} {_bytes(record[bounds.BYTES])} at byte {offset} "
            f"of {whose}, which has {_bytes(record[bounds.SIZE])}."
        )
        return said if launch.is_own else f"{said} This is an error of Fallline: please report it."


def _bytes(n: int) -> str:
    return "1 byte" if n == 1 else f"{n} bytes"


def _parameters(text: str) -> list[str]:
    """The names of a kernel's parameters."""
    functions = (f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef))
    kernel = next(f for f in functions if f.name == "kernel")
    return [argument.arg for argument in kernel.args.args]
