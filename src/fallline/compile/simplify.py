"""Rewriting a graph before it is lowered: the same values, fewer operations.

Only rewrites that keep every bit: identities with exact constants, equal subexpressions, folded
constants, composed views. `x + 0` stays, since -0.0 + 0 is 0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fallline.core.graph import Graph, Node
from fallline.core.spec import Spec, spec_of
from fallline.ops.elementwise import reciprocal, sqrt, square
from fallline.ops.shape import broadcast_to, reshape, transpose

FOLD_LIMIT = 1 << 16  # elements of a constant that is computed beforehand


def simplify(graph: Graph) -> Graph:
    """An equal graph with the same inputs."""
    return _Rewriter(graph).result()


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.new: dict[int, Node] = {id(n): n for n in graph.inputs}
        self.seen: dict[Any, Node] = {}

    def result(self) -> Graph:
        for node in self.graph.nodes:
            args = tuple(self._of(a) for a in node.args)
            self.new[id(node)] = self._make(node.op, args, node.params, node.spec, node.where)
        g = self.graph
        return Graph(
            g.inputs, [self._of(o) for o in g.outputs], g.name, g.in_structure, g.out_structure
        )

    def _of(self, node: Node) -> Node:
        if node.is_constant and id(node) not in self.new:
            self.new[id(node)] = self._constant(node)
        return self.new[id(node)]

    def _constant(self, node: Node) -> Node:
        """Constants are shared; one that repeats a single number becomes that number, broadcast."""
        value = node.value
        if value.__class__ in (float, int):
            return self._shared(("number", value.__class__, repr(value)), lambda: node)
        if value.size > 1 and _repeats(value):
            single = self._constant(Node(Spec((), value.dtype), value=value.flat[:1].reshape(())))
            return self._make(broadcast_to, (single,), {"shape": value.shape}, node.spec, None)
        key = (
            "array",
            value.dtype.str,
            value.shape,
            value.tobytes() if value.nbytes <= 1 << 16 else id(value),
        )
        return self._shared(key, lambda: node)

    def _shared(self, key: Any, make: Callable[[], Node]) -> Node:
        try:
            found = self.seen.get(key)
        except TypeError:  # a parameter that cannot be hashed
            return make()
        if found is None:
            found = self.seen[key] = make()
        return found

    def _make(
        self, op: Any, args: tuple[Node, ...], params: dict[str, Any], spec: Spec, where: Any
    ) -> Node:
        if op.kind == "elementwise" and not spec.weak:
            args = tuple(a.args[0] if a.op is broadcast_to else a for a in args)
            shape = np.broadcast_shapes(*[a.spec.shape for a in args])
            if shape != spec.shape:  # computed once, broadcast afterwards
                once = self._make(op, args, params, Spec(shape, spec.dtype), where)
                return self._make(broadcast_to, (once,), {"shape": spec.shape}, spec, where)
        for rule in _RULES:
            found = rule(self, op, args, params, spec, where)
            if found is not None:
                return found
        if _is_foldable(op, args, spec):
            return self._constant(_folded(op, args, params, spec.weak))

        def make() -> Node:
            node = Node(spec, op, args, params)
            node.where = where
            return node

        return self._shared((op, tuple(map(id, args)), tuple(params.items())), make)


def _repeats(value: np.ndarray[Any, Any]) -> bool:
    """Whether an array is one number over and over."""
    if all(s == 0 or n == 1 for s, n in zip(value.strides, value.shape, strict=True)):
        return True
    first = value.flat[0]
    return (
        value.size <= FOLD_LIMIT * 16
        and first == first
        and first != 0
        and bool((value == first).all())
    )


def _number(node: Node) -> Any:
    """The value of a constant that is one number, else None."""
    if not node.is_constant:
        return None
    value = np.asarray(node.value)
    return value.item() if value.ndim == 0 else None


def _same_type(node: Node, spec: Spec) -> bool:
    return (
        node.spec.shape == spec.shape
        and node.spec.dtype == spec.dtype
        and node.spec.weak == spec.weak
    )


def _drop_identity(
    w: _Rewriter, op: Any, args: Any, params: Any, spec: Spec, where: Any
) -> Node | None:
    """x * 1, x / 1, x - 0, x ** 1, +x, casts to the own type, views that change nothing."""
    first = args[0] if args else None
    if op.name in ("positive", "stop_gradient", "astype") and _same_type(first, spec):
        return first
    if op.name in ("reshape", "broadcast_to") and first.spec.shape == spec.shape:
        return first
    if op.name == "transpose" and params["axes"] == tuple(range(spec.ndim)):
        return first
    if op.name == "slice" and all(
        (a, n, s) == (0, m, 1)
        for (a, n, s), m in zip(params["index"], first.spec.shape, strict=True)
    ):
        return first
    if len(args) == 2 and op.kind == "elementwise":
        neutral = {"multiply": 1, "true_divide": 1, "divide": 1, "power": 1, "subtract": 0}.get(
            op.name
        )
        if neutral is not None and _number(args[1]) == neutral and _same_type(first, spec):
            return first
        if op.name == "multiply" and _number(first) == 1 and _same_type(args[1], spec):
            return args[1]
    if op.name == "negative" and first.op is not None and first.op.name == "negative":
        return first.args[0]
    return None


def _powers(w: _Rewriter, op: Any, args: Any, params: Any, spec: Spec, where: Any) -> Node | None:
    """x ** 2, x ** 0.5 and x ** -1 as NumPy computes them itself."""
    if op.name != "power" or spec.weak or spec.dtype.kind != "f":
        return None
    better = {2: square, 0.5: sqrt, -1: reciprocal}.get(_number(args[1]))  # type: ignore[arg-type]
    if better is None or args[0].spec.dtype != spec.dtype:
        return None
    return w._make(better, (args[0],), {}, spec, where)


def _compose_views(
    w: _Rewriter, op: Any, args: Any, params: Any, spec: Spec, where: Any
) -> Node | None:
    inner = args[0] if args else None
    if op is reshape and inner.op is reshape:
        return w._make(reshape, inner.args, params, spec, where)
    if op is broadcast_to and inner.op is broadcast_to:
        return w._make(broadcast_to, inner.args, params, spec, where)
    if op is transpose and inner.op is transpose:
        axes = tuple(inner.params["axes"][i] for i in params["axes"])
        return w._make(transpose, inner.args, {"axes": axes}, spec, where)
    return None


def _simple_reductions(
    w: _Rewriter, op: Any, args: Any, params: Any, spec: Spec, where: Any
) -> Node | None:
    """A reduction keeps no axes and goes over one block of neighbouring axes: others are done one after another."""
    if op.kind != "reduce":
        return None
    x, axes = args[0], params["axis"]
    if params["keepdims"]:
        flat = w._make(
            op,
            args,
            {"axis": axes, "keepdims": False},
            op.spec(x.spec, axis=axes, keepdims=False),
            where,
        )
        return w._make(reshape, (flat,), {"shape": spec.shape}, spec, where)
    trivial = tuple(i for i in axes if x.spec.shape[i] == 1)
    if trivial and x.spec.dtype == spec.dtype:
        rest = tuple(n for i, n in enumerate(x.spec.shape) if i not in trivial)
        y = w._make(reshape, (x,), {"shape": rest}, Spec(rest, x.spec.dtype), where)
        moved = tuple(i - sum(t < i for t in trivial) for i in axes if i not in trivial)
        return w._make(op, (y,), {"axis": moved, "keepdims": False}, spec, where) if moved else y
    if axes and axes != tuple(range(axes[0], axes[-1] + 1)):
        last = (axes[-1],)
        part = op.spec(x.spec, axis=last, keepdims=False)
        inner = w._make(op, args, {"axis": last, "keepdims": False}, part, where)
        return w._make(op, (inner,), {"axis": axes[:-1], "keepdims": False}, spec, where)
    if not axes:
        return x if x.spec.dtype == spec.dtype else None
    return None


_RULES = (_drop_identity, _powers, _compose_views, _simple_reductions)


def _is_foldable(op: Any, args: Any, spec: Spec) -> bool:
    if not args or not all(a.is_constant for a in args) or op.kind == "random":
        return False
    return spec.size <= FOLD_LIMIT and op is not broadcast_to


def _folded(op: Any, args: Any, params: Any, weak: bool) -> Node:
    with np.errstate(all="ignore"):
        value = np.asarray(op.eval(*[a.value for a in args], **params))
    if weak and value.dtype.kind != "b":
        return Node(spec_of(value.item()), value=value.item())
    return Node(spec_of(value), value=value)
