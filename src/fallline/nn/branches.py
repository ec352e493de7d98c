"""Layers side by side: their results added, or joined along the channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fallline.core.spec import shape_of
from fallline.nn.activation import as_layer
from fallline.nn.module import Module


class Residual(Module):
    """A body and a way around it, added.

        y = activation(body(x) + shortcut(x))

    body, shortcut, activation  modules or plain functions; without a shortcut it is x itself,
    without an activation the sum is the result. Raises ValueError where the two have other shapes.
    He et al. 2016, eq. 1 (the identity) and 2 (a shortcut that changes the shape).

    >>> from fallline import nn, ops
    >>> Residual(nn.Linear(4, 4, seed=0), activation=ops.relu)
    Residual, 20 parameters
      body        Linear  4 -> 4  W (4, 4)  b (4)  20
      activation  relu
    """

    body: Module
    shortcut: Module | None
    activation: Module | None

    torch_names: ClassVar[Mapping[str, str]] = {"body": "", "shortcut": "downsample"}

    def __init__(
        self,
        body: Module | Callable[[Any], Any],
        shortcut: Module | Callable[[Any], Any] | None = None,
        *,
        activation: Module | Callable[[Any], Any] | None = None,
    ) -> None:
        self.body = as_layer("Residual", body)
        self.shortcut = None if shortcut is None else as_layer("Residual", shortcut)
        self.activation = None if activation is None else as_layer("Residual", activation)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        y = self.body(x, ctx=ctx)
        around = x if self.shortcut is None else self.shortcut(x, ctx=ctx)
        if shape_of(y) != shape_of(around):
            hint = " A shortcut that does the same to the shape is needed."
            raise ValueError(
                f"Residual: the body makes {shape_of(y)} of {shape_of(x)}, the way around it "
                f"{shape_of(around)}.{hint if self.shortcut is None else ''}"
            )
        y = y + around
        return y if self.activation is None else self.activation(y, ctx=ctx)

    def summary(self) -> str:
        """Nothing beside its parts, in the table of a network."""
        return ""


class Concat(Module):
    """Branches that see the same input, joined along the channels (axis 1).

        y = [branch_1(x), branch_2(x), ...],    with keep_input  [x, branch_1(x), ...]

    Branches are modules or plain functions, "0", "1", ... in `branches`. keep_input with one branch
    is a layer of a dense network (Huang et al. 2017, eq. 2). Raises ValueError where the results
    differ in another axis than the channels.

    >>> from fallline import nn
    >>> Concat(nn.Linear(4, 3, seed=0), keep_input=True)(np.ones((2, 4), np.float32)).shape
    (2, 7)
    """

    branches: tuple[Module, ...]
    keep_input: bool

    def __init__(self, *branches: Module | Callable[[Any], Any], keep_input: bool = False) -> None:
        if not branches:
            raise ValueError("Concat: needs at least one branch; got none.")
        self.branches = tuple(as_layer("Concat", branch) for branch in branches)
        self.keep_input = bool(keep_input)

    def __call__(self, x: Any, *, ctx: Any = None) -> Any:
        parts = [x] if self.keep_input else []
        parts += [branch(x, ctx=ctx) for branch in self.branches]
        shapes = [shape_of(part) for part in parts]
        if any(len(s) < 2 for s in shapes) or len({(s[0], *s[2:]) for s in shapes}) > 1:
            got = ", ".join(map(str, shapes))
            raise ValueError(f"Concat: branches may differ in the channels only; got {got}.")
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def summary(self) -> str:
        """What it is, in the table of a network."""
        return "with its input" if self.keep_input else ""
