"""Tracers: values that remember what was done to them.

A transformation (`jvp`, `vjp`, `trace`) opens a `Level` and wraps its inputs in tracers of that
level. Every operation goes through `bind`, which hands it to the highest level among its arguments;
that level unwraps its own tracers and binds again, one level down, until plain arrays are left. So
transformations nest in any order.

A tracer looks like an array to NumPy (`__array_ufunc__`, `__array_function__`, operators, methods),
so the user's code is NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fallline.core.errors import TracingError, UnsupportedError, nearest
from fallline.core.spec import NUMBERS, OF_PYTHON, Spec, spec_of

if TYPE_CHECKING:
    from fallline.core.op import Op

UFUNCS: dict[Any, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}

_depth = itertools.count(1)


class Level:
    """One running transformation. A level opened later lies above (has the greater depth).

    It is open while the user's function runs; a tracer that is used after that has leaked.
    """

    __slots__ = ("depth", "open")

    def __init__(self) -> None:
        self.depth = next(_depth)
        self.open = True

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Do `op`, at least one of whose arguments is a tracer of this level."""
        raise NotImplementedError

    def is_result(self, tracer: Tracer) -> bool:
        """Whether a tracer of this level has memory of its own: no argument, no view."""
        return True


def bind(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Do an operation at the highest level among its arguments; on plain arrays, compute it."""
    level: Level | None = None
    for a in args:
        if a.__class__ is Tracer and (level is None or a.level.depth > level.depth):
            level = a.level
    if level is None:
        y = op.eval(*args, **params)
        return _weakened(op, args, y) if args[0].__class__ in NUMBERS else y
    if not level.open:
        raise leaked()
    return level.process(op, args, params)


def _weakened(op: Op, args: Sequence[Any], y: Any) -> Any:
    """Python numbers make Python numbers, so that they still take the type of what they meet."""
    if op.kind != "elementwise" or any(a.__class__ not in NUMBERS for a in args):
        return y
    return y.item() if getattr(y, "dtype", None) in OF_PYTHON else y


def leaked() -> TracingError:
    """The error for a tracer that outlived its transformation."""
    return TracingError(
        "a traced array was used after the transformation that made it (grad, vjp, jvp, trace) had "
        "ended: it was stored outside the function. Return it, or hand it out with has_aux=True."
    )


def operand(x: Any) -> Any:
    """What NumPy would make of an argument: lists become arrays, arrays and numbers stay."""
    kind = x.__class__
    if kind is Tracer or kind is np.ndarray or kind in NUMBERS:
        return x
    return x if isinstance(x, np.generic) else np.asarray(x)


class Tracer:
    """A traced array: a level, a value, and what the level keeps with it.

    The value is an array, a lower tracer or a spec.
    """

    __slots__ = ("extra", "level", "value")
    __array_priority__ = 1000

    def __init__(self, level: Level, value: Any, extra: Any = None) -> None:
        self.level = level
        self.value = value
        self.extra = extra

    # What is known of it.

    @property
    def spec(self) -> Spec:
        return spec_of(self.value)

    @property
    def shape(self) -> tuple[int, ...]:
        return getattr(self.value, "shape", ())

    @property
    def dtype(self) -> np.dtype[Any]:
        return spec_of(self.value).dtype

    @property
    def weak(self) -> bool:
        return spec_of(self.value).weak

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return spec_of(self.value).size

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        return self

    # What NumPy asks of it.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if kwargs.pop("out", None) is not None or method == "at":
            raise TracingError(
                f"{name}: a traced array cannot be written into an existing one (out=, .at or an "
                "in-place operator such as +=). Write a = a + b instead."
            )
        if method == "reduce" and ufunc in _REDUCTIONS:
            return FUNCTIONS[_REDUCTIONS[ufunc]](*inputs, **{"axis": 0, **kwargs})
        if method == "outer" and ufunc in UFUNCS:
            a, b = map(operand, inputs)
            return UFUNCS[ufunc](np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)
        if method != "__call__" or ufunc not in UFUNCS:
            owner = "np." if getattr(np, name, None) is ufunc else ""
            _unsupported(owner + name + (f".{method}" if method != "__call__" else ""), name)
        if kwargs:
            raise UnsupportedError(
                f"np.{name}: the argument {next(iter(kwargs))}= is not supported on traced arrays. "
                "Use np.where or .astype instead."
            )
        return UFUNCS[ufunc](*map(operand, inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = FUNCTIONS.get(function)
        if found is None:
            owner = function.__module__.replace("numpy", "np", 1)
            _unsupported(f"{owner}.{function.__name__}", function.__name__)
        return found(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        method = METHODS.get(name)
        if method is None:
            raise AttributeError(f"a traced array has no attribute {name!r}.{_hint(name, METHODS)}")
        return lambda *args, **kwargs: method(self, *args, **kwargs)

    # What would lose the trace, and what to write instead.

    def __bool__(self) -> bool:
        what = "a branch (if, while, and, or, not) on a traced value"
        cure = "np.where(condition, a, b), np.logical_and, np.logical_or"
        return bool(self._concrete(what, cure))

    def _concrete(self, what: str, cure: str) -> Any:
        value = _innermost(self)
        if value.__class__ is Spec:
            raise TracingError(
                f"{what} cannot be compiled: the value is not known while tracing. "
                f"Write {cure} instead."
            )
        return value

    def _refuse(self, what: str, cure: str) -> NoReturn:
        value = self.value
        while value.__class__ is Tracer:
            value = value.value
        why = (
            "needs a value that is not known while a function is compiled."
            if value.__class__ is Spec
            else "would lose the gradient of a traced array."
        )
        raise TracingError(f"{what} {why} {cure}")

    def __float__(self) -> float:
        self._refuse(
            "float(x), a function of math, or writing into a plain array (buf[i] = x),",
            "Keep the array, use np.exp for math.exp, or build the result with np.stack.",
        )

    def __int__(self) -> int:
        self._refuse(
            "int(x)",
            "Keep the array, or take the number from a value outside the traced function.",
        )

    def __complex__(self) -> complex:
        self._refuse("complex(x)", "Complex numbers are not traced.")

    def __index__(self) -> int:
        self._refuse(
            "using x as an index or as a size",
            "Index an array with np.take; pass a size by keyword, which makes it static.",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse(
            "np.array(x), or a list with traced arrays in it,",
            "Leave out np.asarray, or use np.stack([...]) or np.concatenate([...]).",
        )

    def item(self, *args: Any) -> NoReturn:
        self._refuse("x.item()", "Keep the array; outside the function it is a plain one.")

    tolist = item

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TracingError(
            "a traced array cannot be written to (a[i] = x). "
            "Build the new one with np.where, np.concatenate or np.stack."
        )

    def __hash__(self) -> int:
        return id(self)

    # What Python asks of it.

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return METHODS["__getitem__"](self, index)

    def __repr__(self) -> str:
        return f"Tracer({self.value!r})"

    def __format__(self, how: str) -> str:
        value = _innermost(self)
        return repr(value) if value.__class__ is Spec else format(value, how)


def _innermost(x: Any) -> Any:
    while x.__class__ is Tracer:
        x = x.value
    return x


_REDUCTIONS: dict[Any, Any] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known, alike=0.8)  # of so many names, one is always somewhat like it
    return f" Did you mean {near}?" if near else ""


def _unsupported(what: str, name: str) -> NoReturn:
    names = [function.__name__ for function in (*UFUNCS, *FUNCTIONS)]
    raise UnsupportedError(
        f"{what} is not supported on traced arrays.{_hint(name, names)} "
        "Write it with supported functions, or declare it with fl.ops.primitive."
    )


def _in_place(symbol: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    """a += b makes a new array of a result; an argument or a view it would change for others."""

    def operation(self: Any, other: Any) -> Any:
        if self.shape and not self.level.is_result(self):
            raise TracingError(
                f"an argument, or a part of another array, cannot be changed in place while it is "
                f"traced (a {symbol}= b). Write a = a {symbol} b instead."
            )
        return forward(self, other)

    return operation


def _operator(ufunc: np.ufunc) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Any, other: Any) -> Any:
        return UFUNCS[ufunc](self, operand(other))

    def backward(self: Any, other: Any) -> Any:
        return UFUNCS[ufunc](operand(other), self)

    return forward, backward


_BINARY: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
_COMPARISON: dict[str, Any] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNARY: dict[str, Any] = {
    "neg": np.negative,
    "pos": np.positive,
    "abs": np.absolute,
    "invert": np.invert,
}
_SYMBOLS = dict(zip(_BINARY, ["+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>"]))
for _symbol, _ufunc in _BINARY.items():
    _forward, _backward = _operator(_ufunc)
    setattr(Tracer, f"__{_symbol}__", _forward)
    setattr(Tracer, f"__r{_symbol}__", _backward)
    setattr(Tracer, f"__i{_symbol}__", _in_place(_SYMBOLS[_symbol], _forward))
for _symbol, _ufunc in _COMPARISON.items():
    setattr(Tracer, f"__{_symbol}__", _operator(_ufunc)[0])
for _symbol, _ufunc in _UNARY.items():
    setattr(Tracer, f"__{_symbol}__", (lambda u: lambda self: UFUNCS[u](self))(_ufunc))
