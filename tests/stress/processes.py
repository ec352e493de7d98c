"""Forks while threads run, and worker processes: the same bits everywhere."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from tests.compiler import test_programs
from tests.compiler.programs import draw
from tests.stress.common import Generator, a_random_program, beside, bits
from tests.stress.surroundings import Surroundings

import fallline as fl


def a_fork(rng: Generator, seed: int) -> None:
    """A child has its parent's plans, and can make new ones, while threads of the parent run."""
    program, fresh = a_random_program(rng, seed), a_random_program(rng, seed + 1)
    fl.set_threads(int(rng.integers(1, 4)))
    compiled = fl.compile(program.function)
    inputs = list(program.inputs.values())
    expected = bits(compiled(*inputs))

    def fork() -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert bits(compiled(*inputs)) == expected
                test_programs.check(fresh, "plain")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, f"in a fork, {program}\nor {fresh}"
        assert bits(compiled(*inputs)) == expected, f"after a fork, {program}"

    beside(fork, lambda: compiled(*inputs))


def spawned(rng: Generator, seed: int) -> None:
    """A process that is started anew."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(work, seed, Surroundings.now()).result()
    assert found == work(seed, Surroundings.now()), f"spawned, {draw(seed)}"


def by_joblib(rng: Generator, seed: int) -> None:
    """Workers of joblib, while a thread runs a plan here."""
    import joblib

    seeds, surroundings = range(seed, seed + 4), Surroundings.now()
    expected = [work(s, surroundings) for s in seeds]
    compiled, x = fl.compile(lambda x: np.tanh(x @ x.T)), np.ones((50, 50))
    before = bits(compiled(x))

    def check() -> None:
        assert bits(compiled(x)) == before

    def parallel() -> None:
        tasks = [joblib.delayed(work)(s, surroundings) for s in seeds]
        assert joblib.Parallel(n_jobs=2)(tasks) == expected, f"joblib, {draw(seed)}"

    beside(parallel, check)


def work(seed: int, surroundings: Surroundings) -> list[bytes]:
    """The results of a program, wherever this runs."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        surroundings.apply(patch)
        program = draw(seed)
        return bits(fl.compile(program.function)(*program.inputs.values()))
