"""Random trials without end: programs, shapes, types, threads, concurrent calls, forks, products.

    python -m tests.stress --minutes 10 [--seed 0]

It stops at the first wrong bit and says the seed of the trial, with which it can be repeated.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler import test_donation, test_gemm, test_programs
from tests.compiler.conftest import poison, split
from tests.compiler.programs import Program, draw

import fallline as fl
from fallline.core import tree

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


def a_program(rng: Generator, seed: int) -> None:
    """In any mode, on some numbers of threads."""
    test_programs.check(_program(rng, seed), _mode(rng), [1, int(rng.integers(2, 6))])


def several_at_once(rng: Generator, seed: int) -> None:
    """Programs that are compiled and run by threads at one time, each by two."""
    chosen = [(_program(rng, seed + i), _mode(rng)) for i in range(3)]
    fl.set_threads(int(rng.integers(1, 4)))
    _at_once([lambda c=c: test_programs.check(*c, threads=(0, 0)) for c in [*chosen, *chosen]])


def one_plan_at_once(rng: Generator, seed: int) -> None:
    """Threads that call one compiled function get what one thread gets."""
    program = _program(rng, seed)
    compiled = fl.compile(program.function)
    inputs = [_others(rng, program) for _ in range(4)]
    expected = [_bits(compiled(*xs)) for xs in inputs]

    def call(i: int) -> None:
        for _ in range(20):
            assert _bits(compiled(*inputs[i])) == expected[i], f"at once, {program}"

    _at_once([lambda i=i: call(i) for i in range(4)])


def a_fork(rng: Generator, seed: int) -> None:
    """A child has its parent's plans, and can make new ones, while threads of the parent run."""
    program, fresh = _program(rng, seed), _program(rng, seed + 1)
    fl.set_threads(int(rng.integers(1, 4)))
    compiled = fl.compile(program.function)
    inputs = list(program.inputs.values())
    expected, stop = _bits(compiled(*inputs)), threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            compiled(*inputs)

    def fork() -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert _bits(compiled(*inputs)) == expected
                test_programs.check(fresh, "plain")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        try:
            assert os.waitpid(child, 0)[1] == 0, f"in a fork, {program}\nor {fresh}"
        finally:
            stop.set()

    _at_once([go_on, fork])


def a_donation(rng: Generator, seed: int) -> None:
    test_donation.check_random(seed)


def a_product(rng: Generator, seed: int) -> None:
    """Of matrices in any layout: against NumPy, on several threads, and with one NaN."""
    sizes = [0, 1, 2, 7, 16, 17, 33, 48, 65, 100, 128, 200, 257, 384, 513, 784]
    m, n, k = (int(d) for d in rng.choice(sizes, 3))
    dtype, i, j = str(rng.choice(test_gemm.DTYPES)), *rng.integers(0, len(LAYOUTS), 2)
    (lies_a, left), (lies_b, right) = LAYOUTS[i], LAYOUTS[j]
    a = test_gemm.normal(seed, *lies_a(m, k), dtype=dtype)
    b = test_gemm.normal(seed + 1, *lies_b(k, n), dtype=dtype)
    f = lambda a, b: left(a) @ right(b)
    said = f"({m}, {k}) @ ({k}, {n}), {dtype}, layouts {i} and {j}"
    compiled = fl.compile(f)
    found = []
    for count in (1, 2, int(rng.integers(3, 6))):
        fl.set_threads(count)
        found.append(compiled(a, b))
        assert found[0].tobytes() == found[-1].tobytes(), f"{count} threads, {said}"
    try:
        test_gemm.check(left(a), right(b), found[0])
        if a.size:
            a.flat[rng.integers(a.size)] = rng.choice([np.nan, np.inf])
            assert np.array_equal(np.isfinite(compiled(a, b)), np.isfinite(f(a, b)))
    except AssertionError as error:
        raise AssertionError(said) from error


# The shape of an array in which a matrix lies, and where.
LAYOUTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda m, n: (m, n), lambda x: x),
    (lambda m, n: (n, m), lambda x: x.T),
    (lambda m, n: (m, 2 * n), lambda x: x[:, ::2]),
    (lambda m, n: (m, n + 5), lambda x: x[:, 5:]),
    (lambda m, n: (m + 3, n), lambda x: x[1:-2]),
    (lambda m, n: (m, n), lambda x: x[::-1]),
    (lambda m, n: (m, n), lambda x: x * 2),  # exact, in a buffer of its own
]
TRIALS = [a_program, a_program, several_at_once, one_plan_at_once, a_donation, a_product]
if hasattr(os, "fork"):
    TRIALS.append(a_fork)


def _program(rng: Generator, seed: int) -> Program:
    dtype = str(rng.choice(["float32", "float64"]))
    return draw(seed, dtype, int(rng.integers(3, 16)), bool(rng.integers(2)))


def _mode(rng: Generator) -> str:
    return str(rng.choice(list(test_programs.MODES)))


def _others(rng: Generator, program: Program) -> list[Any]:
    """Inputs of the same types with other numbers."""
    noise = lambda x: rng.standard_normal(x.shape).astype(x.dtype)
    return [noise(x) if name.startswith("x") else x for name, x in program.inputs.items()]


def _bits(results: Any) -> list[bytes]:
    return [np.asarray(y).tobytes() for y in tree.leaves(results)]


def _at_once(tasks: list[Callable[[], None]]) -> None:
    """Run each in a thread; the first error is raised here."""
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def trial(seed: int) -> str:
    """The trial of a seed; its name."""
    rng = np.random.default_rng(seed)
    chosen = TRIALS[rng.integers(len(TRIALS))]
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        poison(patch)
        nodes, row, job = (int(rng.choice(c)) for c in ([1, 7, 96], [6, 4096], [8, 100, 1 << 15]))
        split(patch, nodes=nodes, row=row, job=job)
        chosen(rng, seed)
    return chosen.__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**6 % 10**9)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    end, done = time.monotonic() + 60 * arguments.minutes, Counter[str]()
    for seed in itertools.count(arguments.seed):
        if time.monotonic() > end:
            break
        try:
            done[trial(seed)] += 1
        except BaseException:
            traceback.print_exc()
            sys.exit(f"stress: failed; python -m tests.stress --seed {seed} repeats it.")
    print(f"{sum(done.values())} trials, no wrong bit: {dict(done)}")


if __name__ == "__main__":
    main()
