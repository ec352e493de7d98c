"""From a region to the text of its kernel.

A region becomes nested loops: over rows (or over everything), inside them one loop for each stage. A stage ends where a reduction must be complete
before the rest can go on; values that a later stage needs are computed again if that is cheap, else written and read back. Dimensions and strides are
arguments, so one kernel serves all shapes; only whether the innermost stride is 1, 0 or another is written into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallline.compile.fuse import Region, plain_source
from fallline.compile.layout import Layout
from fallline.core.graph import Node

CHEAP = frozenset(
    "add subtract multiply negative equal not_equal less less_equal greater greater_equal where maximum minimum absolute astype logical_and logical_or logical_not square relu".split()
)
INDENT = "    "


@dataclass(eq=False)
class Operand:
    """A buffer as a kernel sees it: its layout in the loops, and whether it is written."""

    layout: Layout
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    written: bool = False
    name: str = ""


@dataclass(eq=False)
class Scalar:
    """A number that a kernel loads once: a constant, one that the prologue computes, or an array's single element (`layout`)."""

    node: Node
    dtype: np.dtype[Any]
    layout: Layout | None = None
    name: str = ""


@dataclass
class Loop:
    """One dimension of the loops of a region."""

    size: int
    part: str  # "outer", "reduced" or "inner"


@dataclass
class Written:
    """A kernel and what its parameters stand for, in order: ("size", loop), ("stride", operand, loop), ("operand", operand) or ("scalar", scalar)."""

    text: str
    parameters: list[tuple[Any, ...]]
    loops: list[Loop]
    operands: list[Operand]
    scalars: list[Scalar] = field(default_factory=list)


def dtype_name(dtype: np.dtype[Any]) -> str:
    return "bool" if dtype.kind == "b" else dtype.name


def loop_types(node: Node) -> list[np.dtype[Any]]:
    """The types to which an operation casts its arguments: those of NumPy's own inner loop."""
    out = node.spec.dtype
    function = node.op.eval  # type: ignore[union-attr]
    if isinstance(function, np.ufunc):
        kinds = [
            {"i": int, "f": float}.get(a.spec.dtype.kind, a.spec.dtype)
            if a.spec.weak
            else a.spec.dtype
            for a in node.args
        ]
        return list(function.resolve_dtypes((*kinds, None))[: len(node.args)])
    return [
        a.spec.dtype
        if (a.spec.dtype.kind == "b") != (out.kind == "b") or node.op.name == "astype"
        else out
        for a in node.args
    ]  # type: ignore[union-attr]


class RegionWriter:
    """Writes the kernel of a region, given the layouts of what it reads and which of its values must be stored where."""

    def __init__(
        self,
        region: Region,
        layout_of: Callable[[Node], Layout],
        stored: dict[int, Layout],
        donors: dict[int, Node],
    ) -> None:
        self.region = region
        self.layout_of = layout_of
        self.stored = dict(stored)
        self.donors = donors
        self.members = {id(n) for n in region.nodes}
        self.level = self._levels()
        self.reads: dict[Any, Operand] = {}
        self.writes: dict[int, Operand] = {}
        self.scalars: dict[Any, Scalar] = {}
        self.extra: list[Node] = []  # values kept from one stage to a later one
        self._count = -1

    # -- stages

    def _levels(self) -> dict[int, int]:
        level: dict[int, int] = {}
        for node in self.region.nodes:
            found = max([level.get(id(plain_source(a)), 0) for a in node.args], default=0)
            level[id(node)] = found + (node.op.kind == "reduce" and self.region.form == "rows")  # type: ignore[union-attr]
        return level

    # -- the whole

    def write(self) -> Written:
        region = self.region
        kept = self._kept_between_stages()
        for node in kept:
            if id(node) not in self.stored:
                self.stored[id(node)] = self.layout_of(node)
                self.extra.append(node)
        self._collect()
        self.loops, self.order = self._loops()
        self._name()
        body = {
            "map": self._map,
            "rows": self._rows,
            "columns": self._columns,
            "total": self._total,
        }[region.form]()
        parameters: list[tuple[Any, ...]] = [("size", i) for i in range(len(self.loops))]
        heading = [f'n{i}: "int"' for i in range(len(self.loops))]
        operands = self._operands()
        for o in operands:
            heading.append(f'{o.name}: "{dtype_name(o.dtype)}*"')
            parameters.append(("operand", o))
            for i in self._explicit_strides(o):
                heading.append(f'{o.name}_{i}: "int"')
                parameters.append(("stride", o, i))
        for s in self.scalars.values():
            heading.append(f'{s.name}: "{dtype_name(s.dtype)}"')
            parameters.append(("scalar", s))
        text = "\n".join(
            [
                f"# name: {self._title()}",
                "from fallline.compile.library.mathematics import *",
                "",
                "",
                f"def kernel({', '.join(heading)}):",
                *[INDENT + line for line in body],
                "",
            ]
        )
        return Written(text, parameters, self.loops, operands, list(self.scalars.values()))

    def _title(self) -> str:
        names = [n.op.name for n in self.region.nodes]  # type: ignore[union-attr]
        shown = names if len(names) <= 6 else [*names[:3], "etc", *names[-2:]]
        return "_".join(shown)

    # -- operands

    def _operands(self) -> list[Operand]:
        return list(dict.fromkeys([*self.reads.values(), *self.writes.values()]))

    def _is_single(self, o: Operand) -> bool:
        return all(s == 0 for s in o.strides)

    def _collect(self) -> None:
        """Every array that is read from outside, once per layout; every value that is stored."""
        for node in self.region.nodes:
            types = loop_types(node) if node.op.kind == "elementwise" else [node.args[0].spec.dtype]  # type: ignore[union-attr]
            for arg, dtype in zip(node.args, types, strict=True):
                if id(plain_source(arg)) not in self.members:
                    self._read(node, arg, dtype)
        for node in self.region.nodes:
            if id(node) in self.stored:
                self._written(node)

    def _strides(self, node: Node, arg: Node, layout: Layout) -> tuple[int, ...]:
        """Strides over the axes of the space of an argument of `node`."""
        space = self.region.space
        if node.op.kind == "reduce" or not self.region.is_row_value(node):  # type: ignore[union-attr]
            return layout.broadcast(space)
        strides = layout.broadcast(node.spec.shape)[: self.region.first]
        return (*strides, *(0,) * (len(space) - self.region.first))

    def _read(self, node: Node, arg: Node, dtype: np.dtype[Any]) -> None:
        if arg.spec.weak or (arg.is_constant and arg.spec.size == 1):
            key = ("scalar", id(arg), dtype.str)
            if _literal(arg, dtype) is None and key not in self.scalars:
                self.scalars[key] = Scalar(arg, dtype)
            return
        layout = self.layout_of(arg)
        strides = self._strides(node, arg, layout)
        key = (id(layout.root), layout.offset, strides)
        if key not in self.reads:
            self.reads[key] = Operand(layout, strides, arg.spec.dtype)

    def _written(self, node: Node) -> None:
        layout = self.stored[id(node)]
        r = self.region
        rank = len(r.space)
        if node.op.kind == "reduce":  # type: ignore[union-attr]
            own = layout.strides
            strides = (*own[: r.first], *(0,) * (r.last - r.first), *own[r.first :])
        elif r.is_row_value(node):
            strides = (*layout.strides[: r.first], *(0,) * (rank - r.first))
        else:
            strides = layout.strides
        strides = tuple(0 if n == 1 else s for n, s in zip(r.space, strides, strict=True))
        donor = self.donors.get(id(node))
        same = self.reads.get((id(donor), 0, strides))
        if same is not None and not self._is_single(same):  # written where the donor is read
            same.written = True
            self.writes[id(node)] = same
        else:
            self.writes[id(node)] = Operand(layout, strides, node.spec.dtype, written=True)

    # -- loops

    def _loops(self) -> tuple[list[Loop], list[list[int]]]:
        """The loops, outermost first: axes of the space, neighbours joined where every operand allows it."""
        r = self.region
        every = [*self.reads.values(), *self.writes.values()]
        parts = {
            "map": [("outer", range(len(r.space)))],
            "total": [("reduced", range(len(r.space)))],
        }.get(r.form) or [
            ("outer", range(r.first)),
            ("reduced", range(r.first, r.last)),
            ("inner", range(r.last, len(r.space))),
        ]
        loops: list[Loop] = []
        order: list[list[int]] = []
        for part, axes in parts:
            start = len(loops)
            for d in axes:
                if r.space[d] == 1:
                    continue
                if len(loops) > start and all(
                    o.strides[order[-1][-1]] == o.strides[d] * r.space[d] for o in every
                ):
                    loops[-1].size *= r.space[d]
                    order[-1].append(d)
                else:
                    loops.append(Loop(r.space[d], part))
                    order.append([d])
            if len(loops) == start and (
                part == "reduced" or (part == "inner" and r.form == "columns") or r.form == "map"
            ):
                loops.append(Loop(1, part))
                order.append([])
        return loops, order

    def stride(self, o: Operand, loop: int) -> int:
        """The operand's stride along a loop, in elements."""
        axes = self.order[loop]
        return o.strides[axes[-1]] if axes else 0

    def _innermost(self, o: Operand) -> int:
        """The loop along which the operand is read element by element."""
        if self.region.form == "rows" and all(
            o.strides[d] == 0 for d in range(self.region.first, len(self.region.space))
        ):
            return -1  # one value per row
        return len(self.loops) - 1

    def _explicit_strides(self, o: Operand) -> list[int]:
        inner = self._innermost(o)
        found = []
        for i in range(len(self.loops)):
            stride = self.stride(o, i)
            if i == inner:
                if stride not in (0, 1):
                    found.append(i)
            elif self._varies(o, i):
                found.append(i)
        return found

    def _varies(self, o: Operand, loop: int) -> bool:
        """Outer strides are arguments even where they are 0, so that fewer kernels serve more shapes; a row value has none inside."""
        if (
            o.written
            and self.region.form == "columns"
            and self.loops[loop].part == "reduced"
            and self._is_accumulator(o)
        ):
            return False
        if self._innermost(o) == -1:
            return self.loops[loop].part == "outer"
        return True

    def _is_accumulator(self, o: Operand) -> bool:
        return any(
            w is o and n.op.kind == "reduce"
            for n in self.region.nodes
            if (w := self.writes.get(id(n))) is not None
        )  # type: ignore[union-attr]

    def _element(self, o: Operand) -> str:
        """The expression of an operand's element, `x0[i0 * x0_0 + i1]`."""
        explicit = set(self._explicit_strides(o))
        terms = []
        for i in range(len(self.loops)):
            if i in explicit:
                terms.append(f"i{i} * {o.name}_{i}")
            elif i == self._innermost(o) and self.stride(o, i) == 1:
                terms.append(f"i{i}")
        return f"{o.name}[{' + '.join(terms) or '0'}]"

    # -- names

    def _name(self) -> None:
        for key, o in list(self.reads.items()):
            if self._is_single(o):  # one number in memory: loaded before the loops
                del self.reads[key]
                self.scalars[key] = Scalar(o.layout.root, o.dtype, o.layout)
        for i, o in enumerate(self._operands()):
            o.name = f"{'y' if o.written else 'x'}{i}"
        for i, s in enumerate(self.scalars.values()):
            s.name = f"s{i}"

    def _fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    # -- expressions

    def _argument(self, node: Node, arg: Node, dtype: np.dtype[Any], values: dict[Any, str]) -> str:
        """The expression of an argument, cast to the type that the operation works in."""
        source = plain_source(arg)
        if id(source) in self.members:
            text, have = values[id(source)], source.spec.dtype
        else:
            literal = _literal(arg, dtype)
            if literal is not None:
                return literal
            key = ("scalar", id(arg), dtype.str)
            if key in self.scalars:
                return self.scalars[key].name
            layout = self.layout_of(arg)
            key = (id(layout.root), layout.offset, self._strides(node, arg, layout))
            text, have = values[key], arg.spec.dtype
        if have == dtype:
            return text
        return f"{'bool_' if dtype.kind == 'b' else dtype.name}({text})"

    def _loaded(self, node: Node, values: dict[Any, str], lines: list[str]) -> None:
        """Load what the node reads and is not loaded yet."""
        for arg in node.args:
            if (
                id(plain_source(arg)) in self.members
                or arg.spec.weak
                or (arg.is_constant and arg.spec.size == 1)
            ):
                continue
            layout = self.layout_of(arg)
            key = (id(layout.root), layout.offset, self._strides(node, arg, layout))
            if key in values:
                continue
            if key in self.scalars:
                values[key] = self.scalars[key].name
                continue
            values[key] = self._fresh("u")
            lines.append(f"{values[key]} = {self._element(self.reads[key])}")

    def _computed(self, node: Node, values: dict[Any, str], lines: list[str]) -> None:
        """Compute an elementwise node and store it if it is wanted."""
        self._loaded(node, values, lines)
        types = loop_types(node)
        args = [self._argument(node, a, t, values) for a, t in zip(node.args, types, strict=True)]
        name = values[id(node)] = self._fresh("v")
        lines.append(f"{name} = {_expression(node, args, types)}")

    def _store(self, node: Node, values: dict[Any, str], lines: list[str]) -> None:
        if id(node) in self.writes:
            lines.append(f"{self._element(self.writes[id(node)])} = {values[id(node)]}")

    # -- the four forms

    def _nest(self, loops: Sequence[int], body: list[str]) -> list[str]:
        for i in reversed(loops):
            body = [f"for i{i} in range(n{i}):", *[INDENT + line for line in body]]
        return body

    def _map(self) -> list[str]:
        return self._nest(range(len(self.loops)), self._pointwise({}))

    def _pointwise(self, values: dict[Any, str]) -> list[str]:
        lines: list[str] = []
        for node in self.region.nodes:
            if node.op.kind == "elementwise":  # type: ignore[union-attr]
                self._computed(node, values, lines)
        for node in (
            self.region.nodes
        ):  # written last, where a buffer may be read under another name before
            if node.op.kind == "elementwise":  # type: ignore[union-attr]
                self._store(node, values, lines)
        return lines

    def _columns(self) -> list[str]:
        values: dict[Any, str] = {}
        body = self._pointwise(values)
        start = []
        for node in self.region.nodes:
            if node.op.kind != "reduce":  # type: ignore[union-attr]
                continue
            element = self._element(self.writes[id(node)])
            self._loaded(node, values, body)
            value = self._argument(node, node.args[0], node.spec.dtype, values)
            body.append(f"{element} = {_accumulate(node, element, value, in_memory=True)}")
            start.append(f"{element} = {_start(node)}")
        outer = [i for i, l in enumerate(self.loops) if l.part == "outer"]
        reduced = [i for i, l in enumerate(self.loops) if l.part == "reduced"]
        inner = [i for i, l in enumerate(self.loops) if l.part == "inner"]
        return self._nest(outer, [*self._nest(inner, start), *self._nest([*reduced, *inner], body)])

    def _total(self) -> list[str]:
        values: dict[Any, str] = {}
        body = self._pointwise(values)
        before, after = [], []
        for node in self.region.nodes:
            if node.op.kind == "reduce":  # type: ignore[union-attr]
                name = f"a{len(before)}"
                self._loaded(node, values, body)
                value = self._argument(node, node.args[0], node.spec.dtype, values)
                before.append(f"{name} = {_start(node)}")
                body.append(f"{name} = {_accumulate(node, name, value)}")
                after.append(f"{self.writes[id(node)].name}[0] = {name}")
        return [*before, *self._nest(range(len(self.loops)), body), *after]

    def _rows(self) -> list[str]:
        r = self.region
        outer = [i for i, l in enumerate(self.loops) if l.part == "outer"]
        inner = [i for i, l in enumerate(self.loops) if l.part == "reduced"]
        row_values: dict[Any, str] = {}
        lines: list[str] = []
        for level in range(max(self.level.values(), default=0) + 1):
            for node in r.nodes:  # what is known of the row so far
                if (
                    self.level[id(node)] == level
                    and r.is_row_value(node)
                    and node.op.kind == "elementwise"
                ):  # type: ignore[union-attr]
                    self._computed(node, row_values, lines)
                    self._store(node, row_values, lines)
            before, body, after = self._stage(level, row_values)
            if body:
                lines += [*before, *self._nest(inner, body), *after]
        return self._nest(outer, lines)

    def _stage(
        self, level: int, row_values: dict[Any, str]
    ) -> tuple[list[str], list[str], list[str]]:
        """One pass over the row: the elements that are known by now, and the reductions over them."""
        r = self.region
        values = dict(row_values)
        before: list[str] = []
        body: list[str] = []
        after: list[str] = []
        for node in r.nodes:
            if r.is_row_value(node) or self.level[id(node)] != level:
                continue
            self._reach(node, level, values, body)
            self._store(node, values, body)
        for node in r.nodes:
            if node.op.kind == "reduce" and self.level[id(node)] == level + 1:  # type: ignore[union-attr]
                self._reach(plain_source(node.args[0]), level, values, body)
                self._loaded(node, values, body)
                name = row_values[id(node)] = f"a{level}_{len(before)}"
                value = self._argument(node, node.args[0], node.spec.dtype, values)
                before.append(f"{name} = {_start(node)}")
                body.append(f"{name} = {_accumulate(node, name, value)}")
                if id(node) in self.writes:
                    after.append(f"{self._element(self.writes[id(node)])} = {name}")
        return before, body, after

    def _reach(self, node: Node, level: int, values: dict[Any, str], lines: list[str]) -> None:
        """Have the element of a member at hand in this stage: computed here, computed again, or read back."""
        if id(node) not in self.members or id(node) in values:
            return
        if self.level[id(node)] < level and id(node) in self.writes and not self._is_cheap(node):
            values[id(node)] = self._fresh("v")
            lines.append(f"{values[id(node)]} = {self._element(self.writes[id(node)])}")
            return
        for arg in node.args:
            self._reach(plain_source(arg), level, values, lines)
        self._computed(node, values, lines)

    def _is_cheap(self, node: Node) -> bool:
        """Whether computing an element again costs less than reading it back."""
        if node.op.name not in CHEAP:  # type: ignore[union-attr]
            return False
        sources = [plain_source(a) for a in node.args]
        return all(
            id(s) not in self.members or self.region.is_row_value(s) or self._is_cheap(s)
            for s in sources
        )

    def _kept_between_stages(self) -> list[Node]:
        r = self.region
        if r.form != "rows":
            return []
        kept: dict[int, Node] = {}

        def visit(node: Node, level: int) -> None:
            """`node` is used in stage `level`."""
            if id(node) not in self.members or r.is_row_value(node):
                return
            if self.level[id(node)] == level:
                return
            if self._is_cheap(node):
                for a in node.args:
                    visit(plain_source(a), level)
            else:
                kept[id(node)] = node

        for node in r.nodes:
            level = self.level[id(node)] - (node.op.kind == "reduce")  # type: ignore[union-attr]
            if not r.is_row_value(node) or node.op.kind == "reduce":  # type: ignore[union-attr]
                for a in node.args:
                    visit(plain_source(a), level)
        return list(kept.values())


def _expression(node: Node, args: list[str], types: list[np.dtype[Any]]) -> str:
    """The op's own expression, in the result's type."""
    op, out = node.op, node.spec.dtype
    if types and all(t.kind == "b" for t in types) and op.name in _BOOLEAN:  # type: ignore[union-attr]
        return _BOOLEAN[op.name].format(*args)  # type: ignore[union-attr]
    text = op.kernel.format(*args)  # type: ignore[union-attr]
    if op.name == "astype":  # type: ignore[union-attr]
        return f"{'bool_' if out.kind == 'b' else out.name}({text})"
    if out.kind in "iu" or (
        out.kind == "f"
        and "(" not in text
        and not text.strip("-+").isidentifier()
        and any(t != out for t in types)
    ):
        return f"{out.name}({text})"
    return text


_BOOLEAN = {
    "add": "{0} | {1}",
    "multiply": "{0} & {1}",
    "maximum": "{0} | {1}",
    "minimum": "{0} & {1}",
    "logical_not": "not {0}",
    "invert": "not {0}",
}

SMALL_INTEGERS = range(-16, 17)


def _literal(node: Node, dtype: np.dtype[Any]) -> str | None:
    """Constants that deserve to stand in the text: small integers, halves, infinities. Others are arguments, so that a kernel is not bound to them."""
    if not node.is_constant or np.ndim(node.value) != 0:
        return None
    value = np.asarray(node.value).item()
    if dtype.kind == "b":
        return str(bool(value))
    if dtype.kind in "iu":
        return f"{dtype.name}({int(value)})" if value in SMALL_INTEGERS else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value * 2 in SMALL_INTEGERS and not (value == 0 and math.copysign(1, value) < 0):
        return f"{dtype.name}({float(value)!r})"
    return None


def _start(node: Node) -> str:
    """The value of a reduction over nothing."""
    dtype, kind = node.spec.dtype, node.op.kernel  # type: ignore[union-attr]
    if kind in ("all", "any"):
        return str(kind == "all")
    if kind == "add":
        return f"{dtype.name}(0)"
    if dtype.kind == "b":
        return str(kind == "min")
    if dtype.kind == "f":
        return f'{dtype.name}(float("{"-" if kind == "max" else ""}inf"))'
    limits = np.iinfo(dtype)
    return f"{dtype.name}({limits.min if kind == 'max' else limits.max})"


def _accumulate(node: Node, total: str, value: str, in_memory: bool = False) -> str:
    kind, dtype = node.op.kernel, node.spec.dtype  # type: ignore[union-attr]
    if kind in ("all", "any"):
        return f"{total} and {value}" if kind == "all" else f"{total} or {value}"
    if kind == "add":
        if dtype.kind == "f" and not in_memory:
            return f"reduce_add({total}, {value})"
        return f"{total} + {value}" if dtype.kind == "f" else f"{dtype.name}({total} + {value})"
    return (
        f"reduce_{kind}({total}, {value})"
        if dtype.kind == "f"
        else f"{'maximum' if kind == 'max' else 'minimum'}({total}, {value})"
    )
