"""The networks of images that are trained: layers, data and weights, the same for every library.

A network is a row of layers, which each library and the oracle builds in its own way. Ours are
those of `fallline.nn.models`; names are those of PyTorch's state dicts, which ours have as well.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Size = tuple[int, int, int]  # channels, height, width

BATCH = 128
CHECK_STEPS = 3
SMALL_LR = 1e-4  # Adam's usual one makes the first losses jump, and then roundings grow
MOMENTUM = 0.9
NORM_EPS, NORM_RATE = 1e-5, 0.1  # of batch normalisation: PyTorch's, and ours


class Conv(NamedTuple):
    """A square kernel; the same zeros on all sides."""

    name: str
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True


class Norm(NamedTuple):
    """Batch normalisation."""

    name: str


class Relu(NamedTuple):
    """max(x, 0)"""


class Pool(NamedTuple):
    """The largest of a square window."""

    kernel: int
    stride: int


class Mean(NamedTuple):
    """Of all pixels: (n, channels)."""


class Flat(NamedTuple):
    """To (n, everything), channel by channel."""


class Dense(NamedTuple):
    """Of features."""

    name: str
    n_out: int


class Block(NamedTuple):
    """relu(body(x) + x), where the body widens: of every `stride`-th pixel of x, zeros around."""

    body: tuple[Layer, ...]
    stride: int = 1
    new_channels: int = 0

    @property
    def zeros(self) -> tuple[int, int]:
        """Channels of zeros before and behind those of x."""
        return self.new_channels // 2, self.new_channels - self.new_channels // 2


Layer = Conv | Norm | Relu | Pool | Mean | Flat | Dense | Block
Layers = tuple[Layer, ...]


@dataclass(frozen=True)
class ImageProblem:
    """A network, trained with softmax cross-entropy in float32, batch 128.

    model    the function of `fallline.nn.models` and its arguments
    batches  in the data;  optimizer  "adam" or "momentum"
    """

    model: tuple[str, tuple[int, ...]]
    layers: Layers
    size: Size
    batches: int
    optimizer: str = "adam"
    lr: float = 1e-3
    batch: int = BATCH

    def data(self, batches: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """X (n, channels, height, width) float32, standard normal; y (n,) classes it determines."""
        X = self.rows(self.batch * (batches or self.batches))
        teacher = np.random.default_rng(3).standard_normal((math.prod(self.size), 10))
        return X, np.argmax(X.reshape(len(X), -1) @ teacher.astype(np.float32), axis=1)

    def rows(self, n: int) -> np.ndarray:
        """X (n, channels, height, width) to predict for; the first are those of `data`."""
        return np.random.default_rng(1).standard_normal((n, *self.size), dtype=np.float32)

    def weights(self) -> dict[str, np.ndarray]:
        """All of them by name, float32, layer by layer."""
        return {name: _drawn(name, shape) for name, shape, _ in _arrays(self.layers, self.size)}

    @property
    def flops(self) -> int:
        """Of a step's products: forward, weights' gradient, and the data's but for the first."""
        counts = [2 * self.batch * times for *_, times in _arrays(self.layers, self.size) if times]
        return 3 * sum(counts) - counts[0]


def _arrays(layers: Layers, size: Size) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(name, shape, multiplications for one image) of every array."""
    for layer in layers:
        after = size_after(layer, size)
        match layer:
            case Conv(name, channels, kernel, bias=bias):
                shape = channels, size[0], kernel, kernel
                yield f"{name}.weight", shape, math.prod(shape) * after[1] * after[2]
                if bias:
                    yield f"{name}.bias", (channels,), 0
            case Dense(name, n_out):
                yield f"{name}.weight", (n_out, size[0]), n_out * size[0]
                yield f"{name}.bias", (n_out,), 0
            case Norm(name):
                for field in ("weight", "bias", "running_mean", "running_var"):
                    yield f"{name}.{field}", (size[0],), 0
            case Block(body):
                yield from _arrays(body, size)
        size = after


def size_after(layer: Layer, size: Size) -> Size:
    """Of what a layer gives for an image of this size; features are images of one pixel."""
    channels, *sides = size
    match layer:
        case Conv(_, channels, kernel, stride, padding):
            down, right = ((n + 2 * padding - kernel) // stride + 1 for n in sides)
        case Pool(kernel, stride):
            down, right = ((n - kernel) // stride + 1 for n in sides)
        case Flat():
            channels, down, right = math.prod(size), 1, 1
        case Mean():
            down, right = 1, 1
        case Dense(_, channels):
            down, right = 1, 1
        case Block(body):
            for part in body:
                size = size_after(part, size)
            return size
        case _:
            down, right = sides
    return channels, down, right


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """He-normal kernels, scales and variances of one, all else zero: by the name, in any order."""
    if len(shape) > 1:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        scale = math.sqrt(2 / math.prod(shape[1:]))
        return (rng.standard_normal(shape) * scale).astype(np.float32)
    is_one = name.endswith("running_var") or ("bn" in name and name.endswith("weight"))
    return np.full(shape, is_one, np.float32)


# The networks -------------------------------------------------------------------------------------


LENET: Layers = (
    Conv("conv1", 6, 5, padding=2), Relu(), Pool(2, 2),
    Conv("conv2", 16, 5), Relu(), Pool(2, 2),
    Flat(), Dense("fc1", 120), Relu(), Dense("fc2", 84), Relu(), Dense("fc3", 10),
)  # fmt: skip

ADAM_CNN: Layers = (
    Conv("conv1", 64, 5, padding=2), Relu(), Pool(3, 2),
    Conv("conv2", 64, 5, padding=2), Relu(), Pool(3, 2),
    Conv("conv3", 128, 5, padding=2), Relu(), Pool(3, 2),
    Flat(), Dense("fc1", 1000), Relu(), Dense("fc2", 10),
)  # fmt: skip

TWO_TWO: Layers = (
    Conv("conv1", 32, 5, padding=2), Relu(), Pool(2, 2),
    Conv("conv2", 64, 5, padding=2), Relu(), Pool(2, 2),
    Flat(), Dense("fc1", 1024), Relu(), Dense("fc2", 10),
)  # fmt: skip


def _resnet(blocks: int) -> Layers:
    """Three stages of so many blocks, shortcuts without parameters."""
    layers: list[Layer] = [Conv("conv1", 16, 3, padding=1, bias=False), Norm("bn1"), Relu()]
    width = 16
    for stage, wider in enumerate((16, 32, 64), 1):
        for i in range(blocks):
            layers.append(_block(f"layer{stage}.{i}", width, wider))
            width = wider
    return (*layers, Mean(), Dense("fc", 10))


def _block(name: str, narrow: int, wide: int) -> Block:
    stride = wide // narrow
    body = (
        Conv(f"{name}.conv1", wide, 3, stride, 1, bias=False), Norm(f"{name}.bn1"), Relu(),
        Conv(f"{name}.conv2", wide, 3, 1, 1, bias=False), Norm(f"{name}.bn2"),
    )  # fmt: skip
    return Block(body, stride, wide - narrow)


IMAGES = {
    "lenet": ImageProblem(("lenet5", ()), LENET, (1, 28, 28), batches=20),
    "adam_cnn": ImageProblem(("adam_cnn", ()), ADAM_CNN, (3, 32, 32), batches=4, lr=SMALL_LR),
    "2c2d": ImageProblem(("deepobs_2c2d", ()), TWO_TWO, (1, 28, 28), batches=10, lr=SMALL_LR),
    "resnet20": ImageProblem(
        ("resnet", (20,)), _resnet(3), (3, 32, 32), batches=4, optimizer="momentum", lr=0.01
    ),
}
