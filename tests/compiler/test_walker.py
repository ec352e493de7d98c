"""Walking a program: any number of threads, processes and runs at once, the same bits."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fallline.compiler import store
from fallline.compiler.memory import FIRST_INPUT, PRIVATE
from fallline.compiler.walker import MAX_JOBS, Program, Walk, walk_together

# y = y * 3 + x: the order of jobs and steps shows in the result
MIX = """\
# name: mix
def kernel(n: "int", x: "int64*", y: "int64*"):
    for i in range(n):
        y[i] = y[i] * 3 + x[i]
"""

# sets the status when the counter reaches a limit
GUARD = """\
# name: guard
def kernel(limit: "int", status: "int64*", counter: "int64*"):
    counter[0] += 1
    if counter[0] == limit:
        status[0] = 7
"""

ADD_ONE = """\
# name: add_one
def kernel(x: "int64*"):
    x[0] += 1
"""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A thread that waits for ever ends the process, with all stacks, instead of the patience."""
    faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def mixing(jobs: int, phases: int, width: int = 16) -> tuple[Walk, np.ndarray, np.ndarray]:
    """Phases that mix every block of one array with another block of the other."""
    rng = np.random.default_rng(jobs)
    a = rng.integers(1 << 30, size=(jobs, width))
    b = rng.integers(1 << 30, size=(jobs, width))
    program = Program()
    for phase in range(phases):
        x, y = (1, 2) if phase % 2 else (2, 1)
        table = [
            [width, x, 8 * width * ((job + phase) % jobs), y, 8 * width * job]
            for job in range(jobs)
        ]
        program.phase(jobs).call(store.load(MIX), table)
    walk = Walk(program.array(), n_bases=3)
    walk.bases[1:] = a.ctypes.data, b.ctypes.data
    return walk, a, b


def mixed(a: np.ndarray, b: np.ndarray, phases: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """What `mixing` computes, naively."""
    a, b = a.copy(), b.copy()
    for _ in range(steps):
        for phase in range(phases):
            x, y = (a, b) if phase % 2 else (b, a)
            y[:] = y * 3 + np.roll(x, -(phase % len(x)), axis=0)
    return a, b


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
@pytest.mark.parametrize("jobs, phases, steps", [(1, 1, 1), (1, 7, 5), (2, 3, 10), (13, 4, 25)])
def test_the_number_of_threads_changes_nothing(
    n_threads: int, jobs: int, phases: int, steps: int
) -> None:
    walk, a, b = mixing(jobs, phases)
    expected = mixed(a, b, phases, steps)
    assert walk.run(steps, n_threads) == 0
    assert walk.steps_done == steps
    assert np.array_equal(a, expected[0]) and np.array_equal(b, expected[1])


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_thousands_of_tiny_phases(n_threads: int) -> None:
    walk, a, b = mixing(jobs=3, phases=2000, width=1)
    expected = mixed(a, b, 2000, 10)
    assert walk.run(10, n_threads) == 0
    assert np.array_equal(a, expected[0]) and np.array_equal(b, expected[1])


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_thousands_of_tiny_runs(n_threads: int) -> None:
    walk, a, b = mixing(jobs=3, phases=2)
    expected = mixed(a, b, 2, 3000)
    for _ in range(3000):
        assert walk.run(1, n_threads) == 0
    assert np.array_equal(a, expected[0]) and np.array_equal(b, expected[1])


def test_bases_may_move_between_runs() -> None:
    walk, a, b = mixing(jobs=4, phases=2)
    copies = [(a.copy(), b.copy()) for _ in range(200)]
    expected = mixed(a, b, 2, 1)
    for n, (x, y) in enumerate(copies):
        walk.bases[1:] = x.ctypes.data, y.ctypes.data
        walk.run(1, 1 + n % 3)
        assert np.array_equal(x, expected[0]) and np.array_equal(y, expected[1])


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_bases_advance_with_the_steps(n_threads: int) -> None:
    steps, jobs = 300, 4
    x = np.arange(steps * jobs * 2).reshape(steps, jobs, 2)
    y = np.zeros((jobs, 2), np.int64)
    z = np.zeros((steps, jobs, 2), np.int64)
    program = Program()
    offsets = [16 * job for job in range(jobs)]
    program.phase(jobs).call(store.load(MIX), [[2, 1, o, 2, o] for o in offsets])
    program.phase(jobs).call(store.load(MIX), [[2, 2, o, 3, o] for o in offsets[::-1]])
    walk = Walk(program.array(), n_bases=4)
    walk.bases[1:] = x.ctypes.data, y.ctypes.data, z.ctypes.data
    walk.advance[:] = 0, x.strides[0], 0, z.strides[0]
    for _ in range(2):  # the second run begins at the first step again
        y[:] = z[:] = 0
        assert walk.run(steps, n_threads) == 0
        naive = np.zeros((jobs, 2), np.int64)
        for step in range(steps):
            naive = naive * 3 + x[step]
            assert np.array_equal(z[step], naive)


def test_jobs_call_several_kernels_in_order() -> None:
    x, y = np.array([1, 2, 3]), np.zeros(3, np.int64)
    program = Program()
    mix = store.load(MIX)
    table = [[1, 1, 8 * j, 2, 8 * j] for j in range(3)]
    program.phase(3).call(store.load(ADD_ONE), [[2, 8 * j] for j in range(3)]).call(mix, table)
    program.phase(2).call(store.load(ADD_ONE), [1, 0])  # one row for both jobs, which then ...
    walk = Walk(program.array(), n_bases=3)
    walk.bases[1:] = x.ctypes.data, y.ctypes.data
    walk.run(1, 1)  # ... add to one place, on one thread
    assert y.tolist() == [4, 5, 6]
    assert x.tolist() == [3, 2, 3]


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_a_status_stops_all_threads_at_the_same_place(n_threads: int, limit: int) -> None:
    counter, before, after = np.zeros(1, np.int64), np.zeros(8, np.int64), np.zeros(8, np.int64)
    add_one = store.load(ADD_ONE)
    program = Program()
    program.phase(8).call(add_one, [[2, 8 * j] for j in range(8)])
    # The guard is one of several jobs: those beside it are still done.
    program.phase(1).call(store.load(GUARD), [[limit, 0, 0, 1, 0]])
    program.phase(8).call(add_one, [[3, 8 * j] for j in range(8)])
    walk = Walk(program.array(), n_bases=4)
    walk.bases[1:] = counter.ctypes.data, before.ctypes.data, after.ctypes.data
    assert walk.run(100, n_threads) == 7
    assert walk.steps_done == limit - 1
    assert before.tolist() == [limit] * 8
    assert after.tolist() == [limit - 1] * 8
    # and the next run begins afresh
    assert walk.run(3, n_threads) == 0
    assert walk.steps_done == 3
    assert before.tolist() == [limit + 3] * 8


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("stops", [0, 2, 4])
def test_a_row_of_single_jobs_stops_where_one_says_so(n_threads: int, stops: int) -> None:
    """They are one phase; nothing is called after the one that stops the walk, in the same step."""
    counter, places = np.zeros(5, np.int64), np.zeros(7, np.int64)
    add_one, guard = store.load(ADD_ONE), store.load(GUARD)
    program = Program()
    for i in range(5):
        limit = 30 if i == stops else -1
        program.phase(1).call(guard, [[limit, 0, 0, 1, 8 * i]]).call(add_one, [[2, 8 * i]])
        program.phase(0)
    program.phase(2).call(add_one, [[2, 40], [2, 48]])
    assert program.array()[0] == 2
    walk = Walk(program.array(), n_bases=3)
    walk.bases[1:] = counter.ctypes.data, places.ctypes.data
    assert walk.run(100, n_threads) == 7 and walk.steps_done == 29
    assert places[:5].tolist() == [30] * stops + [29] * (5 - stops) and (places[5:] == 29).all()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_nothing_to_do(n_threads: int) -> None:
    walk, a, b = mixing(jobs=2, phases=2)
    before = a.copy(), b.copy()
    assert walk.run(0, n_threads) == 0 and walk.steps_done == 0
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])
    empty = Walk(Program().array(), n_bases=1)
    assert empty.run(5, n_threads) == 0
    program = Program()
    program.phase(0).call(store.load(MIX), np.zeros((0, 5)))
    assert program.array().tolist() == [0]


def test_too_many_jobs() -> None:
    with pytest.raises(ValueError, match=r"n_jobs must be in \[0, "):
        Program().phase(MAX_JOBS + 1)


def test_several_runs_at_once() -> None:
    results: list[bool] = []

    def work(jobs: int) -> None:
        for _ in range(20):
            walk, a, b = mixing(jobs, phases=3)
            expected = mixed(a, b, 3, 50)
            status = walk.run(50, 2)
            results.append(status == 0 and np.array_equal(a, expected[0]))

    workers = [threading.Thread(target=work, args=(jobs,)) for jobs in (2, 5, 7)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 60


# Private memory -----------------------------------------------------------------------------------

# writes to private memory, takes its time, and reads what is there
ROUND_TRIP = """\
# name: round_trip
def kernel(n: "int", job: "int", mine: "int64*", y: "int64*"):
    for i in range(n):
        mine[i] = job + i
    total = 0
    for again in range(200):
        for i in range(n):
            total += mine[i] * (again + 1)
    y[0] += total
"""


def round_trips(jobs: int, n: int = 100) -> tuple[Walk, np.ndarray]:
    y = np.zeros(jobs, np.int64)
    program = Program()
    table = [[n, job, PRIVATE, 0, FIRST_INPUT, 8 * job] for job in range(jobs)]
    program.phase(jobs).call(store.load(ROUND_TRIP), table)
    walk = Walk(program.array(), n_bases=FIRST_INPUT + 1, private_bytes=8 * n)
    walk.bases[FIRST_INPUT] = y.ctypes.data
    return walk, y


def round_tripped(jobs: int, steps: int, n: int = 100) -> np.ndarray:
    """What `round_trips` computes, naively."""
    return steps * 20100 * (n * np.arange(jobs) + n * (n - 1) // 2)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_each_thread_has_memory_of_its_own(n_threads: int) -> None:
    walk, y = round_trips(jobs=17)
    assert walk.run(50, n_threads) == 0
    assert np.array_equal(y, round_tripped(17, 50))
    addresses = {part.numbers[2] for part in walk._parts}
    assert len(addresses) == len(walk._parts) >= n_threads
    assert all(address % 128 == 0 for address in addresses)


def test_private_memory_needs_its_base() -> None:
    with pytest.raises(ValueError, match="private memory is base 4; got n_bases=4"):
        Walk(Program().array(), n_bases=4, private_bytes=8)


# Walks at the same time ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 3, 9])
def test_walks_together_are_walks_alone(n_threads: int) -> None:
    """Other programs, other numbers of steps, again and again; among them one with none to take."""
    made = [mixing(jobs, phases) for jobs, phases in [(1, 1), (5, 3), (2, 40), (7, 2), (3, 3)]]
    trips = [round_trips(jobs) for jobs in (3, 4)]
    walks = [walk for walk, *_ in (*made, *trips)]
    for steps in ([7, 20, 3, 0, 1, 2, 3], [1, 0, 2, 30, 4, 5, 1]):
        expected = [
            mixed(a, b, phases, n)
            for (_, a, b), phases, n in zip(made, (1, 3, 40, 2, 3), steps, strict=False)
        ]
        before = [y.copy() for _, y in trips]
        assert walk_together(walks, steps, n_threads) == [0] * 7
        assert [walk.steps_done for walk in walks] == steps
        for (_, a, b), (x, y) in zip(made, expected, strict=True):
            assert np.array_equal(a, x) and np.array_equal(b, y)
        for (_, y), jobs, old, n in zip(trips, (3, 4), before, steps[5:], strict=True):
            assert np.array_equal(y - old, round_tripped(jobs, n))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_walk_that_is_stopped_does_not_disturb_the_others(n_threads: int) -> None:
    counters = np.zeros((6, 1), np.int64)
    walks = []
    for i, counter in enumerate(counters):
        program = Program()
        program.phase(1).call(store.load(GUARD), [[10 * i, 0, 0, 1, 0]])
        walks.append(Walk(program.array(), n_bases=2))
        walks[-1].bases[1] = counter.ctypes.data
    assert walk_together(walks, [35] * 6, n_threads) == [0, 7, 7, 7, 0, 0]
    assert [walk.steps_done for walk in walks] == [35, 9, 19, 29, 35, 35]
    assert counters[:, 0].tolist() == [35, 10, 20, 30, 35, 35]
    assert walk_together(walks[1:3], [4, 5], n_threads) == [0, 0]
    assert [walk.run(1, n_threads) for walk in walks] == [0] * 6


def test_no_walk_and_one_twice() -> None:
    assert walk_together([], []) == []
    walk, *_ = mixing(1, 1)
    with pytest.raises(ValueError, match="walk_together: each walk may be given once"):
        walk_together([walk, walk], [1, 1])


# Processes ----------------------------------------------------------------------------------------

PREAMBLE = f"""
import os, signal, sys, threading, time, warnings
import numpy as np
from fallline.compiler import helpers, store
from fallline.compiler.walker import Program, Walk
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of fork beside threads
MIX = {MIX!r}

def ready(jobs=4, phases=3):
    y = np.zeros(jobs, np.int64)
    x = np.arange(1, jobs + 1)
    program = Program()
    for _ in range(phases):
        program.phase(jobs).call(store.load(MIX), [[1, 1, 8 * j, 2, 8 * j] for j in range(jobs)])
    walk = Walk(program.array(), n_bases=3)
    walk.bases[1:] = x.ctypes.data, y.ctypes.data
    return walk, x, y

def right(n_threads=2):
    walk, x, y = ready()
    walk.run(4, n_threads)
    return np.array_equal(y, x * (3**12 - 1) // 2)
"""


def run(script: str, tmp_path: Path) -> str:
    """Run a script that follows the preamble, in a process of its own; returns what it printed."""
    file = tmp_path / "script.py"
    file.write_text(PREAMBLE + script)
    command = [sys.executable, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@needs_fork
def test_forked_children_walk(tmp_path: Path) -> None:
    script = """
assert right()
for _ in range(5):
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if right() else 1)
        _, status = os.waitpid(grandchild, 0)
        os._exit(0 if right() and status == 0 else 1)
    assert right()
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    assert run(script, tmp_path) == "done"


@needs_fork
def test_fork_during_a_run(tmp_path: Path) -> None:
    script = """
walk, x, y = ready()
stop = False
def go_on():
    while not stop:
        walk.run(1000, 2)
thread = threading.Thread(target=go_on)
thread.start()
for _ in range(5):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        walk.run(10, 2)  # the child's copy of the walk that is under way in the parent
        os._exit(0 if right() and walk.steps_done == 10 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
print(right())
"""
    assert run(script, tmp_path) == "True"


def test_spawned_children_walk(tmp_path: Path) -> None:
    script = """
if __name__ == "__main__":
    import multiprocessing
    assert right()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(right, [1, 2]))
"""
    assert run(script, tmp_path) == "[True, True]"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
def interrupt(*_):
    raise KeyboardInterrupt
walk, x, y = ready()
right()
signal.signal(signal.SIGALRM, interrupt)
interrupted = 0
for n in range(400):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-5 + 2e-6 * n)
        while True:
            walk.run(20, 2)
    except KeyboardInterrupt:
        interrupted += 1
        after = y.copy()
        time.sleep(0.0005)
        assert np.array_equal(y, after), "a helper went on"
print(interrupted, helpers.lent, right())
"""
    assert run(script, tmp_path) == "400 {} True"


def test_quiet_exit_while_a_thread_walks(tmp_path: Path) -> None:
    script = """
walk, x, y = ready()
def go_on():
    while True:
        walk.run(1000, 2)
threading.Thread(target=go_on, daemon=True).start()
time.sleep(0.05)
class Late:
    def __del__(self):
        late.run(10, 2)  # helpers no longer start
        print("late", late.steps_done)
late = ready()[0]
kept = Late()
"""
    assert run(script, tmp_path) in ("late 10", "")
