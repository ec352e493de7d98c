"""What trials have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.compiler.programs import Program, draw

from fallline.core import tree

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


def a_random_program(rng: Generator, seed: int) -> Program:
    dtype = str(rng.choice(["float32", "float64"]))
    return draw(seed, dtype, int(rng.integers(3, 16)), bool(rng.integers(2)))


def bits(results: Any) -> list[bytes]:
    """Of every array among results."""
    return [np.asarray(y).tobytes() for y in tree.leaves(results)]


def at_once(tasks: Sequence[Callable[[], object]]) -> None:
    """Run each in a thread; the first error is raised here."""
    errors: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
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


def beside(task: Callable[[], object], other: Callable[[], object]) -> None:
    """Run a task here while a thread does another again and again."""
    stop, errors = threading.Event(), list[BaseException]()

    def go_on() -> None:
        try:
            while not stop.is_set():
                other()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        task()
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
