"""A plan: the memory of a compiled function, the program that walks over it, and a way to read both.

    base 0  control block        base 2  constants      base 4 ...  inputs, then outputs
    base 1  workspace            base 3  scalars (the prologue's results)

Buffers share the workspace by lifetime. A `Frame` is one set of memory with one walk; a plan keeps the frames that are not in use, so concurrent
calls have separate workspaces, and a frame can be bound to arrays once and then run for many steps in one call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fallline.compile import store
from fallline.compile.lower import Launch, Lowered, Place, lower
from fallline.compile.prologue import Prologue
from fallline.compile.simplify import simplify
from fallline.compile.texts import OUT_OF_BOUNDS
from fallline.compile.walker import Program, Walk
from fallline.core.graph import Graph, Node
from fallline.core.spec import Spec

ALIGNMENT = 64
CONTROL, WORKSPACE, CONSTANTS, SCALARS, FIRST_INPUT = range(5)
SCALAR_BYTES = 8


class Plan:
    """A compiled graph for one set of shapes and types.

    plan.run(*inputs)             fresh outputs
    plan.run(*inputs, out=[...])  into given arrays; nothing is allocated
    plan.explain()                kernels, buffers, bytes and flops as text
    """

    def __init__(self, graph: Graph, donate: dict[int, int] | None = None) -> None:
        self.graph = simplify(graph)
        self.donate = donate or {}
        self.lowered = lower(self.graph, self.donate)
        self.inputs = [n for n in self.graph.inputs if not n.spec.weak]
        self.numbers = [n for n in self.graph.inputs if n.spec.weak]
        self._lay_out(self.lowered)
        self._frames: list[Frame] = []
        self._lock = threading.Lock()

    # -- memory

    def _lay_out(self, lowered: Lowered) -> None:
        self.scalars = [(n, d) for n, d in lowered.scalars if not n.is_constant]
        weak = list({id(n): n for n, _ in self.scalars}.values())
        weak += [o for o in self.graph.outputs if o.spec.weak and not o.is_constant and o not in weak]
        self.prologue = Prologue(self.numbers, weak)
        self._position = {id(n): i for i, n in enumerate(weak)}
        self.fresh = [o for o in dict.fromkeys(lowered.outputs) if o is not None and o not in self.inputs]
        self.base_of: dict[Any, tuple[int, int]] = {"status": (CONTROL, 0)}
        self._place_constants(lowered)
        for i, (node, dtype) in enumerate(self.scalars):
            self.base_of[id(node), dtype.str] = (SCALARS, i * SCALAR_BYTES)
        for i, node in enumerate([*self.inputs]):
            self.base_of[node] = (FIRST_INPUT + i, 0)
        donated = {self.graph.outputs[o]: self.graph.inputs[i] for o, i in self.donate.items()}
        del donated
        for i, node in enumerate(self.fresh):
            donor = self._donor(node)
            self.base_of[node] = (FIRST_INPUT + len(self.inputs) + i, 0) if donor is None else self.base_of[donor]
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
            for other in sorted((p for p in placed if p[0] <= last and first <= p[1]), key=lambda p: p[2]):
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

    def frame(self) -> Frame:
        """Memory and a walk of one's own."""
        return Frame(self)

    def run(self, *values: Any, out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs for these inputs: arrays and numbers in the order of the graph's inputs."""
        with self._lock:
            frame = self._frames.pop() if self._frames else None
        frame = frame or Frame(self)
        try:
            return frame(values, out)
        finally:
            with self._lock:
                self._frames.append(frame)

    def output_specs(self) -> list[Spec]:
        return [o.spec for o in self.graph.outputs]

    def explain(self) -> str:
        """What runs, in order: each kernel with its jobs, bytes and flops and, once, its source; then the buffers."""
        from fallline.compile.explain import explain

        return explain(self)


class Frame:
    """One set of memory for a plan, and the walk over it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.workspace = _memory(plan.workspace_bytes)
        self.scalars = _memory(SCALAR_BYTES * len(plan.scalars))
        self.walk = Walk(plan.program(), plan.n_bases, calls_blas=any(launch.calls_blas for launch in plan.lowered.launches))
        bases = self.walk.bases
        bases[WORKSPACE], bases[CONSTANTS], bases[SCALARS] = map(_address, (self.workspace, plan.constants, self.scalars))
        self._writers = [_scalar_writer(self.scalars, i, d) for i, (_, d) in enumerate(plan.scalars)]
        self._frontier = [plan._position[id(n)] for n, _ in plan.scalars]
        self._kept: dict[int, Any] = {}
        self._arrays = [i for i, n in enumerate(plan.graph.inputs) if not n.spec.weak]
        self._weak = [i for i, n in enumerate(plan.graph.inputs) if n.spec.weak]

    def bind(self, base: int, array: np.ndarray[Any, Any], advance: int = 0) -> None:
        """Let a base point at an array, and move on by so many bytes after each step."""
        self._kept[base] = array
        self.walk.bases[base] = _address(array)
        self.walk.advance[base] = advance

    def input_base(self, node: Node) -> int:
        return self.plan.base_of[node][0]

    def numbers(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run the prologue and put its results where the kernels read them."""
        found = self.plan.prologue(*values)
        for write, at in zip(self._writers, self._frontier, strict=True):
            write(found[at])
        return found

    def __call__(self, values: Sequence[Any], out: Sequence[Any] | None = None) -> list[Any]:
        plan = self.plan
        bases = self.walk.bases
        kept = []
        for base, i in enumerate(self._arrays, FIRST_INPUT):
            array = values[i]
            if array.__class__ is not np.ndarray or not array.flags.c_contiguous or not array.flags.aligned:
                array = np.ascontiguousarray(array)
            kept.append(array)
            bases[base] = array.__array_interface__["data"][0]
        found = self.numbers([values[i] for i in self._weak])
        results: list[Any] = []
        for i, (node, root) in enumerate(zip(plan.graph.outputs, plan.lowered.outputs, strict=True)):
            given = None if out is None else out[i]
            if root is None:
                results.append(_filled(node, found, plan, given))
            elif root in plan.inputs or plan._donor(root) is not None:
                results.append(values[plan.graph.inputs.index(root if root in plan.inputs else plan._donor(root))])
            else:
                y = np.empty(node.spec.shape, node.spec.dtype) if given is None else given
                bases[plan.base_of[root][0]] = y.__array_interface__["data"][0]
                results.append(y)
        status = self.walk.run()
        if status:
            raise_status(status, plan.graph.name)
        return results


def raise_status(status: int, name: str) -> None:
    """What a kernel reported."""
    if status == OUT_OF_BOUNDS:
        raise IndexError(f"{name}: an index is out of bounds.")
    raise RuntimeError(f"{name}: stopped with status {status}.")


def _filled(node: Node, found: tuple[Any, ...], plan: Plan, given: Any) -> Any:
    value = np.asarray(node.value if node.is_constant else found[plan._position[id(node)]], dtype=node.spec.dtype)
    if given is not None:
        given[...] = value
        return given
    return np.array(np.broadcast_to(value, node.spec.shape))


def _scalar_writer(memory: np.ndarray[Any, Any], i: int, dtype: np.dtype[Any]) -> Callable[[Any], None]:
    view = memory[i * SCALAR_BYTES : i * SCALAR_BYTES + dtype.itemsize].view(dtype)

    def write(value: Any) -> None:
        view[0] = value

    return write


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _memory(nbytes: int) -> np.ndarray[Any, Any]:
    """Bytes that begin at a multiple of the alignment."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -_address(raw) % ALIGNMENT
    return raw[start : start + nbytes]


def _address(array: np.ndarray[Any, Any]) -> int:
    return array.__array_interface__["data"][0]


def titles(launches: Sequence[Launch]) -> list[str]:
    return [launch.title for launch in launches]
