"""What comes between: Ctrl-C, other numbers of threads, a directory of kernels that breaks."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.programs import Program
from tests.stress.common import Generator, a_random_program, at_once, beside, bits

import fallline as fl
from fallline import nn
from fallline.compiler import choice, store


def interrupts(rng: Generator, seed: int) -> None:
    """Ctrl-C at any moment of a call, while a thread runs another plan: the next call is right."""
    program, other = a_random_program(rng, seed), a_random_program(rng, seed + 1)
    calls = [_caller(program), _caller(other)]
    net = nn.mlp([20, 30, 3], dropout=0.2, seed=0)
    X, y = rng.standard_normal((64, 20)).astype(np.float32), rng.integers(0, 3, 64)
    settings = {"epochs": 2, "seed": seed, "progress": False}

    def train() -> bytes:
        trained = net.copy()
        fl.fit(trained, (X, y), **settings)
        return trained.gather().tobytes()

    expected = train()

    def go_on() -> None:
        for _ in range(15):
            fl.set_threads(int(rng.integers(1, 4)))
            _interrupted(calls[0], rng.uniform(0, 0.003))
            calls[0]()
        _interrupted(train, rng.uniform(0, 0.05))  # it returns what it has learned
        assert train() == expected

    beside(go_on, calls[1])


def interrupted_compilation(rng: Generator, seed: int) -> None:
    """Ctrl-C while kernels are compiled and stored: the next attempt is right."""
    program = a_random_program(rng, seed)
    inputs = list(program.inputs.values())
    expected = _fresh(program)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLLINE_CACHE_DIR", folder)
        patch.setattr(store, "_addresses", {})
        compiled = fl.compile(program.function)
        for _ in range(5):
            _interrupted(lambda: compiled(*inputs), rng.uniform(0, 0.3))
        assert bits(compiled(*inputs)) == expected, f"interrupted, {program}"
        assert not list(Path(folder).glob("*.tmp"))
    choice.limit.cache_clear()


def _interrupted(call: Callable[[], object], seconds: float) -> None:
    """Call again and again until Ctrl-C comes, which it does after so many seconds."""
    done = False

    def interrupt(*_: object) -> None:
        nonlocal done
        done = True
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while not done:
            call()
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def other_threads(rng: Generator, seed: int) -> None:
    """The number of threads changes all the time while several threads call."""
    calls = [_caller(a_random_program(rng, seed + i)) for i in range(3)]
    counts = rng.integers(1, 7, 1000).tolist()

    def change() -> None:
        fl.set_threads(counts.pop() if counts else 2)
        time.sleep(0.0005)

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(40):
            call()

    beside(lambda: at_once([lambda c=c: repeat(c) for c in calls]), change)


def _caller(program: Program) -> Callable[[], None]:
    """A function that runs a program and checks that it gives what it gave first."""
    compiled, inputs = fl.compile(program.function), list(program.inputs.values())
    expected = bits(compiled(*inputs))

    def call() -> None:
        assert bits(compiled(*inputs)) == expected, f"disturbed, {program}"

    return call


def a_store_that_breaks(rng: Generator, seed: int) -> None:
    """Files are deleted, cut and altered while threads load kernels from them."""
    chosen = [a_random_program(rng, seed + i) for i in range(2)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLLINE_CACHE_DIR", folder)
        patch.setattr(store, "_addresses", {})
        expected = [_fresh(program) for program in chosen]

        def load() -> None:
            for _ in range(4):
                with store.lock:
                    store._addresses.clear()
                choice.limit.cache_clear()
                for program, results in zip(chosen, expected, strict=True):
                    assert _fresh(program) == results, f"a broken store, {program}"

        beside(lambda: at_once([load, load]), lambda: _damage(rng, Path(folder)))
    choice.limit.cache_clear()


def _fresh(program: Program) -> list[bytes]:
    return bits(fl.compile(program.function)(*program.inputs.values()))


def _damage(rng: Generator, folder: Path) -> None:
    """Break one file of the directory in some way."""
    time.sleep(0.01)
    files = sorted(f for f in folder.iterdir() if f.suffix != ".json")  # `choice` may measure anew
    if not files:
        return
    file = files[rng.integers(len(files))]
    try:
        content = bytearray(file.read_bytes())
        kind = rng.integers(4)
        if kind == 0:
            file.unlink()
        elif kind == 1:
            file.write_bytes(content[: len(content) // 2])
        elif kind == 2 and content:
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            file.write_bytes(content)
        else:
            file.chmod(0)
    except OSError:  # it has gone meanwhile
        return
