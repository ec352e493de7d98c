"""From a region to the text of its kernel.

A region becomes nested loops: over rows (or over everything), inside them one loop for each stage.
A stage ends where a reduction must be complete before the rest can go on; values that a later stage
needs are computed again if that is cheap, else written and read back. Dimensions and strides are
arguments, so one kernel serves all shapes; only whether the innermost stride is 1, 0 or another is
written into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallline.compiler.expression import (
    accumulate,
    cast,
    expression,
    literal,
    loop_types,
    start,
    type_name,
)
from fallline.compiler.fuse import Region, plain_source
from fallline.compiler.layout import Layout
from fallline.core.graph import Node

# Operations whose result is computed again rather than written and read back.
CHEAP = frozenset(
    [
        *("add", "subtract", "multiply", "negative", "absolute", "square", "relu"),
        *("maximum", "minimum", "where", "astype", "logical_and", "logical_or", "logical_not"),
        *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    ]
)
INDENT = "    "
IMPORT = "from fallline.compiler.library.mathematics import *"

Values = dict[Any, str]  # the variable of a node (by id), or of an element that is read (by place)
Lines = list[str]


@dataclass(eq=False)
class Operand:
    """A buffer as a kernel sees it: its strides over the axes of the space, whether written."""

    layout: Layout
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    written: bool = False
    name: str = ""

    @property
    def is_single(self) -> bool:
        return not any(self.strides)


@dataclass(eq=False)
class Scalar:
    """A number that a kernel loads once.

    A constant, a number that the prologue computes, or the single element of an array (`layout`).
    """

    node: Node
    dtype: np.dtype[Any]
    layout: Layout | None = None
    name: str = ""


@dataclass
class Loop:
    """A loop over one axis of the space, or over neighbouring axes that count as one."""

    size: int
    part: str  # "outer", "reduced" or "inner"
    axes: list[int]


@dataclass
class Written:
    """A kernel and what its parameters stand for.

    parameters  in order ("size", loop), ("stride", operand, loop), ("operand", operand) or
                ("scalar", scalar); a loop is its place in `loops`
    """

    text: str
    parameters: list[tuple[Any, ...]]
    loops: list[Loop]
    operands: list[Operand]
    scalars: list[Scalar] = field(default_factory=list)


class RegionWriter:
    """Writes the kernel of a region.

    layout_of  where a value lies that the region reads or keeps. stored  where those of its values
    lie that must be written. donors  arrays that a value overwrites in place. extra  the values
    that are kept from one stage to a later one, known after `write`.
    """

    def __init__(
        self,
        region: Region,
        layout_of: Callable[[Node], Layout],
        stored: dict[int, Layout],
        donors: dict[int, Node],
        in_blocks: bool = False,
    ) -> None:
        self.region = region
        self.layout_of = layout_of
        self.stored = dict(stored)
        self.donors = donors
        self.in_blocks = in_blocks
        self.members = {id(n) for n in region.nodes}
        self.level = self._levels()
        self.reads: dict[Any, Operand] = {}  # by place
        self.writes: dict[int, Operand] = {}  # by node
        self.scalars: dict[Any, Scalar] = {}
        self.loops: list[Loop] = []
        self.extra: list[Node] = []
        self._count = -1

    def write(self) -> Written:
        self._keep_between_stages()
        self._collect()
        self.loops = self._loops()
        self._name()
        form = self.region.form
        bodies = {"map": self._map, "rows": self._rows, "columns": self._columns}
        body = bodies.get(form, self._total)()
        parameters = self._parameters()
        heading = ", ".join(declaration for declaration, _ in parameters)
        lines = [f"# name: {self.title}", IMPORT, "", "", f"def kernel({heading}):"]
        text = "\n".join([*lines, *_indented(body), ""])
        meanings = [meaning for _, meaning in parameters]
        return Written(text, meanings, self.loops, self._operands(), list(self.scalars.values()))

    def stride(self, o: Operand, loop: int) -> int:
        """The operand's stride along a loop, in elements."""
        axes = self.loops[loop].axes
        return o.strides[axes[-1]] if axes else 0

    @property
    def title(self) -> str:
        """The operations, by name."""
        names = [n.title for n in self.region.nodes]
        return "_".join(names if len(names) <= 6 else [*names[:3], "etc", *names[-2:]])

    # -- stages

    def _levels(self) -> dict[int, int]:
        """The stage in which each node is known: how many reductions lie before it."""
        level: dict[int, int] = {}
        for node in self.region.nodes:
            before = max([level.get(id(plain_source(a)), 0) for a in node.args], default=0)
            level[id(node)] = before + (node.kind == "reduce" and self.region.form == "rows")
        return level

    def _keep_between_stages(self) -> None:
        """Store what a later stage needs and would not compute again."""
        if self.region.form != "rows":
            return
        kept: dict[int, Node] = {}
        for node in self.region.nodes:
            if node.kind == "reduce" or not self.region.is_row_value(node):
                used_in = self.level[id(node)] - (node.kind == "reduce")
                for a in node.args:
                    self._use_later(plain_source(a), used_in, kept)
        for node in kept.values():
            if id(node) not in self.stored:
                self.stored[id(node)] = self.layout_of(node)
                self.extra.append(node)

    def _use_later(self, node: Node, level: int, kept: dict[int, Node]) -> None:
        """Keep `node`, or what it is computed from, for its use in stage `level`."""
        if (
            id(node) not in self.members
            or self.region.is_row_value(node)
            or self.level[id(node)] == level
        ):
            return
        if not self._is_cheap(node):
            kept[id(node)] = node
            return
        for a in node.args:
            self._use_later(plain_source(a), level, kept)

    def _is_cheap(self, node: Node) -> bool:
        """Whether computing an element again costs less than reading it back."""
        return node.title in CHEAP and all(
            id(s) not in self.members or self.region.is_row_value(s) or self._is_cheap(s)
            for s in map(plain_source, node.args)
        )

    # -- operands

    def _collect(self) -> None:
        """Every array that is read from outside, once per layout; every value that is stored."""
        for node in self.region.nodes:
            reduces = node.kind == "reduce"
            types = [node.args[0].spec.dtype] if reduces else loop_types(node)
            for arg, dtype in zip(node.args, types, strict=True):
                if id(plain_source(arg)) not in self.members:
                    self._read(node, arg, dtype)
        for node in self.region.nodes:
            if id(node) in self.stored:
                self.writes[id(node)] = self._target(node)

    def _read(self, node: Node, arg: Node, dtype: np.dtype[Any]) -> None:
        if _is_number(arg):
            if literal(arg, dtype) is None:
                self.scalars.setdefault((id(arg), dtype.str), Scalar(arg, dtype))
            return
        layout, place = self.layout_of(arg), self._place(node, arg)
        if place not in self.reads:
            self.reads[place] = Operand(layout, self._strides(node, layout), arg.spec.dtype)

    def _place(self, node: Node, arg: Node) -> tuple[int, int, tuple[int, ...]]:
        """What tells an element that `node` reads from others: buffer, offset and strides."""
        layout = self.layout_of(arg)
        return id(layout.root), layout.offset, self._strides(node, layout)

    def _strides(self, node: Node, layout: Layout) -> tuple[int, ...]:
        """Strides over the axes of the space of an argument of `node`."""
        space, first = self.region.space, self.region.first
        if node.kind == "reduce" or not self.region.is_row_value(node):
            return layout.broadcast(space)
        lead = layout.broadcast(node.spec.shape)[:first]
        return (*lead, *(0,) * (len(space) - first))

    def _target(self, node: Node) -> Operand:
        """Where a value is written: over its donor, if that is read with the same strides."""
        layout = self.stored[id(node)]
        strides = self._target_strides(node, layout.strides)
        strides = tuple(0 if n == 1 else s for n, s in zip(self.region.space, strides, strict=True))
        donor = self.reads.get((id(self.donors.get(id(node))), 0, strides))
        if donor is None or donor.is_single:
            return Operand(layout, strides, node.spec.dtype, written=True)
        donor.written = True
        return donor

    def _target_strides(self, node: Node, own: tuple[int, ...]) -> tuple[int, ...]:
        r = self.region
        if node.kind == "reduce":
            return (*own[: r.first], *(0,) * (r.last - r.first), *own[r.first :])
        if r.is_row_value(node):
            return (*own[: r.first], *(0,) * (len(r.space) - r.first))
        return own

    def _operands(self) -> list[Operand]:
        return list(dict.fromkeys([*self.reads.values(), *self.writes.values()]))

    # -- loops

    def _loops(self) -> list[Loop]:
        """Outermost first: axes of the space, neighbours joined where every operand allows it."""
        every = [*self.reads.values(), *self.writes.values()]
        loops: list[Loop] = []
        for part, axes in self._parts().items():
            own: list[Loop] = []
            for d in axes:
                n = self.region.space[d]
                if n == 1:
                    continue
                joins = own and not (self.in_blocks and own[-1].axes[0] < 2)
                if joins and all(o.strides[own[-1].axes[-1]] == o.strides[d] * n for o in every):
                    own[-1].size *= n
                    own[-1].axes.append(d)
                else:
                    own.append(Loop(n, part, [d]))
            loops += own or [Loop(1, part, [])] * self._always_loops(part)
        return loops

    def _parts(self) -> dict[str, range]:
        """The axes of the space by what their loops are for."""
        r = self.region
        rank = len(r.space)
        if r.form in ("map", "total"):
            return {"outer" if r.form == "map" else "reduced": range(rank)}
        return {
            "outer": range(r.first),
            "reduced": range(r.first, r.last),
            "inner": range(r.last, rank),
        }

    def _always_loops(self, part: str) -> bool:
        """Whether there is a loop over this part even if it has a single element."""
        form = self.region.form
        return part == "reduced" or form == "map" or (form == "columns" and part == "inner")

    # -- parameters

    def _name(self) -> None:
        for place, o in list(self.reads.items()):
            if o.is_single:  # one number in memory: loaded before the loops
                del self.reads[place]
                self.scalars[place] = Scalar(o.layout.root, o.dtype, o.layout)
        for i, o in enumerate(self._operands()):
            o.name = f"{'y' if o.written else 'x'}{i}"
        for i, s in enumerate(self.scalars.values()):
            s.name = f"s{i}"

    def _parameters(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The parameters as they are declared, each with its meaning; see `Written`."""
        found: list[tuple[str, tuple[Any, ...]]] = []
        for i in range(len(self.loops)):
            found.append((f'n{i}: "int"', ("size", i)))
        for o in self._operands():
            found.append((f'{o.name}: "{type_name(o.dtype)}*"', ("operand", o)))
            for i in range(len(self.loops)):
                if self._is_parameter(o, i):
                    found.append((f'{o.name}_{i}: "int"', ("stride", o, i)))
        for s in self.scalars.values():
            found.append((f'{s.name}: "{type_name(s.dtype)}"', ("scalar", s)))
        return found

    def _is_parameter(self, o: Operand, loop: int) -> bool:
        """Whether the operand's stride along a loop is a parameter of the kernel.

        Outer strides are, even where they are 0, so that fewer kernels serve more shapes. A row's
        value has none along the row, the total of a column none along the column.
        """
        reduced = self.loops[loop].part == "reduced"
        if self._is_row_operand(o):
            return self.loops[loop].part == "outer"
        if loop == len(self.loops) - 1:
            return self.stride(o, loop) not in (0, 1)
        return not (self.region.form == "columns" and reduced and self._is_total(o))

    def _is_row_operand(self, o: Operand) -> bool:
        return self.region.form == "rows" and not any(o.strides[self.region.first :])

    def _is_total(self, o: Operand) -> bool:
        return any(self.writes.get(id(n)) is o for n in self._reductions())

    def _element(self, o: Operand) -> str:
        """The expression of an operand's element, `x0[i0 * x0_0 + i1]`."""
        last = len(self.loops) - 1
        terms = []
        for i in range(len(self.loops)):
            if self._is_parameter(o, i):
                terms.append(f"i{i} * {o.name}_{i}")
            elif i == last and self.stride(o, i) == 1 and not self._is_row_operand(o):
                terms.append(f"i{i}")
        return f"{o.name}[{' + '.join(terms) or '0'}]"

    # -- statements

    def _fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _load(self, node: Node, values: Values, lines: Lines) -> None:
        """Load what the node reads and is not loaded yet."""
        for arg in node.args:
            if id(plain_source(arg)) in self.members or _is_number(arg):
                continue
            place = self._place(node, arg)
            if place in values:
                continue
            if place in self.scalars:
                values[place] = self.scalars[place].name
                continue
            values[place] = self._fresh("u")
            lines.append(f"{values[place]} = {self._element(self.reads[place])}")

    def _argument(self, node: Node, arg: Node, dtype: np.dtype[Any], values: Values) -> str:
        """The expression of an argument, cast to the type that the operation works in."""
        source = plain_source(arg)
        if id(source) in self.members:
            text, have = values[id(source)], source.spec.dtype
        elif _is_number(arg):
            return literal(arg, dtype) or self.scalars[id(arg), dtype.str].name
        else:
            text, have = values[self._place(node, arg)], arg.spec.dtype
        return text if have == dtype else cast(text, dtype)

    def _compute(self, node: Node, values: Values, lines: Lines) -> None:
        """Compute an elementwise node."""
        self._load(node, values, lines)
        types = loop_types(node)
        args = [self._argument(node, a, t, values) for a, t in zip(node.args, types, strict=True)]
        name = values[id(node)] = self._fresh("v")
        lines.append(f"{name} = {expression(node, args, types)}")

    def _summand(self, node: Node, values: Values, lines: Lines) -> str:
        """What a reduction takes in."""
        self._load(node, values, lines)
        return self._argument(node, node.args[0], node.spec.dtype, values)

    def _store(self, node: Node, values: Values, lines: Lines) -> None:
        """Write a value if it is wanted."""
        if id(node) in self.writes:
            lines.append(f"{self._element(self.writes[id(node)])} = {values[id(node)]}")

    def _reductions(self) -> list[Node]:
        return [n for n in self.region.nodes if n.kind == "reduce"]

    def _nest(self, parts: Iterable[str], body: Lines) -> Lines:
        """The body inside the loops of these parts."""
        loops = [i for part in parts for i, loop in enumerate(self.loops) if loop.part == part]
        for i in reversed(loops):
            body = [f"for i{i} in range(n{i}):", *_indented(body)]
        return body

    # -- the four forms

    def _map(self) -> Lines:
        return self._nest(["outer"], self._pointwise({}))

    def _pointwise(self, values: Values) -> Lines:
        lines: Lines = []
        nodes = [n for n in self.region.nodes if n.kind == "elementwise"]
        for node in nodes:
            self._compute(node, values, lines)
        for node in nodes:  # last: until then a buffer may be read under another name
            self._store(node, values, lines)
        return lines

    def _columns(self) -> Lines:
        values: Values = {}
        body = self._pointwise(values)
        begin = []
        for node in self._reductions():
            total = self._element(self.writes[id(node)])
            value = self._summand(node, values, body)
            body.append(f"{total} = {accumulate(node, total, value, in_memory=True)}")
            begin.append(f"{total} = {start(node)}")
        inside = [*self._nest(["inner"], begin), *self._nest(["reduced", "inner"], body)]
        return self._nest(["outer"], inside)

    def _total(self) -> Lines:
        values: Values = {}
        body = self._pointwise(values)
        before: Lines = []
        after: Lines = []
        for node in self._reductions():
            total = f"a{len(before)}"
            value = self._summand(node, values, body)
            before.append(f"{total} = {start(node)}")
            body.append(f"{total} = {accumulate(node, total, value)}")
            after.append(f"{self.writes[id(node)].name}[0] = {total}")
        return [*before, *self._nest(["reduced"], body), *after]

    def _rows(self) -> Lines:
        row_values: Values = {}
        lines: Lines = []
        for level in range(max(self.level.values(), default=0) + 1):
            for node in self.region.nodes:  # what is known of the row so far
                if (
                    self.level[id(node)] == level
                    and self.region.is_row_value(node)
                    and node.kind == "elementwise"
                ):
                    self._compute(node, row_values, lines)
                    self._store(node, row_values, lines)
            before, body, after = self._stage(level, row_values)
            if body:
                lines += [*before, *self._nest(["reduced"], body), *after]
        return self._nest(["outer"], lines)

    def _stage(self, level: int, row_values: Values) -> tuple[Lines, Lines, Lines]:
        """One pass over the row: the elements known by now, and the reductions over them.

        Returns what stands before the loop, in it and after it.
        """
        values = dict(row_values)
        before: Lines = []
        body: Lines = []
        after: Lines = []
        for node in self.region.nodes:
            if self.level[id(node)] == level and not self.region.is_row_value(node):
                self._reach(node, level, values, body)
                self._store(node, values, body)
        for node in self._reductions():
            if self.level[id(node)] != level + 1:
                continue
            self._reach(plain_source(node.args[0]), level, values, body)
            value = self._summand(node, values, body)
            total = row_values[id(node)] = f"a{level}_{len(before)}"
            before.append(f"{total} = {start(node)}")
            body.append(f"{total} = {accumulate(node, total, value)}")
            self._store(node, row_values, after)
        return before, body, after

    def _reach(self, node: Node, level: int, values: Values, lines: Lines) -> None:
        """Have a member's element at hand in this stage: computed, computed again or read back."""
        if id(node) not in self.members or id(node) in values:
            return
        if self.level[id(node)] < level and id(node) in self.writes and not self._is_cheap(node):
            values[id(node)] = self._fresh("v")
            lines.append(f"{values[id(node)]} = {self._element(self.writes[id(node)])}")
            return
        for arg in node.args:
            self._reach(plain_source(arg), level, values, lines)
        self._compute(node, values, lines)


def _is_number(arg: Node) -> bool:
    """Whether an argument is a Python number or a constant of one element."""
    return arg.spec.weak or (arg.is_constant and arg.spec.size == 1)


def _indented(lines: Sequence[str]) -> Lines:
    return [INDENT + line for line in lines]
