"""Loss and right answers on other data, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.compile.plan import Plan
from fallline.core.graph import Graph, Record
from fallline.core.spec import Spec
from fallline.train.step import FlatLayout, as_inputs


def record_evaluation(
    layout: FlatLayout, loss: Callable[..., Any], link: str, X: Spec, y: Spec
) -> Plan:
    """A plan from (flat parameters, X, y) to the summed loss and the number of right answers."""
    level = Record()
    theta = level.input(layout.spec, "params")
    data, targets = level.input(X, "X"), level.input(y, "y")
    z = layout.network(layout.views(theta))(as_inputs(data, layout.dtype))
    outputs = [np.sum(loss(z, targets)), right_answers(z, targets, link)]
    inputs = [theta.extra, data.extra, targets.extra]
    return Plan(Graph(inputs, [level.node(o) for o in outputs], "evaluate"))


def right_answers(z: Any, y: Any, link: str) -> Any:
    """How many rows of outputs name the right class; 0 where there are no classes."""
    several = len(z.shape) == 2 and z.shape[1] > 1
    if link == "softmax" or (link == "margin" and several):
        labels = y if len(y.shape) == 1 else np.argmax(y, axis=1)
        return np.sum(np.argmax(z, axis=1) == labels)
    if link in ("sigmoid", "margin"):
        z = np.reshape(z, (z.shape[0], -1))
        positive = np.reshape(y, z.shape) > (0.5 if link == "sigmoid" else 0)
        return np.sum(np.all((z > 0) == positive, axis=1))
    return np.zeros((), np.int64)
