"""Random programs: in every mode, on any threads, several at once."""

from __future__ import annotations

from typing import Any

from tests.compiler import test_donation, test_programs
from tests.compiler.programs import Program
from tests.stress.common import Generator, a_random_program, at_once, bits

import fallline as fl


def a_program(rng: Generator, seed: int) -> None:
    """In any mode, on some numbers of threads."""
    test_programs.check(a_random_program(rng, seed), _mode(rng), [1, int(rng.integers(2, 6))])


def several_at_once(rng: Generator, seed: int) -> None:
    """Programs that are compiled and run by threads at one time, each by two."""
    chosen = [(a_random_program(rng, seed + i), _mode(rng)) for i in range(3)]
    fl.set_threads(int(rng.integers(1, 4)))
    at_once([lambda c=c: test_programs.check(*c, threads=(0, 0)) for c in [*chosen, *chosen]])


def one_plan_at_once(rng: Generator, seed: int) -> None:
    """Threads that call one compiled function get what one thread gets."""
    program = a_random_program(rng, seed)
    compiled = fl.compile(program.function)
    inputs = [others(rng, program) for _ in range(4)]
    expected = [bits(compiled(*xs)) for xs in inputs]

    def call(i: int) -> None:
        for _ in range(20):
            assert bits(compiled(*inputs[i])) == expected[i], f"at once, {program}"

    at_once([lambda i=i: call(i) for i in range(4)])


def a_donation(rng: Generator, seed: int) -> None:
    test_donation.check_random(seed)


def others(rng: Generator, program: Program) -> list[Any]:
    """Inputs of the same types with other numbers."""
    noise = lambda x: rng.standard_normal(x.shape).astype(x.dtype)
    return [noise(x) if name.startswith("x") else x for name, x in program.inputs.items()]


def _mode(rng: Generator) -> str:
    return str(rng.choice(list(test_programs.MODES)))
