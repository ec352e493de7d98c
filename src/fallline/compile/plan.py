"""A plan: the memory of a compiled function, the program that walks over it, and a way to read both.

    base 0  control block        base 2  constants      base 4 ...  inputs, then outputs
    base 1  workspace            base 3  scalars (the prologue's results)

Buffers share the workspace by lifetime. A `Frame` is one set of memory with one walk; a plan keeps the frames that are not in use, so concurrent
calls have separate workspaces, and a frame can be bound to arrays once and then run for many steps in one call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.compile import store, texts
from fallline.compile.lower import Launch, Lowered, Place, Unit, lower
from fallline.compile.prologue import Prologue
from fallline.compile.simplify import simplify
from fallline.compile.threads import get_threads
from fallline.compile.walker import Program, Walk
from fallline.core.graph import Graph, Node
from fallline.core.spec import Spec, spec_of

ALIGNMENT = 64
CONTROL, WORKSPACE, CONSTANTS, SCALARS, FIRST_INPUT = range(5)
SCALAR_BYTES = 8


class Plan:
    """A compiled graph for one set of shapes and types.

    plan.run(*inputs)             fresh outputs
    plan.run(*inputs, out=[...])  into given arrays; nothing is allocated
    plan.explain()                kernels, buffers, bytes and flops as text
    """

    def __init__(
        self, graph: Graph, donate: dict[int, int] | None = None, guard: int | None = None
    ) -> None:
        """`donate` maps outputs to the inputs whose memory they take over; before any of that is overwritten, the output
        `guard` must be finite, or the walk stops with the status NOT_FINITE."""
        self.graph = simplify(graph)
        self.donate = donate or {}
        self.lowered = lower(self.graph, self.donate)
        if guard is not None:
            self._insert_guard(self.lowered, guard)
        self.inputs = [n for n in self.graph.inputs if not n.spec.weak]
        self.numbers = [n for n in self.graph.inputs if n.spec.weak]
        self._lay_out(self.lowered)
        self._frames: list[Frame] = []

    def _insert_guard(self, lowered: Lowered, output: int) -> None:
        root = lowered.outputs[output]
        if root is None:
            return
        made = max(i for i, unit in enumerate(lowered.units) if root in unit.writes)
        launch = Launch(texts.guard(root.spec.dtype), [[Place("status"), Place(root)]], "guard")
        lowered.launches.insert(made + 1, launch)
        lowered.units.insert(made + 1, Unit([], reads={root}))

    # -- memory

    def _lay_out(self, lowered: Lowered) -> None:
        self.scalars = [(n, d) for n, d in lowered.scalars if not n.is_constant]
        weak = list({id(n): n for n, _ in self.scalars}.values())
        weak += [
            o for o in self.graph.outputs if o.spec.weak and not o.is_constant and o not in weak
        ]
        self.prologue = Prologue(self.numbers, weak)
        self._position = {id(n): i for i, n in enumerate(weak)}
        self.fresh = [
            o for o in dict.fromkeys(lowered.outputs) if o is not None and o not in self.inputs
        ]
        self.base_of: dict[Any, tuple[int, int]] = {"status": (CONTROL, 0)}
        self._place_constants(lowered)
        for i, (node, dtype) in enumerate(self.scalars):
            self.base_of[id(node), dtype.str] = (SCALARS, i * SCALAR_BYTES)
        for i, node in enumerate(self.inputs):
            self.base_of[node] = (FIRST_INPUT + i, 0)
        for i, node in enumerate(self.fresh):
            donor = self._donor(node)
            self.base_of[node] = (
                (FIRST_INPUT + len(self.inputs) + i, 0) if donor is None else self.base_of[donor]
            )
        self._place_workspace(lowered)
        for part, (whole, offset) in lowered.inside.items():
            base, start = self.base_of[whole]
            self.base_of[part] = (base, start + offset)

    def _donor(self, output: Node) -> Node | None:
        for o, i in self.donate.items():
            if self.lowered.outputs[o] is output:
                return self.graph.inputs[i]
        return None

    def _place_constants(self, lowered: Lowered) -> None:
        arrays: list[tuple[Any, np.ndarray[Any, Any]]] = []
        for root in lowered.buffers:
            if root.is_constant:
                arrays.append((root, np.ascontiguousarray(root.value)))
        for node, dtype in lowered.scalars:
            if node.is_constant:
                arrays.append(((id(node), dtype.str), np.asarray(node.value).astype(dtype)))
        offset = 0
        for key, array in arrays:
            self.base_of[key] = (CONSTANTS, offset)
            offset = _aligned(offset + array.nbytes)
        self.constants = _memory(offset)
        for key, array in arrays:
            start = self.base_of[key][1]
            self.constants[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)

    def _place_workspace(self, lowered: Lowered) -> None:
        """First fit by size: a buffer may lie where another lies whose life does not meet its own."""
        life: dict[Node, list[int]] = {}
        whole = {part: owner for part, (owner, _) in lowered.inside.items()}
        for i, launch in enumerate(lowered.launches):
            for row in launch.rows[:1]:
                for item in row:
                    if isinstance(item, Place) and isinstance(item.key, Node):
                        root = whole.get(item.key, item.key)
                        if root not in self.base_of:
                            life.setdefault(root, []).append(i)
        self.lifetimes = {root: (min(at), max(at)) for root, at in life.items()}
        placed: list[tuple[int, int, int, int]] = []  # first, last, start, end
        for root in sorted(self.lifetimes, key=lambda r: -r.spec.nbytes):
            first, last = self.lifetimes[root]
            start = 0
            for other in sorted(
                (p for p in placed if p[0] <= last and first <= p[1]), key=lambda p: p[2]
            ):
                if start + root.spec.nbytes <= other[2]:
                    break
                start = max(start, other[3])
            self.base_of[root] = (WORKSPACE, start)
            placed.append((first, last, start, _aligned(start + root.spec.nbytes)))
        self.workspace_bytes = max((p[3] for p in placed), default=0)

    # -- program

    def program(self) -> np.ndarray[Any, Any]:
        """The program that walks this plan once: kernels loaded, places turned into bases and offsets."""
        addresses = store.load_many([launch.text for launch in self.lowered.launches])
        program = Program()
        for launch, address in zip(self.lowered.launches, addresses, strict=True):
            program.phase(len(launch.rows)).call(address, [self._row(row) for row in launch.rows])
        return program.array()

    def _row(self, row: list[int | Place]) -> list[int]:
        found: list[int] = []
        for item in row:
            if isinstance(item, Place):
                base, offset = self.base_of[item.key]
                found += [base, offset + item.offset]
            else:
                found.append(item)
        return found

    @property
    def n_bases(self) -> int:
        return FIRST_INPUT + len(self.inputs) + len(self.fresh)

    # -- running

    def frame(self, rows: int = 1) -> Frame:
        """Memory and a walk of one's own; `rows` steps' worth of scalars."""
        return Frame(self, rows)

    def run(self, *values: Any, out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs for these inputs: arrays and numbers in the order of the graph's inputs."""
        try:
            frame = self._frames.pop()  # one operation: no two callers get the same
        except IndexError:
            frame = Frame(self)
        try:
            return frame(values, out)
        finally:
            self._frames.append(frame)

    def output_specs(self) -> list[Spec]:
        return [o.spec for o in self.graph.outputs]

    def explain(self) -> str:
        """What runs, in order: each kernel with its jobs, bytes and flops and, once, its source; then the buffers."""
        from fallline.compile.explain import explain

        return explain(self)


class Frame:
    """One set of memory for a plan, and the walk over it."""

    def __init__(self, plan: Plan, rows: int = 1) -> None:
        self.plan = plan
        self.workspace = _memory(plan.workspace_bytes)
        self.row_bytes = SCALAR_BYTES * len(plan.scalars)
        self.scalars = _memory(self.row_bytes * rows)
        self.walk = Walk(
            plan.program(),
            plan.n_bases,
            calls_blas=any(launch.calls_blas for launch in plan.lowered.launches),
        )
        bases = self.walk.bases
        bases[WORKSPACE], bases[CONSTANTS], bases[SCALARS] = map(
            _address, (self.workspace, plan.constants, self.scalars)
        )
        self.walk.advance[SCALARS] = self.row_bytes if rows > 1 else 0
        self._write = _row_writer(
            self.scalars,
            [d for _, d in plan.scalars],
            [plan._position[id(n)] for n, _ in plan.scalars],
        )
        self.most_threads = max((len(launch.rows) for launch in plan.lowered.launches), default=1)
        self._kept: dict[int, Any] = {}
        self._arrays = [i for i, n in enumerate(plan.graph.inputs) if not n.spec.weak]
        self._weak = [i for i, n in enumerate(plan.graph.inputs) if n.spec.weak]
        self._results = [self._result(i) for i in range(len(plan.graph.outputs))]

    def bind(self, base: int, array: np.ndarray[Any, Any], advance: int = 0) -> None:
        """Let a base point at an array, and move on by so many bytes after each step."""
        self._kept[base] = array
        self.walk.bases[base] = _address(array)
        self.walk.advance[base] = advance

    def input_base(self, node: Node) -> int:
        return self.plan.base_of[node][0]

    def numbers(self, values: Sequence[Any], row: int = 0) -> tuple[Any, ...]:
        """Run the prologue and put its results where the kernels read them in this step."""
        found = self.plan.prologue(*values)
        self._write(row, found)
        return found

    def walk_steps(self, steps: int = 1) -> int:
        """Run so many steps, on as many threads as there are jobs for; the status."""
        return self.walk.run(steps, min(get_threads(), self.most_threads))

    def __call__(self, values: Sequence[Any], out: Sequence[Any] | None = None) -> list[Any]:
        bases = self.walk.bases
        kept = []
        for base, i in enumerate(self._arrays, FIRST_INPUT):
            array = values[i]
            if array.__class__ is not np.ndarray or not array.flags.carray:
                array = np.require(array, requirements=("C", "A"))
                kept.append(array)
            bases[base] = array.__array_interface__["data"][0]
        found = self.numbers([values[i] for i in self._weak]) if self.plan.prologue.outputs else ()
        results: list[Any] = [None] * len(self._results) if out is None else list(out)
        for i, (base, shape, dtype, source) in enumerate(self._results):
            if base is None:  # a number, a constant, or an input that was overwritten
                results[i] = (
                    self._filled(i, found, results[i]) if source is None else values[source]
                )
                continue
            y = results[i]
            if y is None:
                y = results[i] = np.empty(shape, dtype)
            elif y.shape != shape or y.dtype != dtype or not y.flags.carray:
                raise ValueError(
                    f"{self.plan.graph.name}: out[{i}] must be a contiguous {self.plan.graph.outputs[i].spec!r}; got {spec_of(y)!r}."
                )
            bases[base] = y.__array_interface__["data"][0]
        status = self.walk_steps()
        if status:
            raise_status(status, self.plan.graph.name)
        return results

    def _result(self, i: int) -> tuple[int | None, tuple[int, ...], np.dtype[Any], int | None]:
        """How output i comes about: base, shape, type, and the input that it took over."""
        plan = self.plan
        node, root = plan.graph.outputs[i], plan.lowered.outputs[i]
        if root is None:
            return None, node.spec.shape, node.spec.dtype, None
        donor = root if root in plan.inputs else plan._donor(root)
        if donor is not None:
            return None, node.spec.shape, node.spec.dtype, plan.graph.inputs.index(donor)
        return plan.base_of[root][0], node.spec.shape, node.spec.dtype, None

    def _filled(self, i: int, found: tuple[Any, ...], given: Any) -> Any:
        node = self.plan.graph.outputs[i]
        value = node.value if node.is_constant else found[self.plan._position[id(node)]]
        y = np.empty(node.spec.shape, node.spec.dtype) if given is None else given
        y[...] = value
        return y


def raise_status(status: int, name: str) -> None:
    """What a kernel reported."""
    if status == texts.OUT_OF_BOUNDS:
        raise IndexError(f"{name}: an index is out of bounds.")
    if status == texts.NOT_FINITE:
        raise FloatingPointError(f"{name}: the guarded result is not finite.")
    raise RuntimeError(f"{name}: stopped with status {status}.")


_STRUCT = {"f4": "f4x", "f8": "d", "i8": "q", "i4": "i4x", "u8": "Q", "u4": "I4x", "b1": "?7x"}


def _row_writer(
    memory: np.ndarray[Any, Any], dtypes: Sequence[np.dtype[Any]], places: Sequence[int]
) -> Callable[[int, tuple[Any, ...]], None]:
    """A function that casts the prologue's results to their types and stores them as row `i`."""
    fields = (
        np.dtype(
            {
                "names": [str(i) for i in range(len(dtypes))],
                "formats": list(dtypes),
                "offsets": [SCALAR_BYTES * i for i in range(len(dtypes))],
                "itemsize": SCALAR_BYTES * len(dtypes),
            }
        )
        if dtypes
        else None
    )
    table = memory.view(fields) if fields is not None else None
    codes = [_STRUCT.get(d.str[1:]) for d in dtypes]
    packer = struct.Struct("=" + "".join(c or "" for c in codes)) if all(codes) else None

    def write(row: int, found: tuple[Any, ...]) -> None:
        values = [found[p] for p in places]
        if packer is not None:
            try:
                return packer.pack_into(memory, row * packer.size, *values)
            except (OverflowError, struct.error):  # too large for its type: NumPy makes it infinite
                pass
        with np.errstate(all="ignore"):
            for i, (value, dtype) in enumerate(zip(values, dtypes, strict=True)):
                table[row][str(i)] = np.asarray(value).astype(dtype)  # type: ignore[index]

    return write if dtypes else lambda row, found: None


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _memory(nbytes: int) -> np.ndarray[Any, Any]:
    """Bytes that begin at a multiple of the alignment."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -_address(raw) % ALIGNMENT
    return raw[start : start + nbytes]


def _address(array: np.ndarray[Any, Any]) -> int:
    return array.__array_interface__["data"][0]
