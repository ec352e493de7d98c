"""Fallline: train neural networks by gradients, and compare and see the optimizers that do it.

fl.grad(f)(w)         derivatives of NumPy functions; also vjp, jvp, jacobian, hessian, hvp
fl.trace(f, w)        the graph of an expression
fl.compile(f)(w)      fused kernels for it
fl.fit(net, (X, y))   training; fl.nn, fl.optim, fl.data
fl.compare("digits")  a fair comparison of optimizers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fallline import data, nn, ops, optim, schedule, train
from fallline.compile.function import compile
from fallline.compile.threads import get_threads, set_threads
from fallline.core.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from fallline.core.graph import Graph, trace
from fallline.core.spec import Spec
from fallline.core.version import __version__
from fallline.ops import random
from fallline.train.errors import DivergedError
from fallline.train.fit import fit
from fallline.train.history import History

if TYPE_CHECKING:
    from fallline import lab, testing
    from fallline.lab import compare
    from fallline.nn.files import load, save
    from fallline.nn.inspection import inspect

__all__ = [
    "DivergedError",
    "Graph",
    "History",
    "Spec",
    "compare",
    "compile",
    "data",
    "fit",
    "get_threads",
    "grad",
    "hessian",
    "hvp",
    "inspect",
    "jacobian",
    "jvp",
    "lab",
    "load",
    "nn",
    "ops",
    "optim",
    "random",
    "save",
    "schedule",
    "set_threads",
    "testing",
    "trace",
    "train",
    "value_and_grad",
    "vjp",
    "__version__",
]

_LATER = {
    "compare": "fallline.lab",
    "inspect": "fallline.nn.inspection",
    "load": "fallline.nn.files",
    "save": "fallline.nn.files",
}


def __getattr__(name: str) -> Any:
    """What only some programs need is imported when it is asked for."""
    import importlib

    if name in ("lab", "testing"):
        return importlib.import_module(f"fallline.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'fallline' has no attribute {name!r}")
