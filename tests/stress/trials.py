"""The trials, how often each is drawn, and in which surroundings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tests.stress import (
    disturbances,
    elsewhere,
    images,
    layers,
    processes,
    products,
    programs,
    training,
)
from tests.stress.surroundings import Surroundings

import fallline as fl

Trial = Callable[[np.random.Generator, int], None]

WEIGHTS: dict[Trial, int] = {
    programs.a_program: 8,
    programs.several_at_once: 4,
    programs.one_plan_at_once: 4,
    programs.a_donation: 4,
    products.a_product: 4,
    products.a_stack: 1,
    layers.dense_layers: 10,
    images.convolutional_layers: 8,
    elsewhere.matrices_elsewhere: 4,
    elsewhere.images_elsewhere: 4,
    training.a_training: 6,
    training.several_trainings: 2,
    processes.spawned: 1,
    processes.by_joblib: 1,
    disturbances.other_threads: 3,
    disturbances.a_store_that_breaks: 1,
}
if hasattr(os, "fork"):
    WEIGHTS[processes.a_fork] = 4
    WEIGHTS[disturbances.interrupts] = 4  # setitimer is not on Windows either
    WEIGHTS[disturbances.interrupted_compilation] = 2
TRIALS = {trial.__name__: trial for trial in WEIGHTS}


def trial(seed: int, only: Sequence[str] | None = None) -> str:
    """The trial of a seed; its name."""
    rng = np.random.default_rng(seed)
    names = list(only or TRIALS)
    weights = np.array([WEIGHTS[TRIALS[name]] for name in names])
    name = str(rng.choice(names, p=weights / weights.sum()))
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        Surroundings.draw(rng).apply(patch)
        try:
            TRIALS[name](rng, seed)
        finally:
            fl.set_threads(None)
    return name
