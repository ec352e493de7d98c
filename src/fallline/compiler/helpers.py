"""Helper threads, and how a run gets them to work for it.

    Lead(begin, [join, join, ...], memory).run()

A run borrows the team of helpers, if no other run has it, and leads it. One native call begins the
work, posts a letter to each helper and does the leader's part. When it has done its part a helper
waits in native code for the next letter, for WAIT_SECONDS at most; then it sleeps on a lock, and an
idle process uses no processor. `library/team.py` says how letters are handed over.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fallline.compiler import memory, store

TEXT = Path(__file__).with_name("library").joinpath("team.py").read_text()
LEAD, SERVE = 0, 1
ARGS, LETTER = 5, 20  # words of a letter: up to four bases, the kernel's address, its arguments
SLEEPERS = 2 * LETTER  # among the words of a lead
IDLE, CODE, ASLEEP = 0, 3, 4  # in the state of a mailbox
WORDS_BEFORE = 16  # of a mailbox, before the letter

WAIT_SECONDS = 60e-6  # longer than Python needs between two runs

# Who has borrowed the helpers. An entry is made by one operation that also says who made it, so a
# Ctrl-C at any moment leaves nobody in doubt.
lent: dict[str, object] = {}
TEAM = "the team"
_helpers: list[Helper] = []


def letter(kernel: int, bases: Sequence[int], args: Sequence[int]) -> list[int]:
    """The words of a letter: call this kernel with these addresses and these arguments."""
    words = [*bases, *[0] * (ARGS - 1 - len(bases)), kernel, *args]
    return words + [0] * (LETTER - len(words))


def native(kernel: int) -> Callable[[int, int], None]:
    """A kernel as a function of the addresses of its bases and its arguments."""
    found: Callable[[int, int], None] = ctypes.CFUNCTYPE(None, *2 * [ctypes.c_void_p])(kernel)
    return found


class Lead:
    """Work for a thread and its helpers; one run at a time.

    begin  the letter that the leader follows first, and which opens the work
    joins  the letters of the leader and of each helper: to do the work until nothing is left of it.
           Helpers may come late, or not at all; then the others do their part
    held   for each helper, what must not be freed while it follows its letter
    """

    def __init__(self, begin: list[int], joins: list[list[int]], held: Sequence[object]) -> None:
        leader, *others = joins
        boxes = [word for join in others for word in (0, *join)]
        self.words = (ctypes.c_int64 * (SLEEPERS + 1 + len(boxes)))(*begin, *leader, 0, *boxes)
        self._held = held
        self._helpers: list[Helper] = []
        start = ctypes.addressof(self.words)
        self._lead = _Call(LEAD, start)
        self._join = native(leader[ARGS - 1]), start, start + 8 * (LETTER + ARGS)

    def run(self) -> None:
        """Do the work, with the helpers if nobody else has them."""
        words, (join, bases, args) = self.words, self._join
        words[SLEEPERS] = 0
        try:
            helpers = borrow(self, len(self._held))
            if helpers != self._helpers:
                self._address(helpers)
            for helper, held in zip(helpers, self._held):
                helper.hold(held)
            self._lead()
            if words[SLEEPERS]:
                for helper in helpers:
                    helper.wake()
        finally:
            # Work that has begun is brought to its end before anyone goes on, also after Ctrl-C.
            # Python notices that at the end of a call in C and at the start of one in Python: so
            # this calls C, and gives the helpers back without a call.
            try:
                if words[SLEEPERS]:
                    join(bases, args)
            finally:
                if TEAM in lent and lent[TEAM] is self:
                    del lent[TEAM]

    def _address(self, helpers: list[Helper]) -> None:
        """Write the helpers' mailboxes on their letters."""
        for i, helper in enumerate(helpers):
            self.words[SLEEPERS + 1 + (LETTER + 1) * i] = helper.mailbox
        self._lead.args[1] = len(helpers)
        self._helpers = helpers


def borrow(borrower: object, n: int) -> list[Helper]:
    """Up to n helpers, or none if another run has them.

    The borrower gives them back by deleting lent[TEAM], if it is there and the borrower's. They may
    then still be on their way out of its work.
    """
    # While the interpreter shuts down a helper could no longer enter it.
    if sys.is_finalizing() or lent.setdefault(TEAM, borrower) is not borrower:
        return []
    try:
        while len(_helpers) < n:
            _helpers.append(Helper())
    except RuntimeError:  # no thread can be started: fewer will do
        pass
    return _helpers[:n]


class Helper:
    """A thread that follows the letters in its mailbox. `mailbox` is its address."""

    def __init__(self) -> None:
        self._box, self._letter = memory.words(WORDS_BEFORE + LETTER), memory.words(LETTER)
        self._box[0] = ASLEEP
        self.mailbox = memory.address(self._box)
        self._held: list[object] = []
        self._wake = threading.Lock()
        self._wake.acquire()
        self._follow = _Call(SERVE, memory.address(self._letter), _spins(), self.mailbox)
        threading.Thread(target=self._serve, name="fallline-helper", daemon=True).start()

    def hold(self, what: object) -> None:
        """Keep alive what the next letter speaks of, and what those may that it still follows."""
        if not self._held or self._held[-1] is not what:
            if self._box.item(0) & CODE == IDLE:
                self._held = []
            self._held.append(what)

    def wake(self) -> None:
        """Have it look into its mailbox, soon, and perhaps twice."""
        if self._wake.locked():
            self._wake.release()

    def _serve(self) -> None:
        while True:
            self._wake.acquire()
            self._follow()


class _Call:
    """A call of the kernel `team`, on words whose owner keeps them."""

    def __init__(self, mode: int, words: int, number: int = 0, mailbox: int = 0) -> None:
        self.args = (ctypes.c_int64 * 5)(mode, number, mailbox)  # and base 0, offset 0
        self._bases = (ctypes.c_void_p * 1)(words)
        self._at = ctypes.addressof(self._bases), ctypes.addressof(self.args)
        self._function = native(store.load(TEXT))

    def __call__(self) -> None:
        self._function(*self._at)


@functools.cache
def _spins() -> int:
    """How often a helper looks into its mailbox in WAIT_SECONDS."""
    box = memory.words(WORDS_BEFORE + LETTER)
    n = 100  # so few that it does not let others run meanwhile
    look = _Call(SERVE, memory.address(box), n, memory.address(box))
    seconds = []
    for _ in range(20):
        box[0] = IDLE
        began = time.perf_counter()
        look()
        seconds.append(time.perf_counter() - began)
    return max(1, int(n * WAIT_SECONDS / min(seconds)))


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    _helpers.clear()
    lent.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
