"""LLVM values that answer Python's operators: a formula emits the instructions of its evaluation.

A `Value` is typed as a NumPy scalar is. Both operands of an operator have one type, and a Python
number takes the type of the other operand. Nothing is promoted, no fast-math flag is set, nothing
is contracted: `x * y + z` rounds twice, `fma(x, y, z)` once. Formulas branch with `where`, which
computes both sides, so that LLVM can vectorise a loop of them. Because operators, `astype` and
`view` are spelled as NumPy spells them, a formula can serve arrays as well.
"""

from __future__ import annotations

import functools
import hashlib
import math
import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import DTypeLike

from fallline.compiler import host

_FLOATS = {4: ir.FloatType(), 8: ir.DoubleType()}


def llvm_type(dtype: np.dtype) -> ir.Type:
    """The LLVM type of a scalar in a register: float, double, i1 for bool, iN."""
    if dtype.kind == "f":
        return _FLOATS[dtype.itemsize]
    return ir.IntType(1 if dtype.kind == "b" else 8 * dtype.itemsize)


Operator = Callable[["Value", Any], "Value"]


def _operator(*instructions: str) -> tuple[Operator, Operator]:
    """x op y and its reflection, which emit the instruction for (float, signed, unsigned)."""

    def emit(x: Value, y: Value) -> Value:
        instruction = instructions["fiu".find(x.dtype.kind)]  # bool is unsigned
        return Value(x.builder, getattr(x.builder, instruction)(x.ir, y.ir), x.dtype)

    return lambda x, y: emit(x, x.peer(y)), lambda x, y: emit(x.peer(y), x)


def _comparison(symbol: str) -> Operator:
    """x symbol y. With NaN, != is true and the others are false, as in Python."""

    def compare(x: Value, y: Any) -> Value:
        builder, y = x.builder, x.peer(y)
        if x.dtype.kind == "f":
            emit = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        else:
            emit = builder.icmp_signed if x.dtype.kind == "i" else builder.icmp_unsigned
        return Value(builder, emit(symbol, x.ir, y.ir), np.bool_)

    return compare


class Value:
    """One scalar in a register: its LLVM value `ir` and its NumPy `dtype`."""

    __slots__ = ("builder", "dtype", "ir")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, dtype: DTypeLike) -> None:
        self.builder, self.ir, self.dtype = builder, value, np.dtype(dtype)

    def constant(self, number: float) -> Value:
        """A Python number as a Value of this type."""
        number = float(number) if self.dtype.kind == "f" else int(number)
        return Value(self.builder, ir.Constant(llvm_type(self.dtype), number), self.dtype)

    def peer(self, other: Any) -> Value:
        """The other operand: a Value of this type, or a number that takes it."""
        if not isinstance(other, Value):
            return self.constant(other)
        if other.dtype != self.dtype:
            raise TypeError(
                f"Value: operands differ in type: {self.dtype} and {other.dtype}. "
                "Cast one with astype."
            )
        return other

    __add__, __radd__ = _operator("fadd", "add", "add")
    __sub__, __rsub__ = _operator("fsub", "sub", "sub")
    __mul__, __rmul__ = _operator("fmul", "mul", "mul")
    __truediv__, __rtruediv__ = _operator("fdiv", "sdiv", "udiv")  # of integers towards zero
    __mod__, __rmod__ = _operator("frem", "srem", "urem")  # with the sign of the dividend
    __and__, __rand__ = _operator("", "and_", "and_")
    __or__, __ror__ = _operator("", "or_", "or_")
    __xor__, __rxor__ = _operator("", "xor", "xor")
    __lshift__, __rlshift__ = _operator("", "shl", "shl")
    __rshift__, __rrshift__ = _operator("", "ashr", "lshr")
    __lt__, __le__, __gt__, __ge__ = map(_comparison, ("<", "<=", ">", ">="))
    __eq__, __ne__ = map(_comparison, ("==", "!="))  # type: ignore[assignment]

    def __invert__(self) -> Value:
        return Value(self.builder, self.builder.not_(self.ir), self.dtype)

    def __neg__(self) -> Value:
        negate = self.builder.fneg if self.dtype.kind == "f" else self.builder.neg
        return Value(self.builder, negate(self.ir), self.dtype)

    def call(self, name: str, *others: Any, flags: tuple[str, ...] = ()) -> Value:
        """Call the LLVM intrinsic `llvm.name` of this type on self and others."""
        values = [self.ir, *(self.peer(other).ir for other in others)]
        kind = ir.FunctionType(self.ir.type, [v.type for v in values])
        intrinsic = self.builder.module.declare_intrinsic(f"llvm.{name}", [self.ir.type], kind)
        return Value(self.builder, self.builder.call(intrinsic, values, fastmath=flags), self.dtype)

    def view(self, dtype: DTypeLike) -> Value:
        """The same bits as another type of the same width."""
        cast = self.builder.bitcast(self.ir, llvm_type(np.dtype(dtype)))
        return Value(self.builder, cast, dtype)

    def astype(self, dtype: DTypeLike) -> Value:
        """Cast as NumPy does. A float outside an integer's range gives some integer."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        if dtype.kind == "b":
            return self != 0
        if isinstance(self.ir, ir.Constant) and dtype.kind == "f" and self.dtype.kind != "b":
            number = float(dtype.type(self.ir.constant))  # formulas look at constants
            return Value(self.builder, ir.Constant(llvm_type(dtype), number), dtype)
        if self.dtype.kind == "f" and dtype.kind != "f":
            return self._to_integer(dtype)
        cast = self._from_float if self.dtype.kind == "f" else self._from_integer
        return Value(self.builder, cast(dtype), dtype)

    def _from_float(self, dtype: np.dtype) -> ir.Value:
        wider = dtype.itemsize > self.dtype.itemsize
        return (self.builder.fpext if wider else self.builder.fptrunc)(self.ir, llvm_type(dtype))

    def _from_integer(self, dtype: np.dtype) -> ir.Value:
        signed, kind = self.dtype.kind == "i", llvm_type(dtype)
        if dtype.kind == "f":
            return (self.builder.sitofp if signed else self.builder.uitofp)(self.ir, kind)
        if kind.width <= self.ir.type.width:
            return self.builder.trunc(self.ir, kind)  # of an equal width: nothing
        return (self.builder.sext if signed else self.builder.zext)(self.ir, kind)

    def _to_integer(self, dtype: np.dtype) -> Value:
        if dtype == np.uint64:
            return Value(self.builder, self.builder.fptoui(self.ir, llvm_type(dtype)), dtype)
        # Narrow and unsigned types wrap around, as with C compilers: through a wider signed one.
        wide = np.dtype(np.int32 if dtype.itemsize <= 2 or dtype == np.int32 else np.int64)
        result = self.builder.fptosi(self.ir, llvm_type(wide))
        return Value(self.builder, result, wide).astype(dtype)


def integers(builder: ir.IRBuilder, *values: ir.Value) -> Iterator[Value]:
    """The int64 arguments of an emitter as Values."""
    return (Value(builder, value, np.int64) for value in values)


def where(condition: Value, x: Value | float, y: Value | float) -> Value:
    """x if condition else y; both are computed. One of them may be a number."""
    if not isinstance(x, Value):
        assert isinstance(y, Value)
        x = y.constant(x)
    y = x.peer(y)
    return Value(x.builder, x.builder.select(condition.ir, x.ir, y.ir), x.dtype)


def fma(x: Value, y: Value | float, z: Value | float) -> Value:
    """x * y + z, rounded once.

    A processor that cannot do it rounds twice, but the first time to twice the precision.
    """
    if fuses():
        return x.call("fma", y, z)
    y, z = x.peer(y), x.peer(z)
    if x.dtype == np.float32:
        return (x.astype(np.float64) * y.astype(np.float64) + z.astype(np.float64)).astype(x.dtype)
    product, low = _exact_product(x, y)
    total = product + z
    of_z = total - product
    rest = ((product - (total - of_z)) + (z - of_z)) + low
    # A rest of 0 would spoil the sign of a zero; it overflows with the total or shortly before.
    return where((absolute(rest) < math.inf) & (rest != 0), total + rest, total)


def multiply_add(x: Value, y: Value | float, z: Value | float) -> Value:
    """x * y + z where it does not matter how often it is rounded: once if the processor can."""
    return x.call("fma" if fuses() else "fmuladd", y, z)


@functools.cache
def fuses() -> bool:
    """Whether the processor has an instruction for fma; of x86 those without AVX2 have none."""
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "x86")
    return not x86 or "fma" in host.features()


def _exact_product(x: Value, y: Value) -> tuple[Value, Value]:
    """x * y of float64 in two words, from products of halves. Dekker 1971."""
    product = x * y
    (x, x_low), (y, y_low) = _halves(x), _halves(y)
    return product, (((x * y - product) + x * y_low) + x_low * y) + x_low * y_low


def _halves(x: Value) -> tuple[Value, Value]:
    high = ((x.view(np.int64) + (1 << 26)) & -(1 << 27)).view(np.float64)
    return high, x - high


def sqrt(x: Value) -> Value:
    """The square root, correctly rounded."""
    return x.call("sqrt")


def absolute(x: Value) -> Value:
    """|x| of a float: its sign bit cleared."""
    return x.call("fabs")


def copysign(x: Value, sign: Value) -> Value:
    """|x| with the sign of another."""
    return x.call("copysign", sign)


def lookup(table: tuple[float, ...], index: Value) -> Value:
    """The float64 of a constant table at an index, which must be inside."""
    builder, kind = index.builder, ir.ArrayType(_FLOATS[8], len(table))
    name = f"table.{hashlib.sha256(np.array(table).tobytes()).hexdigest()[:16]}"
    data = builder.module.globals.get(name)
    if data is None:
        data = ir.GlobalVariable(builder.module, kind, name)
        data.initializer, data.global_constant = ir.Constant(kind, table), True
        data.linkage = "internal"
    place = builder.gep(data, [ir.IntType(32)(0), index.ir], inbounds=True)
    return Value(builder, builder.load(place), np.float64)


def library(name: str, x: Value, *others: Value) -> Value:
    """The C library's function of doubles; of float32 computed in float64, then rounded."""
    arguments = [v.astype(np.float64).ir for v in (x, *others)]
    module = x.builder.module
    function = module.globals.get(name)
    if function is None:
        double = _FLOATS[8]
        function = ir.Function(module, ir.FunctionType(double, [double] * len(arguments)), name)
        function.attributes.add("nounwind")
        function.attributes.add("readnone")  # nobody reads errno: equal calls may merge
    result = x.builder.call(function, arguments)
    return Value(x.builder, result, np.float64).astype(x.dtype)
