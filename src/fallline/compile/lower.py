"""From a simplified graph to launches: which kernel runs when, on which layouts, split into which jobs.

A unit is what is launched together: a region, a matrix product, a gather, ... Units are ordered so that everything is written before it is read and a donated input is read
before it is overwritten. The way a unit is split into jobs depends on shapes alone, never on the number of threads.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallline.compile import texts
from fallline.compile.fuse import Region, external_uses, is_fusible, regions
from fallline.compile.kernel import RegionWriter, Scalar, Written
from fallline.compile.layout import Layout, Layouts, row_major
from fallline.compile.library import gemm
from fallline.core.errors import UnsupportedError
from fallline.core.graph import Graph, Node
from fallline.core.op import Op
from fallline.core.spec import Spec

JOB_ELEMENTS = 1 << 15  # about so many elements of a loop are worth a job of their own
MOST_JOBS = 64

# An identity that is never simplified away: it moves a value into a buffer.
COPY = Op("copy", "elementwise", lambda x: x, lambda x: x, kernel="{0}")


@dataclass(frozen=True)
class Place:
    """An address in a launch's arguments: so many bytes into the buffer of `key` (a node, or a Scalar slot)."""

    key: Any
    offset: int = 0


@dataclass
class Launch:
    """One kernel over a number of jobs; each row is the arguments of one job, numbers and places."""

    text: str
    rows: list[list[int | Place]]
    title: str
    flops: int = 0
    nbytes: int = 0
    calls_blas: bool = False


@dataclass(eq=False)
class Unit:
    """What is launched together, and the buffers that it reads and writes."""

    nodes: list[Node]
    region: Region | None = None
    into: Layout | None = None  # a copy: where to
    reads: set[Node] = field(default_factory=set)
    writes: set[Node] = field(default_factory=set)
    last: bool = False


@dataclass
class Lowered:
    """Launches in order, the buffers that they need, and where each result of the graph lies."""

    launches: list[Launch]
    units: list[Unit]
    buffers: dict[Node, int]  # root -> bytes
    inside: dict[
        Node, tuple[Node, int]
    ]  # root -> (the buffer that it is a part of, offset in bytes)
    outputs: list[
        Node | None
    ]  # root of each output; None: a number or constant that Python fills in
    scalars: list[tuple[Node, np.dtype[Any]]]


def lower(graph: Graph, donate: dict[int, int] | None = None) -> Lowered:
    """Lower a simplified graph. `donate` maps outputs to the inputs whose memory they take over."""
    return _Lowering(graph, donate or {}).result()


class _Lowering:
    def __init__(self, graph: Graph, donate: dict[int, int]) -> None:
        self.graph = graph
        self.layouts = Layouts()
        self.synthetic: list[Node] = []
        self.donors: dict[int, Node] = {}  # node -> input whose memory it takes over
        self.place_in: dict[int, Node] = {}
        self.inside: dict[Node, tuple[Node, int]] = {}
        self.scalars: dict[Any, tuple[Node, np.dtype[Any]]] = {}
        self.outputs = self._outputs(donate)

    def result(self) -> Lowered:
        _check_supported(self.graph)
        self.users = _users(self.graph, self.layouts)
        self._place_parts()
        units = self._units()
        self._link(units)
        self._settle_donations(units)
        ordered = _ordered(units, self._written_by(units), self._donated_inputs())
        launches: list[Launch] = []
        kept: list[Unit] = []
        for unit in ordered:
            for launch in self._launches(unit):
                launches.append(launch)
                kept.append(unit)
        return Lowered(
            launches,
            kept,
            self._buffers(kept),
            self.inside,
            self.outputs,
            list(self.scalars.values()),
        )

    # -- outputs and donations

    def _outputs(self, donate: dict[int, int]) -> list[Node | None]:
        """Each output gets a buffer of its own: inputs, views and repeated ones are copied."""
        found: list[Node | None] = []
        taken: set[int] = set()
        self.copies: list[tuple[Node, Node]] = []  # (source, node whose buffer it fills)
        for i, node in enumerate(self.graph.outputs):
            donor = self.graph.inputs[donate[i]] if i in donate else None
            if node.is_constant or node.spec.weak:
                if donor is None:
                    found.append(None)
                    continue
            if node is donor:  # unchanged
                found.append(donor)
                continue
            plain = node.op is not None and not self.layouts.is_view(node) and id(node) not in taken
            if donor is not None and plain and is_fusible(node):
                self.donors[id(node)] = donor
                taken.add(id(node))
                found.append(node)
            elif donor is None and plain and node.op.kind != "view":  # type: ignore[union-attr]
                taken.add(id(node))
                found.append(node)
            else:
                found.append(self._copied(node, donor))
        return found

    def _copied(self, node: Node, donor: Node | None = None) -> Node:
        copy = Node(node.spec, COPY, (node,))
        self.synthetic.append(copy)
        if donor is not None:
            self.donors[id(copy)] = donor
        return copy

    def _donated_inputs(self) -> set[Node]:
        return set(self.donors.values())

    # -- parts of a concatenation are computed where they belong

    def _place_parts(self) -> None:
        outputs = {id(o) for o in self.outputs if o is not None}
        for node in self.graph.nodes:
            if node.op.kind != "concatenate" or any(
                n != 1 for n in node.spec.shape[: node.params["axis"]]
            ):  # type: ignore[union-attr]
                continue
            offset = 0
            for arg in node.args:
                layout = self.layouts[arg]
                root = layout.root
                whole = layout.contiguous and layout.offset == 0 and arg.spec.size == root.spec.size
                free = (
                    root.op is not None
                    and root not in self.inside
                    and id(root) not in outputs
                    and id(root) not in self.donors
                )
                if (
                    whole
                    and free
                    and root.spec.dtype == node.spec.dtype
                    and root.op.kind != "concatenate"
                    and root.spec.size
                ):  # type: ignore[union-attr]
                    self.inside[root] = (node, offset * node.spec.dtype.itemsize)
                offset += arg.spec.size

    # -- units

    def _units(self) -> list[Unit]:
        found = regions(self.graph)
        units = [Unit(r.nodes, region=r) for r in found]
        for copy in self.synthetic:
            units.append(Unit([copy], region=_map_region(copy)))
        for node in self.graph.nodes:
            if node.spec.weak or is_fusible(node) or self.layouts.is_view(node):
                continue
            units += self._special_units(node)
        return units

    def _special_units(self, node: Node) -> list[Unit]:
        kind = node.op.kind  # type: ignore[union-attr]
        if kind == "view":  # elements must move: copied row by row into the new array's buffer
            source = node.args[0]
            return [
                self._copy_unit(
                    source, Layout(node, source.spec.shape, row_major(source.spec.shape))
                )
            ]
        if kind == "concatenate":
            return self._concatenate_units(node)
        if kind == "embed":
            strides = row_major(node.spec.shape)
            index = node.params["index"]
            offset = sum(a * s for (a, _, _), s in zip(index, strides, strict=True))
            steps = tuple(step * s for (_, _, step), s in zip(index, strides, strict=True))
            return [
                self._zeros_unit(node),
                self._copy_unit(node.args[0], Layout(node, node.args[0].spec.shape, steps, offset)),
            ]
        if kind == "embed_diagonal":
            strides = row_major(node.spec.shape)
            k = node.params["offset"]
            offset = max(-k, 0) * strides[-2] + max(k, 0) * strides[-1]
            steps = (*strides[:-2], strides[-2] + strides[-1])
            return [
                self._zeros_unit(node),
                self._copy_unit(node.args[0], Layout(node, node.args[0].spec.shape, steps, offset)),
            ]
        if kind == "scatter":
            return [self._zeros_unit(node), Unit([node])]
        return [Unit([node])]

    def _copy_unit(self, source: Node, into: Layout) -> Unit:
        copy = Node(Spec(source.spec.shape, into.root.spec.dtype), COPY, (source,))
        return Unit([copy], region=_map_region(copy), into=into)

    def _zeros_unit(self, node: Node) -> Unit:
        zero = Node(Spec((), node.spec.dtype), value=np.zeros((), node.spec.dtype))
        copy = Node(node.spec, COPY, (zero,))
        return Unit(
            [copy],
            region=_map_region(copy),
            into=Layout(node, node.spec.shape, row_major(node.spec.shape)),
        )

    def _concatenate_units(self, node: Node) -> list[Unit]:
        strides = row_major(node.spec.shape)
        axis = node.params["axis"]
        units = []
        at = 0
        for arg in node.args:
            root = self.layouts[arg].root
            if (
                self.inside.get(root, (None,))[0] is not node
                or self.inside[root][1] != at * strides[axis] * node.spec.dtype.itemsize
            ):
                units.append(
                    self._copy_unit(arg, Layout(node, arg.spec.shape, strides, at * strides[axis]))
                )
            at += arg.spec.shape[axis]
        return units or [Unit([])]

    # -- dependencies

    def _link(self, units: list[Unit]) -> None:
        outputs = [o for o in self.outputs if o is not None]
        users = {i: list(nodes) for i, nodes in self.users.items()}
        for copy in self.synthetic:
            users.setdefault(id(self.layouts[copy.args[0]].root), []).append(copy)
        for unit in units:
            inside = {id(n) for n in unit.nodes}
            for n in unit.nodes:
                for a in n.args:
                    inlined = unit.region is not None and a.is_constant and a.spec.size == 1
                    if not a.spec.weak and id(a) not in inside and not inlined:
                        root = self.layouts[a].root
                        if id(root) not in inside or unit.region is None:
                            unit.reads.add(root)
            if unit.into is not None:
                unit.writes.add(unit.into.root)
            elif unit.region is not None:
                unit.writes.update(external_uses(unit.region, users, outputs))
            else:
                unit.writes.update(unit.nodes)

    def _written_by(self, units: list[Unit]) -> dict[Node, list[Unit]]:
        found: dict[Node, list[Unit]] = {}
        for unit in units:
            for root in unit.writes:
                found.setdefault(root, []).append(unit)
        for part, (whole, _) in self.inside.items():
            found.setdefault(whole, []).extend(found.get(part, []))
        return found

    def _settle_donations(self, units: list[Unit]) -> None:
        """A result may overwrite its donor only if its own unit is the donor's last reader and reads it element by element.

        Otherwise it is computed elsewhere and copied at the very end.
        """
        for unit in list(units):
            for node in [n for n in unit.nodes if id(n) in self.donors and n.op is not COPY]:
                donor = self.donors[id(node)]
                if not self._may_overwrite(unit, node, donor, units):
                    del self.donors[id(node)]
                    copy = self._copied(node, donor)
                    self.outputs[[o is node for o in self.outputs].index(True)] = copy
                    extra = Unit([copy], region=_map_region(copy), reads={node}, writes={copy})
                    unit.writes.add(node)
                    units.append(extra)
        for unit in units:
            unit.last = any(id(n) in self.donors for n in unit.nodes)

    def _may_overwrite(self, unit: Unit, node: Node, donor: Node, units: list[Unit]) -> bool:
        for n in unit.nodes:
            for a in n.args:
                layout = self.layouts[a]
                if layout.root is donor and (
                    layout.offset or not layout.contiguous or a.spec.shape != unit.region.space
                ):  # type: ignore[union-attr]
                    return False
        if node.spec.shape != unit.region.space or unit.region.form != "map":  # type: ignore[union-attr]
            return False
        made_by = self._written_by(units)
        later = _reachable_from(unit, units, made_by)
        return not any(donor in u.reads and u is not unit and u in later for u in units)

    # -- launches

    def _launches(self, unit: Unit) -> list[Launch]:
        if not unit.nodes or (unit.nodes[0].spec.size == 0 and unit.region is None):
            return []
        if unit.region is not None:
            return self._region_launches(unit)
        node = unit.nodes[0]
        return getattr(self, f"_{node.op.kind}")(node)  # type: ignore[union-attr]

    def _layout(self, node: Node) -> Layout:
        return self.layouts[node]

    def _stored(self, node: Node) -> Layout:
        """Where a node that is computed here is written."""
        return Layout(self.donors.get(id(node), node), node.spec.shape, row_major(node.spec.shape))

    def _region_launches(self, unit: Unit) -> list[Launch]:
        region = unit.region
        assert region is not None
        if (
            math.prod(region.space) == 0
            and region.form in ("map", "rows")
            and all(n.spec.size == 0 for n in region.nodes)
        ):
            return []
        stored = {
            id(n): self._stored(n) for n in region.nodes if n in unit.writes or id(n) in self.donors
        }
        if unit.into is not None:
            stored = {id(unit.nodes[0]): unit.into}
        partials: dict[int, tuple[Node, int]] = {}
        donors = {id(n): self.donors[id(n)] for n in region.nodes if id(n) in self.donors}
        if region.form == "total":
            jobs = _job_count(math.prod(region.space), 4 * JOB_ELEMENTS)
            for n in region.nodes:
                if n.op.kind == "reduce" and jobs > 1:  # type: ignore[union-attr]
                    part = Node(Spec((jobs,), n.spec.dtype))
                    partials[id(n)] = (part, jobs)
                    stored[id(n)] = Layout(part, (), ())
        writer = RegionWriter(region, self._layout, stored, donors)
        written = writer.write()
        for node in writer.extra:
            unit.writes.add(node)
        launch = self._split(written, writer, region, partials)
        found = [launch]
        for n in region.nodes:
            if id(n) in partials:
                part = partials[id(n)][0]
                unit.writes.add(part)
                found += self._combine(n, part)
        return found

    def _combine(self, node: Node, part: Node) -> list[Launch]:
        """The pieces of a total, reduced in their order."""
        whole = Node(node.spec, node.op, (part,), {"axis": (0,), "keepdims": False})
        region = Region((part.spec.size,), "rows", 0, 1, [whole])
        writer = RegionWriter(region, self._layout, {id(whole): self._stored(node)}, {})
        return [self._split(writer.write(), writer, region, {})]

    def _split(
        self,
        w: Written,
        writer: RegionWriter,
        region: Region,
        partials: dict[int, tuple[Node, int]],
    ) -> Launch:
        """Jobs along the first loop that may be split; every job is a range of it."""
        size = math.prod(region.space)
        along = _last_inner(w) if region.form == "columns" else 0
        if region.form == "rows" and w.loops[0].part != "outer":
            jobs = 1
        elif region.form == "total":
            jobs = next((n for _, n in partials.values()), 1)
        else:
            jobs = _job_count(size, JOB_ELEMENTS)
        ranges = _ranges(
            w.loops[along].size,
            jobs,
            grain=16 if len(w.loops) == 1 or region.form == "columns" else 1,
        )
        rows = []
        for job, (start, count) in enumerate(ranges):
            row: list[int | Place] = []
            for what, *which in w.parameters:
                if what == "size":
                    row.append(count if which[0] == along else w.loops[which[0]].size)
                elif what == "stride":
                    row.append(writer.stride(*which))
                elif what == "operand":
                    o = which[0]
                    item = o.dtype.itemsize
                    moved = o.layout.offset + start * writer.stride(o, along)
                    if any(o.layout.root is part for part, _ in partials.values()):
                        moved = job
                    row.append(Place(o.layout.root, moved * item))
                else:
                    row.append(self._scalar(which[0]))
            rows.append(row)
        touched = sum(_extent(o.strides, region.space) * o.dtype.itemsize for o in w.operands)
        return Launch(w.text, rows, writer._title(), flops=size * len(region.nodes), nbytes=touched)  # type: ignore[union-attr]

    def _scalar(self, s: Scalar) -> Place:
        if s.layout is not None:
            return Place(s.layout.root, s.layout.offset * s.dtype.itemsize)
        key = (id(s.node), s.dtype.str)
        self.scalars[key] = (s.node, s.dtype)
        return Place(key)

    # -- other kinds

    def _matmul(self, node: Node) -> list[Launch]:
        dtype = node.spec.dtype
        operands, before = [], []
        for arg in node.args:
            side, launches = self._matrix(arg, dtype)
            operands.append(side)
            before += launches
        (a, ta, lda), (b, tb, ldb) = operands
        *lead, m, n = node.spec.shape
        k = node.args[0].spec.shape[-1]
        if n == 1:  # a column is computed as a row, whose elements lie side by side
            (a, ta, lda), (b, tb, ldb), m, n = (b, 1 - tb, ldb), (a, 1 - ta, lda), 1, m
        item = dtype.itemsize
        served = gemm.call(dtype, "NT"[ta] + "NT"[tb], m, n, k)
        batch = list(np.ndindex(*lead))
        jobs = gemm.grid(m, n, k) if len(batch) < 8 else [(0, m, 0, n)]
        strides = [x.broadcast((*lead, 0, 0)) for x in (a, b)] + [row_major((*lead, m, n))]
        rows: list[list[int | Place]] = []
        for index in batch:
            a0, b0, c0 = (sum(i * s for i, s in zip(index, along)) for along in strides)
            for i, height, j, width in jobs:
                pa = Place(a.root, (a.offset + a0 + i * (1 if ta else lda)) * item)
                pb = Place(b.root, (b.offset + b0 + j * (ldb if tb else 1)) * item)
                pc = Place(node, (c0 + i * n + j) * item)
                matrices: list[int | Place] = [pa, lda, pb, ldb, pc, max(n, 1)]
                rows.append([*served.first, height, width, k, *matrices, 0])
        nbytes = sum(x.spec.nbytes for x in (*node.args, node))
        flops = 2 * m * n * k * len(batch)
        return [*before, Launch(served.text, rows, "matmul", flops, nbytes, served.calls_blas)]

    def _matrix(
        self, arg: Node, dtype: np.dtype[Any]
    ) -> tuple[tuple[Layout, int, int], list[Launch]]:
        """An argument of a product: its layout, whether it is transposed, its leading dimension.

        It is copied if neither its rows nor its columns lie in one piece.
        """
        layout = self.layouts[arg]
        found = _leading(layout) if arg.spec.dtype == dtype else None
        if found is not None:
            return (layout, *found), []
        copy = Node(Spec(arg.spec.shape, dtype), COPY, (arg,))
        plain = Layout(copy, arg.spec.shape, row_major(arg.spec.shape))
        unit = Unit([copy], region=_map_region(copy), into=plain)
        unit.writes.add(copy)
        self.extra_buffers = [*getattr(self, "extra_buffers", []), copy]
        return (plain, 0, max(plain.shape[-1], 1)), self._region_launches(unit)

    def _indexed(
        self,
        node: Node,
        text: Callable[..., str],
        source: Node,
        values: Node,
        index: tuple[Node, ...],
        splits: bool,
    ) -> list[Launch]:
        """Gather reads rows of `source` into `values`; scatter adds `values` to rows of `source`."""
        lead = np.broadcast_shapes(*[i.spec.shape for i in index])
        x = (
            self.layouts[source]
            if source.op is None or source is not node
            else Layout(node, node.spec.shape, row_major(node.spec.shape))
        )
        y = (
            self.layouts[values]
            if values is not node
            else Layout(node, node.spec.shape, row_major(node.spec.shape))
        )
        k = len(index)
        where = [self.layouts[i] for i in index]
        strides = [w.broadcast(lead) for w in where] + [y.strides[: len(lead)]]
        loops, order = _collapsed(lead, strides)
        inner_strides = [x.strides[k:], y.strides[len(lead) :]]
        inner, inner_order = _collapsed(x.shape[k:], inner_strides)
        kernel = text(
            node.spec.dtype,
            [i.spec.dtype for i in index],
            len(loops),
            len(inner),
            [
                bool(s and o and s[o[-1]] == 1)
                for s, o in (
                    (inner_strides[0], inner_order[-1] if inner_order else []),
                    (inner_strides[1], inner_order[-1] if inner_order else []),
                )
            ],
        )
        jobs = _job_count(values.spec.size, JOB_ELEMENTS) if splits and loops else 1
        rows = []
        item = node.spec.dtype.itemsize
        for start, count in _ranges(loops[0] if loops else 1, jobs):
            row: list[int | Place] = [Place("status")]
            row += [count, *loops[1:]] if loops else []
            row += inner
            for w, s, i in zip(where, strides, index, strict=False):
                along = [s[o[-1]] for o in order]
                row += [
                    Place(
                        w.root,
                        (w.offset + (start * along[0] if along else 0)) * i.spec.dtype.itemsize,
                    ),
                    *along,
                ]
            row += [n for pair in zip(x.shape[:k], x.strides[:k], strict=True) for n in pair]
            row += [Place(x.root, x.offset * item), *[inner_strides[0][o[-1]] for o in inner_order]]
            along = [strides[-1][o[-1]] for o in order]
            row += [
                Place(y.root, (y.offset + (start * along[0] if along else 0)) * item),
                *along,
                *[inner_strides[1][o[-1]] for o in inner_order],
            ]
            rows.append(row)
        return [Launch(kernel, rows, node.op.name, 0, 2 * values.spec.nbytes)]  # type: ignore[union-attr]

    def _gather(self, node: Node) -> list[Launch]:
        return self._indexed(node, texts.gather, node.args[0], node, node.args[1:], splits=True)

    def _scatter(self, node: Node) -> list[Launch]:
        return self._indexed(
            node, texts.scatter_add, node, node.args[0], node.args[1:], splits=False
        )

    def _axis_launch(
        self, node: Node, text: str, axis: int, y_strides: tuple[int, ...]
    ) -> list[Launch]:
        """A kernel that goes along one axis, for each place of the others."""
        x = self.layouts[node.args[0]]
        others = [d for d in range(len(x.shape)) if d != axis]
        sizes = [x.shape[d] for d in others]
        places = list(np.ndindex(*sizes))
        rows: list[list[int | Place]] = []
        # all but the last of the other axes become jobs' offsets; the last is a loop of the kernel
        head, tail = others[:-1], others[-1:] or [None]
        for index in np.ndindex(*[x.shape[d] for d in head]):
            px = x.offset + sum(i * x.strides[d] for i, d in zip(index, head, strict=True))
            py = sum(i * y_strides[d] for i, d in zip(index, head, strict=True))
            last = tail[0]
            rows.append(
                [
                    1 if last is None else x.shape[last],
                    x.shape[axis],
                    Place(x.root, px * node.args[0].spec.dtype.itemsize),
                    0 if last is None else x.strides[last],
                    x.strides[axis],
                    Place(node, py * node.spec.dtype.itemsize),
                    0 if last is None else y_strides[last],
                    y_strides[axis],
                ]
            )
        return [
            Launch(text, rows, node.op.name, len(places) * x.shape[axis], node.args[0].spec.nbytes)
        ]  # type: ignore[union-attr]

    def _argreduce(self, node: Node) -> list[Launch]:
        axis = node.params["axis"][0]
        shape = node.args[0].spec.shape
        kept = row_major(tuple(1 if i == axis else n for i, n in enumerate(shape)))
        return self._axis_launch(
            node, texts.argreduce(node.op.name, node.args[0].spec.dtype), axis, kept
        )  # type: ignore[union-attr]

    def _scan(self, node: Node) -> list[Launch]:
        return self._axis_launch(
            node,
            texts.cumsum(node.args[0].spec.dtype, node.spec.dtype),
            node.params["axis"],
            row_major(node.spec.shape),
        )

    def _random(self, node: Node) -> list[Launch]:
        """Numbers from a key: a job draws a range of them, whatever the others do."""
        from fallline.compile.library import random

        name, numbers = node.op.kernel  # type: ignore[union-attr]
        key, dtype, before = self.layouts[node.args[0]], node.spec.dtype, []
        if not key.contiguous:
            copy = Node(node.args[0].spec, COPY, (node.args[0],))
            key = Layout(copy, (4,), (1,))
            self.extra_buffers = [*getattr(self, "extra_buffers", []), copy]
            before = self._region_launches(Unit([copy], region=_map_region(copy), into=key))
        at = Place(key.root, key.offset * 4)
        if name == "fold_in":
            row = [at, self._number(node.args[1], np.dtype(np.int64)), Place(node)]
            return [*before, Launch(random.fold_in_text(), [row], name, 0, node.spec.nbytes)]
        make = getattr(random, f"{name}_text")
        text = make() if name in ("bits", "bernoulli") else make(dtype)
        given: list[int | Place] = []
        for x in numbers(**node.params):
            constant = (
                Node(Spec((), dtype), value=np.asarray(x, dtype)) if isinstance(x, float) else None
            )
            given.append(x if constant is None else self._scalar(Scalar(constant, dtype)))
        jobs = _ranges(node.spec.size, _job_count(node.spec.size, JOB_ELEMENTS), grain=16)
        rows = [
            [count, start, at, *given, Place(node, start * dtype.itemsize)] for start, count in jobs
        ]
        return [*before, Launch(text, rows, name, 0, node.spec.nbytes)]

    def _number(self, node: Node, dtype: np.dtype[Any]) -> Place:
        layout = None if node.spec.weak or node.is_constant else self.layouts[node]
        return self._scalar(Scalar(node, dtype, layout))

    def _kernel(self, node: Node) -> list[Launch]:
        """A user's operation with a kernel of its own: contiguous arguments, one job."""
        row: list[int | Place] = []
        before: list[Launch] = []
        for arg in (*node.args, node):
            layout = self.layouts[arg]
            if not layout.contiguous:
                copy = Node(arg.spec, COPY, (arg,))
                layout = Layout(copy, arg.spec.shape, row_major(arg.spec.shape))
                unit = Unit([copy], region=_map_region(copy), into=layout)
                self.extra_buffers = [*getattr(self, "extra_buffers", []), copy]
                before += self._region_launches(unit)
            row += [*arg.spec.shape, Place(layout.root, layout.offset * arg.spec.dtype.itemsize)]
        text = texts.of_function(node.op.kernel, node.spec.dtype)  # type: ignore[union-attr]
        return [*before, Launch(text, [row], node.op.name, 0, node.spec.nbytes)]  # type: ignore[union-attr]

    # -- buffers

    def _buffers(self, units: Iterable[Unit]) -> dict[Node, int]:
        found: dict[Node, int] = {}
        for unit in units:
            for root in (*unit.reads, *unit.writes):
                found[root] = root.spec.nbytes
        for node in getattr(self, "extra_buffers", []):
            found[node] = node.spec.nbytes
        for part, (whole, _) in self.inside.items():
            if part in found:
                found[whole] = whole.spec.nbytes
        return found


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _check_supported(graph: Graph) -> None:
    for node in graph.nodes:
        op = node.op
        assert op is not None
        known = op.kind in (
            "view",
            "matmul",
            "concatenate",
            "embed",
            "embed_diagonal",
            "gather",
            "scatter",
            "argreduce",
            "scan",
            "random",
            "kernel",
        )
        if (
            node.spec.weak
            or (known and op.eager_only is None)
            or (is_fusible(node) and op.eager_only is None)
        ):
            continue
        why = op.eager_only or "it has no kernel"
        at = f"\n  at {node.where[0]}:{node.where[1]}, in {node.where[2]}" if node.where else ""
        raise UnsupportedError(f"compile: {op.name} cannot be compiled: {why}.{at}")


def _users(graph: Graph, layouts: Layouts) -> dict[int, list[Node]]:
    """Who reads each node; a view is read where what it shows is."""
    found: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if layouts.is_view(node):
            continue
        for arg in node.args:
            found.setdefault(id(arg), []).append(node)
            while arg.op is not None and arg.op.kind == "view":
                arg = arg.args[0]
                found.setdefault(id(arg), []).append(node)
    return found


def _map_region(node: Node) -> Region:
    n = node.spec.ndim
    return Region(node.spec.shape, "map", n, n, [node])


def _reachable_from(unit: Unit, units: list[Unit], made_by: dict[Node, list[Unit]]) -> set[Unit]:
    """The units that depend on this one."""
    after: dict[Unit, list[Unit]] = {}
    for u in units:
        for root in u.reads:
            for maker in made_by.get(root, []):
                after.setdefault(maker, []).append(u)
    seen: set[Unit] = set()
    stack = [unit]
    while stack:
        for u in after.get(stack.pop(), []):
            if u not in seen:
                seen.add(u)
                stack.append(u)
    return seen


def _ordered(units: list[Unit], made_by: dict[Node, list[Unit]], donated: set[Node]) -> list[Unit]:
    """Every unit after those whose results it reads; those that overwrite an input at the end."""
    before: dict[Unit, set[Unit]] = {u: set() for u in units}
    for u in units:
        for root in u.reads:
            before[u].update(m for m in made_by.get(root, []) if m is not u)
    for root, makers in made_by.items():  # zeros first, then what is put there
        del root
        for first, second in zip(makers, makers[1:], strict=False):
            if (
                first.into is not None
                and second is not first
                and first.into.root in second.writes
                and first.nodes[0].args[0].is_constant
            ):
                before[second].add(first)
    for u in units:
        if u.last:
            before[u].update(v for v in units if not v.last and any(d in v.reads for d in donated))
    after: dict[Unit, list[Unit]] = {}
    for u, needs in before.items():
        for v in needs:
            after.setdefault(v, []).append(u)
    rank = {u: (u.last, i) for i, u in enumerate(units)}
    waiting = {u: len(needs) for u, needs in before.items()}
    by_rank = {r: u for u, r in rank.items()}
    ready = [rank[u] for u, n in waiting.items() if n == 0]
    heapq.heapify(ready)
    found: list[Unit] = []
    while ready:
        u = by_rank[heapq.heappop(ready)]
        found.append(u)
        for v in after.get(u, []):
            waiting[v] -= 1
            if waiting[v] == 0:
                heapq.heappush(ready, rank[v])
    if len(found) != len(units):
        raise RuntimeError(
            "compile: the units of this graph depend on each other in a circle; please report the function."
        )
    return found


def _job_count(work: float, worth: float, most: int = MOST_JOBS) -> int:
    return max(1, min(most, int(work // worth)))


def _ranges(n: int, pieces: int, grain: int = 1) -> list[tuple[int, int]]:
    """About `pieces` ranges of equal size that cover n, each but the last a multiple of `grain`."""
    size = max(1, -(-n // pieces))
    size = -(-size // grain) * grain
    return [(start, min(size, n - start)) for start in range(0, n, size)] or [(0, 0)]


def _last_inner(w: Written) -> int:
    """The loop of a column reduction that is split: the first outer one, else the first inner one."""
    return next(i for i, loop in enumerate(w.loops) if loop.part != "reduced")


def _leading(layout: Layout) -> tuple[int, int] | None:
    """(transposed, leading dimension) of the last two axes for a matrix product, or None."""
    (m, n), (s, t) = layout.shape[-2:], layout.strides[-2:]
    if (t == 1 or n == 1) and (s >= n or m == 1) and s >= 0:
        return 0, max(s, n, 1)
    if (s == 1 or m == 1) and (t >= m or n == 1) and t >= 0:
        return 1, max(t, m, 1)
    return None


def _extent(strides: tuple[int, ...], space: tuple[int, ...]) -> int:
    """How many elements a loop over the space touches."""
    return math.prod(n for n, s in zip(space, strides, strict=True) if s != 0)


def _collapsed(
    shape: tuple[int, ...], strides: list[tuple[int, ...]]
) -> tuple[list[int], list[list[int]]]:
    """Loops over `shape`, neighbours joined where all strides allow it."""
    sizes: list[int] = []
    order: list[list[int]] = []
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(s[order[-1][-1]] == s[d] * n for s in strides):
            sizes[-1] *= n
            order[-1].append(d)
        else:
            sizes.append(n)
            order.append([d])
    return sizes, order
