"""The graph of an expression, recorded by running the function once on tracers without values.

They know their shapes and types only, so the graph holds for every array of these.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fallline.core import tree
from fallline.core.errors import TracingError, user_frame
from fallline.core.op import Op, typed
from fallline.core.spec import Spec, spec_of
from fallline.core.trace import Level, Tracer, leaked


class Node:
    """A value in a graph: the result of an operation, a constant (op None) or an input (both None).

    `where` is the user's file, line and function that asked for it.
    """

    __slots__ = ("args", "name", "op", "params", "spec", "value", "where")

    def __init__(
        self,
        spec: Spec,
        op: Op | None = None,
        args: tuple[Node, ...] = (),
        params: dict[str, Any] | None = None,
        value: Any = None,
        name: str = "",
    ) -> None:
        self.spec = spec
        self.op = op
        self.args = args
        self.params = params or {}
        self.value = value
        self.name = name
        self.where: tuple[str, int, str] | None = None

    @property
    def kind(self) -> str:
        """The kind of its operation; "" for inputs and constants."""
        return self.op.kind if self.op is not None else ""

    @property
    def title(self) -> str:
        """The name of its operation; "" for inputs and constants."""
        return self.op.name if self.op is not None else ""

    @property
    def is_constant(self) -> bool:
        return self.op is None and self.value is not None

    @property
    def is_input(self) -> bool:
        return self.op is None and self.value is None

    def apply(self, args: Sequence[Any]) -> Any:
        """The result of its operation for these arguments."""
        assert self.op is not None
        return self.op(*args, **self.params)

    def __repr__(self) -> str:
        return f"{self.name or self.title or 'value'}: {self.spec!r}"


class Record(Level):
    """Writes operations down. A tracer's value is its spec, `extra` the node."""

    __slots__ = ("constants", "lines")

    def __init__(self, lines: bool = True) -> None:
        super().__init__()
        self.constants: dict[int, tuple[Any, Node]] = {}  # by id, reserved by the object
        self.lines = lines

    def input(self, spec: Spec, name: str = "") -> Tracer:
        return Tracer(self, spec, Node(spec, name=name))

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Tracer:
        nodes = tuple([self.node(a) for a in args])
        node = Node(op.spec(*[n.spec for n in nodes], **params), op, nodes, params)
        if self.lines:
            node.where = user_frame()
        return Tracer(self, node.spec, node)

    def is_result(self, tracer: Tracer) -> bool:
        return not tracer.extra.is_input and tracer.extra.kind != "view"

    def node(self, x: Any) -> Node:
        """The node of a tracer of this level; anything else is a constant."""
        if x.__class__ is Tracer:
            if x.level is not self:
                raise _foreign(x)
            return x.extra
        known = self.constants.get(id(x))
        if known is None or not _unchanged(x, known[1].value):
            value = x if x.__class__ in (float, int) else _kept(np.asarray(x))
            known = self.constants[id(x)] = x, Node(spec_of(value), value=value)
        return known[1]


def _kept(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy, since the array may be written to while the function goes on.

    What cannot be written to, such as one element that is repeated, stays as it is.
    """
    return np.array(array) if array.flags.writeable else array


def _unchanged(x: Any, value: Any) -> bool:
    if x.__class__ is not np.ndarray or not x.flags.writeable:
        return True
    return bool(((x == value) | (x != x)).all())


def _foreign(x: Tracer) -> TracingError:
    if not x.level.open:
        return leaked()
    return TracingError(
        "a function that is being compiled or traced uses a traced array of the function around "
        "it. Pass it as an argument instead of closing over it."
    )


class Graph:
    """A function as data: typed inputs, operations in the order of computation, outputs.

    It prints readably; call it to run it.

    >>> from fallline import ops
    >>> print(trace(lambda x, w: np.tanh(x @ w), np.ones((4, 3)), np.ones((3, 2))))
    <lambda>(x: f64[4,3], w: f64[3,2])
      a: f64[4,2] = matmul(x, w)
      b: f64[4,2] = tanh(a)
      return b
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        name: str = "graph",
        in_structure: Any = None,
        out_structure: Any = None,
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.name = name
        self.in_structure = in_structure
        self.out_structure = out_structure
        self._nodes: list[Node] | None = None

    @property
    def nodes(self) -> list[Node]:
        """The operations that the outputs need, arguments first."""
        if self._nodes is None:
            self._nodes = [n for n in order(self.outputs) if n.op is not None]
        return self._nodes

    def run(self, *values: Any) -> list[Any]:
        """The outputs for these values (or tracers) of the inputs, operation by operation."""
        found: dict[int, Any] = dict(zip(map(id, self.inputs), values, strict=True))
        for node in self.nodes:
            found[id(node)] = node.apply([found.get(id(a), a.value) for a in node.args])
        return [found.get(id(o), o.value) for o in self.outputs]

    def __call__(self, *args: Any) -> Any:
        """The traced function again, on arguments of the same structure."""
        leaves, structure = tree.flatten(list(args), whole=True)
        values, form = _dynamic(leaves, structure)
        if form != self.in_structure:
            raise TypeError(
                f"{self.name}: the arguments must have the structure of the traced example; "
                f"got {structure}."
            )
        return tree.unflatten(self.out_structure, self.run(*values))

    def digest(self) -> str:
        """A short text that is equal for equal operations, types and constants.

        Good while the process runs: operations are told apart by their identity.
        """
        place = {id(n): i for i, n in enumerate(self.inputs)}
        found = hashlib.sha256(repr([n.spec for n in self.inputs]).encode())
        for node in order([*self.inputs, *self.outputs]):
            if id(node) in place:
                continue
            place[id(node)] = len(place)
            args = [place[id(a)] for a in node.args]
            found.update(f"{id(node.op)}{args}{typed(node.params)}{node.spec!r}".encode())
            if node.op is None:
                value = np.asarray(node.value)
                repeats = value.size > 1 and not any(value.strides)
                found.update(value.flat[:1].tobytes() if repeats else value.tobytes())
        found.update(repr([place[id(o)] for o in self.outputs]).encode())
        return found.hexdigest()

    def __repr__(self) -> str:
        names = _Names(self)
        heading = ", ".join(f"{names[n]}: {n.spec!r}" for n in self.inputs)
        lines = [f"{self.name}({heading})"]
        lines += [f"  {names[n]}: {n.spec!r} = {_call(n, names)}" for n in self.nodes]
        return "\n".join([*lines, f"  return {', '.join(names[o] for o in self.outputs)}"])


def order(outputs: Iterable[Node]) -> list[Node]:
    """All nodes that lead to the outputs, each after its arguments."""
    seen: set[int] = set()
    found: list[Node] = []
    stack = [(o, False) for o in reversed(list(outputs))]
    while stack:
        node, ready = stack.pop()
        if ready:
            found.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args) if id(a) not in seen)
    return found


class _Names(dict[Node, str]):
    """Short names: inputs by their own, results a, b, c, ..., constants by their value."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        taken = set()
        for i, node in enumerate(graph.inputs):
            self[node] = node.name or f"in{i}"
            taken.add(self[node])
        letters = (n for n in _letters() if n not in taken)
        for node in graph.nodes:
            self[node] = next(letters)

    def __missing__(self, node: Node) -> str:
        if node.spec.shape == ():
            return f"{np.asarray(node.value)[()]}" if node.spec.weak else f"{node.value!s}"
        return f"<{node.spec!r}>"


def _letters() -> Iterable[str]:
    width = 1
    while True:
        for i in range(26**width):
            name = ""
            for _ in range(width):
                i, r = divmod(i, 26)
                name = chr(97 + r) + name
            if name not in ("in", "is", "if", "or", "as"):
                yield name
        width += 1


def _call(node: Node, names: _Names) -> str:
    shown = [names[a] for a in node.args]
    shown += [f"{k}={v!r}" for k, v in node.params.items() if v is not None and v is not False]
    return f"{node.title}({', '.join(shown)})"


def is_static(leaf: Any) -> bool:
    """Bools, strings, other Python objects shape the trace; arrays and numbers are its inputs."""
    kind = leaf.__class__
    if kind is float or kind is int or kind is Spec or kind is Tracer:
        return False
    return not (isinstance(leaf, (np.ndarray, np.generic)) or hasattr(leaf, "__array_interface__"))


def _dynamic(leaves: Sequence[Any], structure: Any) -> tuple[list[Any], Any]:
    """The leaves that are inputs, and a key of all else: the structure and the static leaves."""
    static = tuple((i, leaf) for i, leaf in enumerate(leaves) if is_static(leaf))
    return [leaf for leaf in leaves if not is_static(leaf)], (structure, static)


def trace(f: Callable[..., Any], *examples: Any, names: Sequence[str] | None = None) -> Graph:
    """The graph of `f(*examples)`.

    Examples are trees of arrays, of `Spec`s (shape and type suffice) and of Python numbers (weak
    inputs). Bools, strings and None are static: f sees them as they are. Raises TracingError, with
    the user's line, where f needs a value that is not known yet.
    """
    leaves, structure = tree.flatten(list(examples), whole=True)
    level = Record()
    labels = names or _argument_names(f, examples)
    _, key = _dynamic(leaves, structure)
    tracers: list[Tracer] = []
    given = []
    for leaf, label in zip(leaves, labels, strict=True):
        if is_static(leaf):
            given.append(leaf)
            continue
        tracers.append(level.input(spec_of(leaf), label))
        given.append(tracers[-1])
    with no_hidden_randomness():
        outputs, form = tree.flatten(f(*tree.unflatten(structure, given)), whole=True)
    nodes = [level.node(o) for o in outputs]
    level.open = False
    return Graph([t.extra for t in tracers], nodes, getattr(f, "__name__", "graph"), key, form)


@contextmanager
def no_hidden_randomness() -> Iterator[None]:
    """Refuse np.random while something is recorded: what it drew would be the same ever after."""
    before: Any = np.random.get_state()  # noqa: NPY002
    yield
    after: Any = np.random.get_state()  # noqa: NPY002
    if before[2] != after[2] or not np.array_equal(before[1], after[1]):
        raise TracingError(
            "np.random was used while a function was traced: compiled, it would give the same "
            "numbers at every call. Draw with fl.random and a key."
        )


def _argument_names(f: Callable[..., Any], examples: Sequence[Any]) -> list[str]:
    """Readable names for the leaves: the parameter's own, with the path inside it."""
    try:
        signature = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # a callable that does not say
        return _argument_names(lambda: None, examples)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p.name for p in signature if p.kind in positional]
    found = []
    for i, example in enumerate(examples):
        head = parameters[i] if i < len(parameters) else f"x{i}"
        named = tree.named_leaves(example, whole=True)
        found += [f"{head}.{path}" if path else head for path, _ in named]
    return found
