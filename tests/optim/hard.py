"""A trajectory that is hard on purpose, and the settings of every rule that are run along it."""

import numpy as np

STEPS, SIZE = 60, 12
WD = 0.03


def gradients():
    """Magnitudes from 1e-8 to 1e4, sign flips, single zeros, whole zero steps and a late start."""
    rng = np.random.default_rng(20)
    g = rng.choice([-1.0, 1.0], (STEPS, SIZE)) * 10.0 ** rng.uniform(-8, 4, (STEPS, SIZE))
    g[:, 0] = 10.0 ** rng.uniform(-8, 4, STEPS) * (-1.0) ** np.arange(STEPS)
    g[rng.random((STEPS, SIZE)) < 0.1] = 0.0
    g[20:23] = 0.0
    g[:8, 1] = 0.0
    g[:, 2] = 0.0
    return g


def start():
    return np.random.default_rng(21).normal(size=SIZE)


def rate(t):
    """A change of the rate half way."""
    return 0.1 if t <= STEPS // 2 else 0.013


ADAM = [
    {"eps_place": "outside", "eps": 1e-2},
    {"eps_place": "inside", "eps": 1e-2},
    {"eps_place": "hat", "eps": 1e-2},
    {"eps": 0.0, "b1": 0.8, "b2": 0.99},
]
CASES = {
    "sgd": [{}],
    "momentum": [
        {"b": 0.9},
        {"b": 0.95, "dampening": 0.3},
        {"form": "ema"},
        {"form": "two-gradient", "a": 0.7, "b": 0.2},
        {"lr_inside": True},
        {"lr_inside": True, "form": "ema"},
        {"lr_inside": True, "form": "two-gradient"},
    ],
    "nesterov": [
        {"b": 0.9},
        {"lr_inside": True},
        {"form": "lookahead"},
        {"form": "lookahead", "lr_inside": True},
    ],
    "adagrad": [
        {"eps": 1e-2},
        {"eps": 1e-2, "eps_place": "inside", "start": 0.1},
        {"eps": 0.0},
    ],
    "rmsprop": [
        {"eps": 1e-2},
        {"eps": 1e-2, "eps_place": "inside", "r": 0.99},
        {"eps": 1e-2, "centered": True},
        {"eps": 1e-2, "momentum": 0.9},
        {"eps": 1e-2, "momentum": 0.5, "centered": True, "eps_place": "inside"},
        {"eps": 0.0},
    ],
    "adadelta": [{"eps": 1e-2}, {"r": 0.95}, {"eps": 0.0}],
    "adam": [*ADAM, {"bias_correction": False, "eps": 1e-2}],
    "adamax": [
        {},
        {"eps": 1e-2},
        {"eps": 1e-2, "eps_place": "inside"},
    ],
    "nadam": [*ADAM, {"schedule": None, "eps": 1e-2}, {"schedule": 1.0, "eps": 1e-2}],
    "adamw": ADAM,
    "amsgrad": [
        *ADAM,
        {"maximum": "corrected", "eps": 1e-2},
        {"bias_correction": False, "eps": 1e-2},
    ],
}
