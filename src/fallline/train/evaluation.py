"""Loss and right answers on other data, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.compiler.plan import Plan
from fallline.core.graph import Graph, Record
from fallline.core.spec import Spec
from fallline.ops.link import LINKS
from fallline.train.layout import FlatLayout
from fallline.train.step import as_inputs


def record_evaluation(
    layout: FlatLayout, loss: Callable[..., Any], link: str, X: Spec, y: Spec
) -> tuple[str, Callable[[], Plan]]:
    """From (parameters, X, y) to the summed loss and the number of right answers.

    Parameters are a flat vector; where the network keeps anything else, another one follows.
    What tells this graph from others, and how to compile it.
    """
    level = Record()
    theta = level.input(layout.spec, "params")
    data, targets = level.input(X, "X"), level.input(y, "y")
    kept = [level.input(layout.buffers_spec, "buffers")] if layout.buffers else []
    buffers = layout.buffer_views(kept[0]) if kept else []
    net = layout.network(layout.views(theta), buffers)
    z = net(as_inputs(data, layout.dtype))
    outputs = [np.sum(loss(z, targets)), LINKS[link].hits(z, targets)]
    inputs = [x.extra for x in (theta, *kept, data, targets)]
    graph = Graph(inputs, [level.node(o) for o in outputs], "evaluate")
    return graph.digest(), lambda: Plan(graph)
