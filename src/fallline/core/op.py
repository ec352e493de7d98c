"""An operation: what it computes, its derivative, shape and kernel, declared once by its kind.

    tanh     = elementwise(np.tanh, lambda y, x: 1 - y * y, kernel="tanh({0})")
    multiply = elementwise(np.multiply, lambda z, x, y: y, lambda z, x, y: x, kernel="{0} * {1}")
    flip     = linear(np.flip, transpose=lambda g, x, *, axis: np.flip(g, axis))
    matmul   = bilinear(np.matmul, lambda g, a, b: g @ b.mT, lambda g, a, b: a.mT @ g)

Arrays are positional, everything else goes by keyword. A rule is written in NumPy, so it can be
differentiated and compiled again. It may return a cotangent that is broadcast against its argument:
un-broadcasting is autodiff's work.
"""

from __future__ import annotations

import ast
import inspect
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fallline.core.errors import UnsupportedError
from fallline.core.spec import OF_PYTHON, Spec, shape_of, spec_of
from fallline.core.trace import FUNCTIONS, UFUNCS, bind

Rule = Callable[..., Any]


@dataclass(eq=False, slots=True)
class Op:
    """A primitive operation. Call it on arrays and it computes; on tracers and it is recorded.

    eval        (*arrays, **params) -> array
    shape_rule  (*specs, **params) -> Spec of the result
    pull        (i, g, y, args, params) -> cotangent of argument i, or None if there is none
    push        (y, args, tangents, params) -> tangent of y; None: derived by transposing `pull`
    wanted      (i) -> whether argument i has a derivative at all
    kernel      for the kind "elementwise" the expression of one element; for others data that the
                compiler knows by kind
    eager_only  why the operation cannot be compiled
    analytic    whether eval takes complex arrays too, and is then a complex-analytic function
    """

    name: str
    kind: str
    eval: Callable[..., Any]
    shape_rule: Callable[..., Spec]
    pull: Callable[..., Any] | None = None
    push: Callable[..., Any] | None = None
    wanted: Callable[[int], bool] = lambda i: True
    kernel: Any = None
    eager_only: str | None = None
    analytic: bool = False
    apart: bool = False  # whether it is to share no loop with others
    _specs: dict[Any, Spec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name in _ours:  # the compiler knows our operations by name
            self.name += "_of_user"

    def __call__(self, *args: Any, **params: Any) -> Any:
        return bind(self, args, params)

    def __repr__(self) -> str:
        return self.name

    @property
    def differentiable(self) -> bool:
        return self.pull is not None

    def spec(self, *args: Spec, **params: Any) -> Spec:
        """Shape and type of the result, found without computing it."""
        key = (args, typed(params))
        try:
            known = self._specs.get(key)
        except TypeError:  # a parameter that cannot be hashed
            return self.shape_rule(*args, **params)
        if known is None:
            known = self._specs[key] = self.shape_rule(*args, **params)
        return known


_ours: set[str] = set()


def reserve(ops: Iterable[Op]) -> None:
    """Keep the names of these operations for them: one declared later gets another name."""
    _ours.update(op.name for op in ops)


def typed(params: dict[str, Any]) -> tuple[Any, ...]:
    """Parameters as a key that tells 1, 1.0 and True apart."""
    return tuple([(name, value.__class__, value) for name, value in params.items()])


# Shape rules.


def _sample(spec: Spec) -> Any:
    return np.ones((), spec.dtype).item() if spec.weak else np.ones((), spec.dtype)


def result_spec(function: Callable[..., Any], args: tuple[Spec, ...], **params: Any) -> Spec:
    """NumPy's own promotion, asked of NumPy: the function is evaluated on ones of each type."""
    shape = np.broadcast_shapes(*[a.shape for a in args])
    with np.errstate(all="ignore"):
        dtype = np.asarray(function(*map(_sample, args), **params)).dtype
    return Spec(shape, dtype, weak=all(a.weak for a in args) and dtype in OF_PYTHON)


def spec_by_example(function: Callable[..., Any]) -> Callable[..., Spec]:
    """The spec rule of an operation that only moves elements: run it on arrays without storage."""

    def rule(*args: Spec, **params: Any) -> Spec:
        hollow = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in args]
        return Spec(np.shape(y := function(*hollow, **params)), y.dtype)

    return rule


# Kinds.


@dataclass(frozen=True)
class scaled:
    """A partial derivative that is a selection, so that 0 * inf never arises.

    It is given as `(g, y, *args) -> g * partial`:

    relu = elementwise(..., scaled(lambda g, y, x: np.where(x > 0, g, 0)))
    """

    rule: Rule


def _times(partial: Any, g: Any, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    if partial is None:
        return None
    if partial.__class__ is int:
        return g if partial == 1 else -g
    if partial.__class__ is scaled:
        return partial.rule(g, y, *args, **params)
    return g * partial(y, *args, **params)


def elementwise(
    function: Callable[..., Any],
    *partials: Rule | scaled | int | None,
    kernel: str | None = None,
    name: str | None = None,
    analytic: bool = False,
    spec: Callable[..., Spec] | None = None,
    eager_only: str | None = None,
) -> Op:
    """An operation on each element: one partial derivative per argument.

    A partial is a function `(y, *args) -> dy/dx_i` of the result and the arguments, the number 1 or
    -1, a `scaled` selection, or None where the operation is piecewise constant in that argument.
    Both modes, the shape and the fused loop follow.

    >>> cube = elementwise(
    ...     lambda x: x * x * x, lambda y, x: 3 * x * x, name="cube", kernel="{0} * {0} * {0}"
    ... )
    >>> cube(2.0)
    8.0

    `kernel` is an expression of Python in which {0}, {1}, ... stand for the arguments and {name}
    for a parameter; it may use NumPy's names of elementwise functions.
    """
    _check_count(name or function.__name__, function, len(partials))
    if kernel is not None:
        _check_kernel(name or function.__name__, function, kernel, len(partials))
    for i, p in enumerate(partials):
        one = p.__class__ is int and p in (1, -1)
        if not (p is None or one or callable(p) or isinstance(p, scaled)):
            raise TypeError(
                f"{name or function.__name__}: the partial derivative by argument {i} must be a "
                f"function, 1, -1 or None; got {p!r}. Did you mean lambda y, x: {p!r}?"
            )

    def pull(i: int, g: Any, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return _times(partials[i], g, y, args, params)

    def push(y: Any, args: Any, tangents: Any, params: dict[str, Any]) -> Any:
        return _total(pull(i, t, y, args, params) for i, t in enumerate(tangents) if t is not None)

    op = Op(
        name or function.__name__,
        "elementwise",
        function,
        spec or (lambda *args, **params: result_spec(function, args, **params)),
        pull if any(p is not None for p in partials) else None,
        push,
        lambda i: partials[i] is not None,
        kernel,
        eager_only if kernel is None else None,
        analytic,
    )
    return _register(op, function)


def _check_count(name: str, function: Callable[..., Any], n: int) -> None:
    """There is a partial derivative for each argument of the function, if it tells how many."""
    least = most = getattr(function, "nin", 0)
    if not isinstance(function, np.ufunc):
        parameters = _parameters(function)
        if parameters is None or any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        most = len(positional)
        least = sum(p.default is p.empty for p in positional)
    if not max(least, 1) <= n <= most:
        raise TypeError(
            f"{name}: one partial derivative per argument is needed, {least} in all; got {n}. "
            "Write None for an argument in which it is piecewise constant."
        )


def _check_kernel(name: str, function: Callable[..., Any], kernel: str, n: int) -> None:
    """The kernel is an expression of the arguments {0}, {1}, ... and of parameters {name}."""
    fields = [f for _, f, _, _ in string.Formatter().parse(kernel) if f is not None]
    named = [f for f in fields if not (f.isdigit() and int(f) < n)]
    parameters = _parameters(function) if named else []
    open_ended = parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [] if parameters is None else [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for f in named:
        if not f.isidentifier() or (f not in known and not open_ended):
            there = ", ".join([f"{{{i}}}" for i in range(n)] + [f"{{{k}}}" for k in known])
            raise ValueError(
                f"{name}: the kernel {kernel!r} names {{{f}}}; there are {there}."
                + (" Did you mean {0}?" if f in ("O", "o", "") else "")
            )
    try:
        ast.parse(kernel.format(*["x"] * n, **dict.fromkeys(fields, "x")), mode="eval")
    except SyntaxError:
        raise ValueError(
            f"{name}: the kernel {kernel!r} must be an expression of Python."
        ) from None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Of a function's signature; None where it tells none."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def linear(
    function: Callable[..., Any],
    transpose: Rule,
    *,
    spec: Callable[..., Spec] | None = None,
    name: str | None = None,
    kind: str = "linear",
    arrays: int | None = 1,
    kernel: Any = None,
    eager_only: str | None = None,
) -> Op:
    """An operation that is linear in its array arguments together; its derivative is itself.

    `transpose(g, *args, **params)` gives the cotangent of the one argument; with several (`arrays`
    other than 1, None for any number) it is `transpose(i, g, *args, **params)`, for argument i. Of
    the arguments only shapes and types may be used.
    """
    single = arrays == 1

    def pull(i: int, g: Any, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return transpose(g, *args, **params) if single else transpose(i, g, *args, **params)

    def push(y: Any, args: Any, tangents: Any, params: dict[str, Any]) -> Any:
        filled = [
            np.zeros(shape_of(a), spec_of(a).dtype) if t is None else t
            for a, t in zip(args, tangents, strict=True)
        ]
        return op(*filled, **params)

    op = Op(
        name or function.__name__,
        kind,
        function,
        spec or spec_by_example(function),
        pull,
        push,
        kernel=kernel,
        eager_only=eager_only,
        analytic=True,
    )
    return _register(op, function, arrays=arrays)


def bilinear(
    function: Callable[..., Any],
    transpose_a: Rule,
    transpose_b: Rule,
    *,
    spec: Callable[..., Spec],
    name: str | None = None,
    kind: str = "bilinear",
    kernel: Any = None,
    eager_only: str | None = None,
) -> Op:
    """An operation that is linear in each of two arguments.

    `transpose_a(g, a, b, **params)` is the cotangent of a, `transpose_b` that of b.
    """
    rules = (transpose_a, transpose_b)

    def pull(i: int, g: Any, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return rules[i](g, *args, **params)

    def push(y: Any, args: Any, tangents: Any, params: dict[str, Any]) -> Any:
        a, b = args
        ta, tb = tangents
        return _total(
            [
                None if ta is None else op(ta, b, **params),
                None if tb is None else op(a, tb, **params),
            ]
        )

    op = Op(
        name or function.__name__,
        kind,
        function,
        spec,
        pull,
        push,
        kernel=kernel,
        eager_only=eager_only,
        analytic=True,
    )
    return _register(op, function, arrays=2)


def primitive(
    function: Callable[..., Any],
    *vjp: Rule | None,
    spec: Callable[..., Spec] | None = None,
    jvp: Rule | None = None,
    name: str | None = None,
    kind: str = "primitive",
    arrays: int | None = 1,
    kernel: Any = None,
    eager_only: str | None = None,
    analytic: bool = False,
) -> Op:
    """Any other operation.

    `vjp` has one rule per argument, `(g, y, *args, **params) -> cotangent`, None where there is
    none. `jvp(y, args, tangents, **params)` is optional, with None for a tangent that is zero:
    forward mode is otherwise derived by transposing the vjp.

    `kernel`, for compiled code, is a loop in plain Python over flat memory. Its arguments are
    annotated: for each array, and last for the result, its lengths ("int") and its elements ("T*",
    with T the type of the result, or a type's name), in C order. Without one the operation runs
    eagerly only.

        def running_max_kernel(n: "int", x: "T*", m: "int", y: "T*"):
            for i in range(n):
                y[i] = maximum(y[i - 1], x[i]) if i else x[i]
    """
    if kernel is not None and kind == "primitive":
        kind = "kernel"

    def pull(i: int, g: Any, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        rule = vjp[i] if i < len(vjp) else None
        return None if rule is None else rule(g, y, *args, **params)

    push = (
        None if jvp is None else lambda y, args, tangents, params: jvp(y, args, tangents, **params)
    )
    op = Op(
        name or function.__name__,
        kind,
        function,
        spec or spec_by_example(function),
        pull if any(r is not None for r in vjp) else None,
        push,
        lambda i: i < len(vjp) and vjp[i] is not None,
        kernel,
        eager_only,
        analytic,
    )
    return _register(op, function, arrays=arrays)


def _total(terms: Any) -> Any:
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


# How NumPy's own names lead here.


def _register(op: Op, function: Any, arrays: int | None = None) -> Op:
    if isinstance(function, np.ufunc):
        UFUNCS[function] = op
    elif type(function).__name__ == "_ArrayFunctionDispatcher" and arrays is not None:
        FUNCTIONS[function] = by_keyword(op, inspect.signature(function), arrays)
    return op


def by_keyword(op: Op, signature: inspect.Signature, arrays: int) -> Callable[..., Any]:
    """Call `op` with the first arguments as arrays, the others by keyword, defaults filled in."""
    names = list(signature.parameters)
    params = list(signature.parameters.values())[arrays:]
    required = inspect.Parameter.empty
    defaults = {p.name: p.default for p in params if p.default is not required}

    def call(*args: Any, **given: Any) -> Any:
        values = dict(zip(names, args, strict=False)) | given
        operands = [values.pop(name) for name in names[:arrays]]
        return bind(op, operands, defaults | values)

    return call


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what a NumPy function does on traced arrays, in terms of other NumPy functions.

    The decorated function has the NumPy function's own signature.
    """

    def decorate(definition: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            (UFUNCS if isinstance(function, np.ufunc) else FUNCTIONS)[function] = definition
        return definition

    return decorate


NOT_GIVEN: Any = np._NoValue


def refuse_extras(caller: str, **given: Any) -> None:
    """Raise UnsupportedError if any of these arguments of a NumPy function was given."""
    for name, value in given.items():
        if value is not None and value is not NOT_GIVEN:
            raise UnsupportedError(
                f"np.{caller}: the argument {name}= is not supported on traced arrays. "
                "Use np.where, .astype or a slice instead."
            )
