"""Numbers that look random and are the same everywhere: a formula in place of stored weights."""

from __future__ import annotations

import math
import zlib

import numpy as np


def uniform(name, shape, low=-1.0, high=1.0):
    """Float32 in [low, high): a hash (the last steps of MurmurHash3) of the name and the index."""
    size = math.prod(shape)
    h = np.arange(size, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(
        zlib.crc32(name.encode())
    )
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h = h ^ (h >> np.uint32(16))
    u = (h >> np.uint32(8)).astype(np.float64) / 2**24
    return (low + (high - low) * u).astype(np.float32).reshape(shape)


def weight(name, shape):
    """A weight of a PyTorch state dict, in a range that keeps signals alive through the layers."""
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        return uniform(name, shape, 0.5, 1.5)
    if len(shape) < 2:
        of_norm = "bn" in name or "downsample.1" in name
        if kind == "weight" and of_norm:
            return uniform(name, shape, 0.5, 1.5)
        return uniform(name, shape, -0.2, 0.2)
    limit = math.sqrt(6 / math.prod(shape[1:]))
    return uniform(name, shape, -limit, limit)


def images(shape):
    """Inputs."""
    return uniform("images", shape, 0.0, 1.0)
