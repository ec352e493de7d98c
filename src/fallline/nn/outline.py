"""What becomes of one example on its way through a network: the shape after every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.core.spec import shape_of
from fallline.nn.context import Context, Taps, home
from fallline.nn.module import Module
from fallline.nn.show import aligned, shape_shown, summary_of, title_of


@dataclass(frozen=True)
class Row:
    """A layer: its path, what it is, the shape that it makes of an example, its own parameters."""

    name: str
    kind: str
    settings: str
    output: tuple[int, ...]
    n_parameters: int


@dataclass(frozen=True)
class Summary:
    """Layers in the order of computation; print it for a table."""

    title: str
    rows: tuple[Row, ...]
    n_parameters: int

    def __repr__(self) -> str:
        cells = [["layer", "", "", "output", "parameters"]]
        for row in self.rows:
            count = f"{row.n_parameters:,}" if row.n_parameters else ""
            cells.append([row.name, row.kind, row.settings, shape_shown(row.output), count])
        heading = f"{self.title}, {self.n_parameters:,} parameters"
        return "\n".join([heading, *aligned(cells)])


def summary(net: Module, shape: Sequence[int]) -> Summary:
    """The layers of a network with the shapes of their outputs, for an example of this shape.

    shape  of one example, without the batch: (3, 32, 32) for a colour image. The network is run on
    one example of zeros, as in inference; shapes are shown without the batch. A layer that runs
    twice has a row each time, its parameters in the first.

    >>> from fallline import nn, ops
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), ops.relu, nn.GlobalAvgPool(), nn.Linear(4, 2))
    >>> summary(net, (1, 8, 8))
    Sequential, 50 parameters
      layer                                 output     parameters
      0      Conv2d         1 -> 4, 3 x 3   (4, 6, 6)          40
      1      relu                           (4, 6, 6)
      2      GlobalAvgPool                  (4)
      3      Linear         4 -> 2          (2)                10
    """
    taps = Taps()
    net(np.zeros((1, *shape), net.dtype), ctx=Context(taps=taps))
    modules = dict(net.modules())
    rows, counted = [], set()
    for path, output in taps.outputs.items():
        module = modules.get(home(path))
        if module is None or (module is net and len(taps.outputs) > 1) or _holds_layers(module):
            continue
        arrays = [] if home(path) in counted else list(module._own_arrays().values())
        counted.add(home(path))
        n = sum(array.size for array in arrays)
        rows.append(Row(path, title_of(module), summary_of(module), shape_of(output)[1:], n))
    return Summary(title_of(net), tuple(rows), net.n_parameters)


def _holds_layers(module: Any) -> bool:
    """Its layers have rows, and it needs one itself only for parameters of its own."""
    return any(True for _ in module.children()) and not module._own_arrays()
