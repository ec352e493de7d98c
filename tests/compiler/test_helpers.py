"""Helpers: who gets them, that each letter is followed, and that they cost nothing when idle."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from fallline.compiler import helpers, memory, store
from fallline.compiler.helpers import IDLE, Lead, letter

# counts itself in, and waits till so many have come to this meeting; 0 waits for nobody
MEET = """\
# name: meet
from fallline.compiler.library.machine import atomic_add, atomic_load, yield_processor

def kernel(counter: "int", goal: "int"):
    before = atomic_add(counter, 1)
    while atomic_load(counter) < before // max(goal, 1) * goal + goal:
        yield_processor()
"""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
    helpers.lent.clear()


class Meeting:
    """The leader and its helpers, who all go on when all have come."""

    def __init__(self, n_helpers: int, goal: int | None = None) -> None:
        self.counter, self.opened = memory.words(1), memory.words(1)
        goal = n_helpers + 1 if goal is None else goal
        meet = letter(store.load(MEET), [], [memory.address(self.counter), goal])
        begin = letter(store.load(MEET), [], [memory.address(self.opened), 0])
        self.lead = Lead(begin, [meet] * (n_helpers + 1), [self] * n_helpers)

    def run(self) -> int:
        """How many came, if the leader did not go on without them."""
        before = int(self.counter[0])
        self.lead.run()
        return int(self.counter[0]) - before


@pytest.mark.parametrize("n", [1, 2, 4])
def test_helpers_come_awake_or_asleep(n: int) -> None:
    """Also when there are more of them than processors."""
    meeting = Meeting(n)
    for pause in [0.0] * 300 + [0.0005] * 20 + [0.02] * 3:
        assert meeting.run() == n + 1
        time.sleep(pause)


def test_meetings_take_turns() -> None:
    """Letters of one run after those of another; runs of fewer helpers in between."""
    meetings = [Meeting(n) for n in (3, 1, 0, 2)]
    for _ in range(100):
        for n, meeting in zip((3, 1, 0, 2), meetings, strict=True):
            assert meeting.run() == n + 1


def test_a_busy_helper_follows_the_last_letter_afterwards() -> None:
    """It holds up nobody, and what it still works on is kept."""
    late = Meeting(1, goal=3)  # the helper waits for someone who does not come for now
    late.lead.words[helpers.LETTER + helpers.ARGS + 1] = 0  # the leader waits for nobody
    late.run()
    while late.counter[0] < 2:
        time.sleep(0.001)
    counter, gone = late.counter, weakref.ref(late)
    del late
    missed, last = Meeting(1, goal=0), Meeting(1, goal=0)
    missed.run()
    last.run()
    gc.collect()
    assert counter[0] == 2 and gone() is not None
    assert missed.counter[0] == last.counter[0] == 1  # the leader
    ctypes.c_int64.from_address(memory.address(counter)).value += 1
    while last.counter[0] < 2:
        time.sleep(0.001)
    assert missed.counter[0] == 1
    while helpers._helpers[0]._box[0] & helpers.CODE != IDLE:
        time.sleep(0.001)
    missed.run()
    gc.collect()
    assert gone() is None


def test_one_borrower_at_a_time() -> None:
    first, second = object(), object()
    assert len(helpers.borrow(first, 2)) == 2
    assert helpers.borrow(second, 2) == []
    alone = Meeting(2, goal=0)
    alone.run()
    assert alone.counter[0] == 1
    assert helpers.lent == {helpers.TEAM: first}
    del helpers.lent[helpers.TEAM]
    assert len(helpers.borrow(second, 3)) == 3


def test_a_system_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers, "Helper", refuse)
    monkeypatch.setattr(helpers, "_helpers", helpers._helpers[:1])
    assert len(helpers.borrow(object(), 3)) <= 1
    helpers.lent.clear()
    meeting = Meeting(3, goal=0)
    meeting.run()
    assert 1 <= meeting.counter[0] <= 2


def test_leads_from_several_threads() -> None:
    met: list[int] = []

    def work() -> None:
        meeting = Meeting(2, goal=0)
        for _ in range(200):
            met.append(meeting.run())

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(met) == 600 and min(met) >= 1


# Processes ----------------------------------------------------------------------------------------

PREAMBLE = f"""
import sys, time
import numpy as np
from fallline.compiler import helpers, memory, store
MEET = {MEET!r}
counter = memory.words(1)
meet = helpers.letter(store.load(MEET), [], [memory.address(counter), 0])
lead = helpers.Lead(meet, [meet] * 3, [counter] * 2)
"""


def run(script: str) -> str:
    """Run a script that follows the preamble, in a process of its own; returns what it printed."""
    command = [sys.executable, "-c", PREAMBLE + script]
    environment = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_an_idle_process_uses_no_processor() -> None:
    script = """
for _ in range(1000):
    lead.run()
time.sleep(0.2)
before = time.process_time()
time.sleep(1)
print(time.process_time() - before)
"""
    assert float(run(script)) < 0.02  # seconds; two spinning helpers would use two


@pytest.mark.parametrize("wait", ["0", "30e-6", "100e-6", "1e-3"])
def test_quiet_exit_whatever_helpers_do(wait: str) -> None:
    script = f"""
for _ in range(100):
    lead.run()
end = time.perf_counter() + {wait}
while time.perf_counter() < end:
    pass
print("done")
"""
    assert run(script) == "done"
