"""3 x 3 convolutions of batches of images: what is computed, the same for every library."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .images import BATCH

KERNEL, PADDING = 3, 1


class Convolution(NamedTuple):
    """As many channels out as in; the size of the square images stays."""

    channels: int
    size: int

    @property
    def flops(self) -> int:
        """Forward and both gradients, products with the zeros around the image counted."""
        return 3 * 2 * BATCH * (self.channels * KERNEL * self.size) ** 2

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x and dy (n, channels, height, width), and w (out, in, 3, 3): x, w, dy, float32."""
        rng = np.random.default_rng(self.channels)
        images, kernel = (BATCH, self.channels, self.size, self.size), (self.channels,) * 2
        shapes = images, (*kernel, KERNEL, KERNEL), images
        x, w, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, w, dy


def figures(y: np.ndarray, dx: np.ndarray, dw: np.ndarray) -> list[float]:
    """What is compared: some elements of each, and how large they all are."""
    some = [float(part.flat[i]) for part in (y, dx, dw) for i in (0, part.size // 2, -1)]
    return some + [float(np.abs(part).mean(dtype=np.float64)) for part in (y, dx, dw)]


CONVOLUTIONS = {"16": Convolution(16, 32), "32": Convolution(32, 16), "64": Convolution(64, 8)}
