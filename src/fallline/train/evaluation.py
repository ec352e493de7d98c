"""Loss and right answers on other data, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.compiler.plan import Plan
from fallline.core.graph import Graph, Record
from fallline.core.spec import Spec
from fallline.ops.link import LINKS
from fallline.train.step import FlatLayout, as_inputs


def record_evaluation(
    layout: FlatLayout, loss: Callable[..., Any], link: str, X: Spec, y: Spec
) -> tuple[str, Callable[[], Plan]]:
    """From (flat parameters, X, y) to the summed loss and the number of right answers.

    What tells this graph from others, and how to compile it.
    """
    level = Record()
    theta = level.input(layout.spec, "params")
    data, targets = level.input(X, "X"), level.input(y, "y")
    z = layout.network(layout.views(theta))(as_inputs(data, layout.dtype))
    outputs = [np.sum(loss(z, targets)), LINKS[link].hits(z, targets)]
    inputs = [theta.extra, data.extra, targets.extra]
    graph = Graph(inputs, [level.node(o) for o in outputs], "evaluate")
    return graph.digest(), lambda: Plan(graph)
