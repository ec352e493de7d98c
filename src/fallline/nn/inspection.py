"""Backpropagation made visible: every layer's Z, A, V and gradients, as arrays with names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from fallline.core.autodiff import value_and_grad
from fallline.nn.context import Context, Taps, home
from fallline.nn.module import Module
from fallline.ops import loss as losses
from fallline.ops.link import LINKS, Link

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Layer:
    """What a layer with parameters did to a batch.

    Z      its output, for a linear layer the weighted sums
    A      what the next such layer receives; after the last one, its output through the link
    V      the sensitivity dL/dZ of the mean loss
    grads  the derivatives of the mean loss by its arrays, which are also attributes: .W, .b
    """

    name: str
    kind: str
    Z: Array
    A: Array
    V: Array
    grads: dict[str, Array] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Array:
        try:
            return self.__dict__["grads"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')}: there is no {name}.") from None

    def arrays(self) -> dict[str, Array]:
        """Z, A, V and the gradients, by name."""
        return {
            "Z": self.Z,
            "A": self.A,
            "V": self.V,
            **{f"d{n}": g for n, g in self.grads.items()},
        }


@dataclass(eq=False)
class Inspection:
    """The result of `inspect`: layers by name or position, and what was said with `ctx.tap`."""

    loss: float
    layers: list[Layer]
    named: dict[str, Array] = field(default_factory=dict)

    def __getitem__(self, which: str | int) -> Layer:
        if isinstance(which, int):
            return self.layers[which]
        for layer in self.layers:
            if layer.name == which:
                return layer
        raise KeyError(f"no layer {which!r}; there are {', '.join(x.name for x in self.layers)}.")

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows = [("layer", "array", "shape", "mean", "std", "norm")]
        for layer in self.layers:
            for name, array in layer.arrays().items():
                rows.append((layer.name, name, _shape(array), *_numbers(array)))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
        return "\n".join([f"loss {self.loss:.6g}", *lines])


def inspect(
    net: Module,
    X: Any,
    y: Any,
    *,
    loss: str | Callable[..., Any] | None = None,
    mode: str = "eval",
    key: Any = None,
) -> Inspection:
    """What forward and backward pass compute in each layer for the examples (X, y).

        Z_l = A_(l-1) W_l + b_l,   V_l = dE/dZ_l,   dE/dW_l = A_(l-1)^T V_l,   E = mean_i L_i

    X  (n, ...); y as the loss takes it. `loss` is a name or a function of outputs and targets; by
    default the one that goes with the network's link. mode="train" (with a key) shows dropout at
    work. Any module is inspected, also one of the user's own: its layers need `ctx` passed on.

    >>> from fallline import nn
    >>> net = nn.mlp([2, 3, 2], seed=1)
    >>> seen = inspect(net, np.ones((4, 2)), np.array([0, 1, 0, 1]), loss="cross_entropy")
    >>> [layer.name for layer in seen], seen["2"].V.shape
    (['0', '2'], (4, 2))
    >>> bool(np.allclose(seen["2"].W, seen["0"].A.T @ seen["2"].V))
    True
    """
    X = np.asarray(X)
    X = X.astype(net.dtype) if X.dtype.kind in "fiub" else X
    function, link = _loss(net, loss)

    def mean_loss(net: Module, shifts: dict[str, Any]) -> Any:
        taps = Taps()
        z = net(X, ctx=Context(mode, key=key, taps=taps, shifts=shifts))  # type: ignore[arg-type]
        return np.mean(function(z, y)), (taps.inputs, taps.outputs, taps.named)

    _, (_, outputs, _) = mean_loss(net, {})
    shifts = {path: np.zeros_like(z) for path, z in outputs.items()}
    both = value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)
    (value, (inputs, outputs, named)), (grads, sensitivities) = both(net, shifts)
    layers = _layers(net, grads, inputs, outputs, sensitivities)
    for layer, following in pairwise(layers):
        layer.A = inputs[following.name]
    if layers:
        layers[-1].A = link.mean(layers[-1].Z)
    return Inspection(float(value), layers, named)


def _loss(net: Module, loss: Any) -> tuple[Callable[..., Any], Link]:
    """The loss, and its link; for a function that declares none the network's."""
    if loss is None:
        if net.link is None:
            raise ValueError(
                'inspect: the network does not know its loss yet; pass loss="cross_entropy", say.'
            )
        loss = LINKS[net.link].loss
    function = losses.by_name(loss) if isinstance(loss, str) else loss
    return function, LINKS[losses.link_of(function, net.link or "identity")]


def _layers(
    net: Module, grads: Module, inputs: Any, outputs: Any, sensitivities: Any
) -> list[Layer]:
    """The modules with arrays of their own, in the order in which they ran."""
    modules = dict(net.modules())
    derivatives = dict(grads.modules())
    found = []
    for path, z in outputs.items():
        place = home(path)
        module = modules.get(place)
        if module is None or not module._own_arrays():
            continue
        own = derivatives[place]._own_arrays()
        kind = type(module).__name__
        found.append(Layer(path, kind, z, z, sensitivities[path], dict(own)))
    return found


def _shape(array: Array) -> str:
    return "x".join(map(str, array.shape)) or "()"


def _numbers(array: Array) -> tuple[str, str, str]:
    wide = np.asarray(array, np.float64)
    if not wide.size:
        return "", "", ""
    return f"{wide.mean():.3g}", f"{wide.std():.3g}", f"{np.linalg.norm(wide):.3g}"


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    left = [cell.ljust(w) for cell, w in zip(row[:3], widths)]
    return left + [cell.rjust(w) for cell, w in zip(row[3:], widths[3:])]
