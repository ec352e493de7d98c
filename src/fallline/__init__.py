"""Fallline: train neural networks by gradients, and compare and see the optimizers that do it."""

from __future__ import annotations

from fallline import ops
from fallline.core.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from fallline.core.graph import Graph, trace
from fallline.core.spec import Spec
from fallline.compile.function import compile
from fallline.compile.threads import get_threads, set_threads
