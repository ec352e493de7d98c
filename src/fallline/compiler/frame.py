"""A frame: one set of memory for a plan, and the walk over it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fallline.compiler import memory, texts
from fallline.compiler.checking import Rehearsal, checks_bounds
from fallline.compiler.memory import CONSTANTS, FIRST_INPUT, SCALAR_BYTES, SCALARS, WORKSPACE, Array
from fallline.compiler.threads import get_threads
from fallline.compiler.walker import Walk
from fallline.core.graph import Node
from fallline.core.spec import spec_of

if TYPE_CHECKING:
    from fallline.compiler.plan import Plan


class Frame:
    """Runs a plan in memory of its own.

    Call it with the inputs; or bind arrays once and run many steps in one call, with a row of
    scalars for each of up to `rows` steps.
    """

    def __init__(self, plan: Plan, rows: int = 1) -> None:
        self.plan = plan
        launches = plan.lowered.launches
        self.workspace = memory.allocate(plan.workspace_bytes)
        self.scalars = memory.allocate(plan.row_bytes * rows)
        self.rehearsal = Rehearsal(plan) if checks_bounds() else None
        calls_blas = any(launch.calls_blas for launch in launches)
        program = plan.program(self.rehearsal)
        n_bases = plan.n_bases + (self.rehearsal is not None)
        self.walk = Walk(program, n_bases, calls_blas, plan.private_bytes)
        self.walk.bases[WORKSPACE] = memory.address(self.workspace)
        self.walk.bases[CONSTANTS] = memory.address(plan.constants)
        self.walk.bases[SCALARS] = memory.address(self.scalars)
        if self.rehearsal is not None:
            self.walk.bases[plan.n_bases] = memory.address(self.rehearsal.area)
        self.walk.advance[SCALARS] = plan.row_bytes if rows > 1 else 0
        self.most_threads = max((len(launch.rows) for launch in launches), default=1)
        self._places = [plan.position[id(node)] for node, _ in plan.scalars]
        self._table = _Table(self.scalars, [dtype for _, dtype in plan.scalars], rows)
        self._table_start = memory.address(self.scalars)
        self._bound: dict[int, Array] = {}
        weak = [n.spec.weak for n in plan.graph.inputs]
        self._arrays = [i for i, is_weak in enumerate(weak) if not is_weak]
        self._numbers = [i for i, is_weak in enumerate(weak) if is_weak]
        self._inputs = [(n.spec.shape, n.spec.dtype) for n in plan.graph.inputs]
        self._overwritten = set(plan.donate.values())
        self._results = [self._result(i) for i in range(len(plan.graph.outputs))]

    def bind(self, node: Node, array: Array, advance: int = 0) -> None:
        """Let an input or output be an array, and move on by so many bytes after each step."""
        base = self.base(node)
        self._bound[base] = array  # kept alive
        self.walk.bases[base] = memory.address(array)
        self.walk.advance[base] = advance

    def base(self, node: Node) -> int:
        """The number of the base at which an input or output lies."""
        return self.plan.base_of[node][0]

    def numbers(self, values: Sequence[Any], row: int = 0) -> tuple[Any, ...]:
        """Run the prologue and put its results where the kernels read them in this step."""
        found = self.plan.prologue(*values)
        if self._places:
            self._table.write(row, [found[place] for place in self._places])
        return found

    def many_numbers(self, values: Sequence[Any], rows: int) -> None:
        """The same for the rows 0 .. rows - 1; values are numbers, or lists with one for each row.

        A step begins with row 0, unless `start` is told otherwise.
        """
        found = self.plan.prologue.columns(*values)
        self._table.write_columns([found[place] for place in self._places], rows)

    def start(self, row: int) -> None:
        """The row of scalars of the next step."""
        self.walk.bases[SCALARS] = self._table_start + row * self.plan.row_bytes

    def walk_steps(self, steps: int = 1) -> int:
        """Run so many steps, on as many threads as there are jobs for; the status."""
        status = self.walk.run(steps, min(get_threads(), self.most_threads))
        if self.rehearsal is not None:
            self.raise_violation()
        return status

    def raise_violation(self) -> None:
        """The error of a kernel that went astray in the last run, where that is checked."""
        if self.rehearsal is not None:
            self.rehearsal.check(self.plan.graph.name)

    def __call__(self, values: Sequence[Any], out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs for these values of the graph's inputs; see `Plan.run`."""
        bases = self.walk.bases
        copies: dict[int, Array] = {}  # of inputs that are not laid out as kernels want them
        for base, i in enumerate(self._arrays, FIRST_INPUT):
            array = values[i]
            shape, dtype = self._inputs[i]
            if array.__class__ is not np.ndarray or array.shape != shape or array.dtype != dtype:
                array = copies[i] = self._fitting(i, array)
            if array.__class__ is not np.ndarray or not array.flags.carray:
                array = np.require(array, requirements=("C", "A"))
                if i in self._overwritten:
                    array = np.array(array)
                copies[i] = array
            bases[base] = memory.address(array)
        if out is not None:
            self._keep_apart(out, values, copies)
        if self._overwritten:
            self._keep_from_donors(values, copies)
        found: tuple[Any, ...] = ()
        if self.plan.prologue.outputs:
            found = self.numbers([values[i] for i in self._numbers])
        results: list[Any] = [None] * len(self._results) if out is None else list(out)
        for i, (to, source, shape, dtype) in enumerate(self._results):
            if source is not None:  # an input that is overwritten
                results[i] = copies.get(source, values[source])
            elif to is None:
                results[i] = self._filled(i, found, results[i])
            else:
                y = results[i]
                if y is None:
                    y = results[i] = np.empty(shape, dtype)
                elif y.shape != shape or y.dtype != dtype or not y.flags.carray:
                    raise self._misfit(i, y)
                bases[to] = memory.address(y)
        status = self.walk_steps()
        if status:
            raise_status(status, self.plan.graph.name)
        return results

    def _result(self, i: int) -> tuple[int | None, int | None, tuple[int, ...], np.dtype[Any]]:
        """How output i comes about: its base, or the input that it took over; shape and type.

        A number or a constant has neither.
        """
        plan = self.plan
        node, root = plan.graph.outputs[i], plan.lowered.outputs[i]
        base = source = None
        if root is not None:
            donor = root if root in plan.inputs else plan.donor(root)
            if donor is None:
                base = plan.base_of[root][0]
            else:
                source = plan.graph.inputs.index(donor)
        return base, source, node.spec.shape, node.spec.dtype

    def _filled(self, i: int, found: tuple[Any, ...], given: Any) -> Any:
        """An output that no kernel writes."""
        node = self.plan.graph.outputs[i]
        value = self.plan.number(node, found)
        if given is None:  # a power of whole numbers may be a fraction: 2**-3
            dtype = np.result_type(np.asarray(value), node.spec.dtype)
            given = np.empty(node.spec.shape, dtype)
        given[...] = value
        return given

    def _fitting(self, i: int, value: Any) -> Array:
        """An input as the array that the plan was made for."""
        node = self.plan.graph.inputs[i]
        array = np.asarray(value)
        if array.shape != node.spec.shape or array.dtype != node.spec.dtype:
            raise ValueError(
                f"{self.plan.graph.name}: {node.name or f'input {i}'} must be {node.spec!r}, for "
                f"which the plan was made; got {spec_of(array)!r}."
            )
        return array

    def _keep_apart(
        self, out: Sequence[Any], values: Sequence[Any], copies: dict[int, Array]
    ) -> None:
        """Results that are written where inputs lie: those inputs are copied first."""
        for k, y in enumerate(out):
            if any(np.may_share_memory(y, z) for z in out[k + 1 :]):
                raise ValueError(f"{self.plan.graph.name}: the arrays of out share memory.")
            for base, i in enumerate(self._arrays, FIRST_INPUT):
                if i not in copies and np.may_share_memory(y, values[i]):
                    copies[i] = np.array(values[i])
                    self.walk.bases[base] = memory.address(copies[i])

    def _keep_from_donors(self, values: Sequence[Any], copies: dict[int, Array]) -> None:
        """An input in memory that is overwritten as another input is copied first."""
        for base, i in enumerate(self._arrays, FIRST_INPUT):
            given = copies.get(i, values[i])
            others = (copies.get(k, values[k]) for k in self._overwritten if k != i)
            if any(np.may_share_memory(given, other) for other in others):
                copies[i] = np.array(given)
                self.walk.bases[base] = memory.address(copies[i])

    def _misfit(self, i: int, y: Any) -> ValueError:
        name, wanted = self.plan.graph.name, self.plan.graph.outputs[i].spec
        got = spec_of(y)
        return ValueError(f"{name}: out[{i}] must be a contiguous {wanted!r}; got {got!r}.")


def raise_status(status: int, name: str) -> None:
    """What a kernel reported."""
    if status == texts.OUT_OF_BOUNDS:
        raise IndexError(f"{name}: an index is out of bounds.")
    if status == texts.NOT_FINITE:
        raise FloatingPointError(f"{name}: the guarded result is not finite.")
    raise RuntimeError(f"{name}: stopped with status {status}.")


# Eight bytes for each, in the format of the module struct.
_CODES = {"f4": "f4x", "f8": "d", "i8": "q", "i4": "i4x", "u8": "Q", "u4": "I4x", "b1": "?7x"}


class _Table:
    """Rows of scalars, each cast to the type of the arrays that it meets."""

    def __init__(self, raw: Array, dtypes: Sequence[np.dtype[Any]], rows: int) -> None:
        strides, self._raw = (SCALAR_BYTES * len(dtypes),), raw.data
        self._columns: list[Array] = [
            np.ndarray((rows,), dtype, self._raw, SCALAR_BYTES * i, strides)
            for i, dtype in enumerate(dtypes)
        ]
        codes = [_CODES.get(dtype.str[1:], "") for dtype in dtypes]
        self._packer = struct.Struct("=" + "".join(codes)) if all(codes) else None

    def write(self, row: int, values: Sequence[Any]) -> None:
        """One row."""
        if self._packer is not None:  # ten times faster
            try:
                return self._packer.pack_into(self._raw, row * self._packer.size, *values)
            except (OverflowError, struct.error):  # too large for its type: NumPy makes it infinite
                pass
        with np.errstate(all="ignore"):
            for column, value in zip(self._columns, values, strict=True):
                column[row] = _cast(value, column.dtype)

    def write_columns(self, values: Sequence[Any], rows: int) -> None:
        """The first rows; of each column one number, or a list or an array of them."""
        with np.errstate(all="ignore"):
            for column, value in zip(self._columns, values, strict=True):
                if not isinstance(value, list | np.ndarray):
                    column[:rows] = _cast(value, column.dtype)
                elif column.dtype.kind == "f":
                    column[:rows] = value
                else:
                    column[:rows] = [_cast(x, column.dtype) for x in value]


def _cast(value: Any, dtype: np.dtype[Any]) -> Array:
    """A number in the type of the arrays that it meets; a whole one as it is, or an error."""
    number = np.asarray(value).astype(dtype)
    if dtype.kind in "iu" and number != value:
        if isinstance(value, float):
            raise ValueError(
                f"compile: whole numbers meet {value}, which is none. If it is a power of whole "
                "numbers: did you mean 2.0**-t?"
            )
        raise OverflowError(f"compile: {value} is out of bounds for {dtype.name}.")
    return number
