"""Which operations share a loop.

A region is a set of elementwise operations and reductions over one index space, in one of four forms:

    map      every operation has the space's shape
    rows     the trailing axes are reduced; what a row was reduced to may be used again in that row (softmax, layer norm, ...)
    columns  leading or middle axes are reduced, into an accumulator that lies in memory; nothing in the region uses it
    total    all axes are reduced, in pieces of fixed size; nothing in the region uses the result

Two rules keep it right: no value leaves a region and comes back, and a region has one form and one space. Regions grow along
the order of computation; then maps over one space that read the same array are joined, so that it is read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fallline.core.graph import Graph, Node

MOST_NODES = 96
ROW_TOTAL = 4096  # so few elements are one row: their sum may be used in the same region


@dataclass(eq=False)
class Region:
    """Nodes in the order of computation; `first` and `last` bound the reduced axes (both the rank where there are none)."""

    space: tuple[int, ...]
    form: str
    first: int
    last: int
    nodes: list[Node] = field(default_factory=list)

    def is_row_value(self, node: Node) -> bool:
        """Whether the node has one value per row; else it has one per element."""
        if self.form != "rows":
            return False
        return node.op.kind == "reduce" or node.spec.shape != self.space  # type: ignore[union-attr]


def is_fusible(node: Node) -> bool:
    """Whether a node is computed in a loop that can be shared."""
    return (
        node.op is not None
        and not node.spec.weak
        and node.op.kind in ("elementwise", "reduce")
        and node.op.kernel is not None
    )


def plain_source(node: Node) -> Node:
    """Look through views that only add or drop axes of length one, or repeat along them."""
    while node.op is not None and node.op.kind == "view" and _keeps_order(node):
        node = node.args[0]
    return node


def _keeps_order(node: Node) -> bool:
    if node.op.name == "broadcast_to":  # type: ignore[union-attr]
        return True
    long = [n for n in node.spec.shape if n != 1]
    return node.op.name == "reshape" and long == [n for n in node.args[0].spec.shape if n != 1]  # type: ignore[union-attr]


def axes_map(node: Node, source: Node) -> list[int | None]:
    """For each axis of `node`, the axis of `source` that it runs along (None: repeated), through plain views."""
    if node is source:
        return list(range(node.spec.ndim))
    inner = axes_map(node.args[0], source)
    shape, under = node.spec.shape, node.args[0].spec.shape
    if node.op.name == "broadcast_to":  # type: ignore[union-attr]
        lead = len(shape) - len(under)
        return [None] * lead + [
            inner[i] if under[i] == n else None for i, n in enumerate(shape[lead:])
        ]
    long = iter(i for i, n in enumerate(under) if n != 1)
    return [None if n == 1 else inner[next(long)] for n in shape]


def regions(graph: Graph) -> list[Region]:
    """Every fusible node of the graph in one region."""
    return _Fuser(graph).result()


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.position = {id(n): i for i, n in enumerate(graph.nodes)}
        self.region: dict[int, Region] = {}

    def result(self) -> list[Region]:
        for node in self.graph.nodes:
            if is_fusible(node):
                self._place(node)
        self._join_siblings()
        found = list({id(r): r for r in self.region.values()}.values())
        for r in found:
            r.nodes.sort(key=lambda n: self.position[id(n)])
        return found

    # -- growing

    def _place(self, node: Node) -> None:
        own = _alone(node)
        self.region[id(node)] = own
        for arg in node.args:
            source = plain_source(arg)
            there = self.region.get(id(source))
            if there is not None and there is not self.region[id(node)]:
                self._try(there, self.region[id(node)])

    def _try(self, a: Region, b: Region) -> bool:
        """Join region b, which uses a, to it, if the two fit and nothing lies between them."""
        joined = _joined(a, b)
        if (
            joined is None
            or len(joined.nodes) > MOST_NODES
            or not self._uses_fit(joined)
            or self._leads_outside(a, b)
            or self._leads_outside(b, a)
        ):
            return False
        for node in joined.nodes:
            self.region[id(node)] = joined
        return True

    def _uses_fit(self, joined: Region) -> bool:
        """Inside a region a value is used at the place where it is made."""
        members = {id(n) for n in joined.nodes}
        for node in joined.nodes:
            for arg in node.args:
                source = plain_source(arg)
                if id(source) in members and not _aligned(joined, node, arg, source):
                    return False
        return True

    def _leads_outside(self, start: Region, end: Region) -> bool:
        """Whether something outside the two uses `start` and is used, in the end, by `end`."""
        targets = {id(n) for n in start.nodes}
        inside = targets | {id(n) for n in end.nodes}
        stack = [s for n in end.nodes for a in n.args if id(s := plain_source(a)) not in inside]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if id(node) in seen or node.op is None or node.spec.weak:
                continue
            region = self.region.get(id(node))
            unit = region.nodes if region is not None else [node]
            seen.update(map(id, unit))
            for source in (plain_source(a) for n in unit for a in n.args):
                if id(source) in targets:
                    return True
                if id(source) not in seen:
                    stack.append(source)
        return False

    # -- siblings

    def _join_siblings(self) -> None:
        by_space: dict[tuple[int, ...], list[Region]] = {}
        for r in {id(r): r for r in self.region.values()}.values():
            if r.form == "map":
                by_space.setdefault(r.space, []).append(r)
        for group in by_space.values():
            while len(group) > 1:
                first, *others = group
                partner = next(
                    (o for o in others if _reads(first) & _reads(o) and self._try(first, o)), None
                )
                if partner is None:
                    group = others
                else:
                    group = [
                        self.region[id(first.nodes[0])],
                        *[o for o in others if o is not partner],
                    ]


def _alone(node: Node) -> Region:
    """The region of a single node."""
    if node.op.kind == "elementwise":  # type: ignore[union-attr]
        n = node.spec.ndim
        return Region(node.spec.shape, "map", n, n, [node])
    space = node.args[0].spec.shape
    axes = node.params["axis"]
    first, last = axes[0], axes[-1] + 1
    if last < len(space):
        form = "columns"
    elif first == 0 and math.prod(space) > ROW_TOTAL:
        form = "total"
    else:
        form = "rows"
    return Region(space, form, first, last, [node])


def _joined(a: Region, b: Region) -> Region | None:
    """One region of both, in a form that allows it; a comes before b."""
    nodes = [*a.nodes, *b.nodes]
    if a.space == b.space:
        if a.form == b.form and (a.first, a.last) == (b.first, b.last):
            return Region(a.space, a.form, a.first, a.last, nodes)
        if a.form == "map":
            return Region(b.space, b.form, b.first, b.last, nodes)
        if b.form == "map" and a.form == "rows":
            return Region(a.space, a.form, a.first, a.last, nodes)
        return None
    for rows, other in ((a, b), (b, a)):
        if (
            rows.form == "rows"
            and other.form == "map"
            and all(_is_row_shape(rows, n) for n in other.nodes)
        ):
            return Region(rows.space, rows.form, rows.first, rows.last, nodes)
    return None


def _is_row_shape(rows: Region, node: Node) -> bool:
    shape = node.spec.shape
    return shape[: rows.first] == rows.space[: rows.first] and all(
        n == 1 for n in shape[rows.first :]
    )


def _aligned(region: Region, node: Node, arg: Node, source: Node) -> bool:
    """Whether an element of `node` uses the same element (or the row) of `source`, both members of the region."""
    along = axes_map(arg, source)
    if source.op.kind == "reduce" and region.form != "rows":  # type: ignore[union-attr]
        return False
    if node.op.kind == "reduce":  # type: ignore[union-attr]
        offset = 0
    else:  # a row's value lies along the first axes of the space, others along the last
        offset = (
            node.spec.ndim if region.is_row_value(node) else len(region.space)
        ) - arg.spec.ndim
    reached = {axis + offset: at for axis, at in enumerate(along)}
    wanted = range(region.first if region.is_row_value(source) else len(region.space))
    return all(region.space[d] == 1 or reached.get(d) == d for d in wanted)


def _reads(region: Region) -> set[int]:
    """The arrays that a region reads, as ids of their sources."""
    inside = {id(n) for n in region.nodes}
    return {
        id(s)
        for n in region.nodes
        for a in n.args
        if (s := plain_source(a)).spec.shape == region.space and id(s) not in inside
    }


def members(regions: Sequence[Region]) -> dict[int, Region]:
    """The region of each node, by id."""
    return {id(n): r for r in regions for n in r.nodes}


def external_uses(
    region: Region, users: dict[int, list[Node]], outputs: Iterable[Node]
) -> Iterator[Node]:
    """The nodes of a region that something outside it uses."""
    inside = {id(n) for n in region.nodes}
    kept = {id(o) for o in outputs}
    for node in region.nodes:
        if id(node) in kept or any(id(u) not in inside for u in users.get(id(node), [])):
            yield node
