"""A training step of a network of images in PyTorch: fused update, gradients set to None.

The batches are sliced beforehand, in the layout that the network has. Arguments: problem, `nchw`,
`channels_last` or `compile` (channels_last, forward and loss by torch.compile), optionally `check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import cycle

from benchmarks.images import (
    CHECK_STEPS,
    IMAGES,
    MOMENTUM,
    NORM_EPS,
    NORM_RATE,
    Block,
    Conv,
    Dense,
    Flat,
    ImageProblem,
    Layer,
    Layers,
    Mean,
    Norm,
    Pool,
    Relu,
    Size,
    size_after,
)
from benchmarks.problem import B1, B2, EPS
from benchmarks.worker import Measure, one_by_one, serve, serve_check


def build(problem: ImageProblem, layout: str, batches: int | None = None) -> Callable[[], object]:
    """A function that makes one step on the next batch and returns the loss."""
    import torch
    from torch.nn import functional

    net = network(problem, layout)
    optimizer = _optimizer(problem, net)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net(x), y)

    if layout == "compile":
        loss_of = torch.compile(loss_of)
    X, y = (torch.from_numpy(a) for a in problem.data(batches))
    feed = cycle(zip(laid_out(X, layout).split(problem.batch), y.split(problem.batch), strict=True))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*next(feed))
        loss.backward()
        optimizer.step()
        return loss

    return step


def _optimizer(problem: ImageProblem, net):
    import torch

    if problem.optimizer == "adam":
        return torch.optim.Adam(
            net.parameters(), lr=problem.lr, betas=(B1, B2), eps=EPS, fused=True
        )
    return torch.optim.SGD(net.parameters(), lr=problem.lr, momentum=MOMENTUM, fused=True)


def laid_out(x, layout: str):
    """A tensor, or a network, in this layout."""
    import torch

    return x if layout == "nchw" else x.to(memory_format=torch.channels_last)


def network(problem: ImageProblem, layout: str = "nchw"):
    """The problem's network with its initial weights, on as many threads as are given."""
    import torch

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    net = _sequence(problem.layers, problem.size)
    names = [k for k in net.state_dict() if not k.endswith("num_batches_tracked")]
    pairs = zip(names, problem.weights().values(), strict=True)  # both are layer by layer
    net.load_state_dict({k: torch.from_numpy(w) for k, w in pairs}, strict=False)
    return laid_out(net, layout)


def _sequence(layers: Layers, size: Size):
    from torch import nn

    modules = []
    for layer in layers:
        modules.append(_module(layer, size))
        size = size_after(layer, size)
    return nn.Sequential(*modules)


def _module(layer: Layer, size: Size):
    """One layer, for images of this size."""
    from torch import nn

    match layer:
        case Conv(_, channels, kernel, stride, padding, bias):
            return nn.Conv2d(size[0], channels, kernel, stride, padding, bias=bias)
        case Norm():
            return nn.BatchNorm2d(size[0], eps=NORM_EPS, momentum=NORM_RATE)
        case Relu():
            return nn.ReLU(inplace=True)
        case Pool(kernel, stride):
            return nn.MaxPool2d(kernel, stride)
        case Mean():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flat():
            return nn.Flatten()
        case Dense(_, n_out):
            return nn.Linear(size[0], n_out)
        case Block():
            return _block(layer, size)
    raise TypeError(layer)


def _block(layer: Block, size: Size):
    from torch import nn
    from torch.nn import functional

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = _sequence(layer.body, size)

        def forward(self, x):
            shortcut = x
            if layer.new_channels:
                s = layer.stride
                shortcut = functional.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, *layer.zeros))
            return functional.relu(self.body(x) + shortcut, inplace=True)

    return Residual()


def prepare(problem: ImageProblem, layout: str) -> Measure:
    step = build(problem, layout)
    for _ in range(3):
        step()
    return one_by_one(step, warm_up=2)


def check(problem: ImageProblem, layout: str) -> list[float]:
    step = build(problem, layout, batches=1)
    return [step().item() for _ in range(CHECK_STEPS)]


if __name__ == "__main__":
    args = (IMAGES[sys.argv[1]], sys.argv[2])
    if "check" in sys.argv:
        serve_check(lambda: check(*args))
    else:
        serve(lambda: prepare(*args))
