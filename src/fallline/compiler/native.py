"""From the text of a kernel to object code: Numba's front end, then LLVM, once.

Numba types and lowers the function; its optimisation, wrappers, run time and cache are left out.
What it lowered is joined with the C function that the kernel exports, which unpacks the arguments;
everything else becomes private, and LLVM optimises the whole and emits it. A text of
`bounds.checked_text` becomes a kernel whose pointers have bounds.

This module imports Numba: only `store` imports it, and only when a kernel is new.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import operator
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import compiler, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel.models import PointerModel, StructModel
from numba.core.errors import NumbaError
from numba.core.extending import lower_builtin, register_model
from numba.core.funcdesc import FunctionDescriptor
from numba.core.registry import cpu_target
from numba.np.numpy_support import as_dtype, from_dtype

from fallline.compiler import host
from fallline.compiler.library import bounds

_MATHEMATICS = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 "
    "expm1 fabs floor fma fmax fmin fmod frexp hypot ldexp lgamma log log10 log1p log2 modf "
    "nearbyint pow remainder rint round sin sincos sinh sqrt tan tanh tgamma trunc"
)
# What object code may call: these functions of the C library, and nothing of Numba's or Python's.
EXTERNAL = frozenset(
    [name + suffix for name in _MATHEMATICS.split() for suffix in ("", "f")]
    + ["memcpy", "memmove", "memset", "sched_yield", "SwitchToThread"]
)


_EXCEPTION = "an_exception"
_INT64 = ir.IntType(64)


class KernelError(Exception):
    """The text of a kernel is not one that can be compiled."""


def compile_kernel(text: str, symbol: str, path: Path | None = None) -> bytes:
    """The object code of a kernel: it exports the function `symbol`, and nothing else."""
    with global_compiler_lock:  # LLVM's modules share one context, Numba's included
        return _target_machine().emit_object(optimised(text, symbol, path))


def optimised(text: str, symbol: str, path: Path | None = None) -> llvm.ModuleRef:
    """The LLVM module of a kernel as it is emitted. `path` is where tracebacks find the text."""
    function = _import(text, symbol, path).kernel
    checked = bounds.is_checked(text)
    annotations = function.__annotations__.items()
    parameters = [_parameter(symbol, name, said, checked) for name, said in annotations]
    with global_compiler_lock:
        try:
            module, descriptor = _lower(function, parameters, symbol, checked)
        except NumbaError as error:
            raise KernelError(f"{symbol}: {error}") from error
        exported = _exported(symbol, parameters, descriptor, checked)
        module.link_in(llvm.parse_assembly(str(exported)))
        _close(module, symbol)
        _optimise(module)
    _check_external(module, symbol)
    return module


def _import(text: str, symbol: str, path: Path | None) -> Any:
    """Run the text as a module. Functions beside `kernel` are helpers that Numba inlines."""
    file = str(path) if path else f"<fallline kernel {symbol}>"
    if path is None:
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(f"fallline_kernels.{symbol}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # where Numba looks for a function's globals
    exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    functions = {n: f for n, f in vars(module).items() if isinstance(f, FunctionType)}
    if functions.pop("kernel", None) is None:
        raise KernelError(f"{symbol}: the text of a kernel must define a function named kernel.")
    for name, helper in functions.items():
        if helper.__module__ == module.__name__:
            setattr(module, name, njit(inline="always")(helper))
    return module


class Pointer(types.CPointer):
    """A pointer to elements as they lie in memory: a bool is one byte, unlike in CPointer."""


class BoundedPointer(Pointer):
    """The same with the bounds of its buffer; see `bounds`."""


register_model(Pointer)(PointerModel)


@register_model(BoundedPointer)
class _BoundedModel(StructModel):
    """The words of `bounds.with_bounds`."""

    def __init__(self, manager: Any, kind: BoundedPointer) -> None:
        words = [(name, types.int64) for name in ("low", "high", "record", "number")]
        super().__init__(manager, kind, [("place", Pointer(kind.dtype)), *words])


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _get_item(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    pointer, index = arguments
    nbytes = _itemsize(signature.args[0])
    place = bounds.element(builder, pointer, index, nbytes, writes=False)
    return _load(context, builder, signature.return_type, place)


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Any)
def _set_item(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> None:
    pointer, index, value = arguments
    nbytes = _itemsize(signature.args[0])
    model = context.data_model_manager[signature.args[0].dtype]
    place = bounds.element(builder, pointer, index, nbytes, writes=True)
    builder.store(model.as_data(builder, value), place)


def _itemsize(pointer: Pointer) -> int:
    return as_dtype(pointer.dtype).itemsize


def _load(context: Any, builder: ir.IRBuilder, kind: types.Type, pointer: ir.Value) -> ir.Value:
    value = builder.load(pointer)
    if kind == types.boolean:
        return builder.icmp_unsigned("!=", value, value.type(0))
    return context.data_model_manager[kind].from_data(builder, value)


class _Parameter(NamedTuple):
    kind: types.Type
    in_memory: bool  # passed by its place rather than by value


def _parameter(symbol: str, name: str, annotation: object, checked: bool) -> _Parameter:
    if annotation == "int":
        return _Parameter(types.int64, False)
    pointer = BoundedPointer if checked else Pointer
    try:
        element = from_dtype(np.dtype(str(annotation).removesuffix("*")))
        if element == types.float16 or not isinstance(element, types.Number | types.Boolean):
            raise TypeError("kernels do not compute with it")
    except (TypeError, NotImplementedError) as error:
        raise KernelError(
            f'{symbol}: parameter {name} must be annotated "int", "<dtype>" or "<dtype>*"; '
            f"got {annotation!r} ({error})."
        ) from None
    return _Parameter(pointer(element) if str(annotation).endswith("*") else element, True)


class _Library(JITCodeLibrary):
    """Collects what Numba lowers. It is optimised later, together with its caller."""

    def _optimize_functions(self, ll_module: llvm.ModuleRef) -> None:
        pass


def _lower(
    function: FunctionType, parameters: list[_Parameter], symbol: str, checked: bool
) -> tuple[llvm.ModuleRef, FunctionDescriptor]:
    """Numba's front end: types, then LLVM instructions."""
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    target.refresh()
    library = _Library(target.codegen(), symbol)
    kinds = tuple(p.kind for p in parameters)
    compiled = compiler.compile_extra(
        typing, target, function, kinds, types.void, _flags(checked), {}, library=library
    )
    module = library._final_module
    for callee in dict.fromkeys(library._linking_libraries):
        module.link_in(callee._get_module_for_linking(), preserve=True)
    return module, compiled.fndesc


def _flags(checked: bool) -> Any:
    flags: Any = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"  # x / 0 is inf; a check would keep loops from being vectorised
    flags.noalias = not checked  # the promise of a kernel's pointers; accesses astray may break it
    return flags


def _exported(
    symbol: str, parameters: list[_Parameter], descriptor: FunctionDescriptor, checked: bool
) -> ir.Module:
    """The module of `void symbol(char** bases, int64_t* args)`: it calls the lowered function."""
    context = cpu_target.target_context
    module = context.codegen()._create_empty_module(symbol)
    lowered = ir.Function(
        module,
        context.call_conv.get_function_type(descriptor.restype, descriptor.argtypes),
        descriptor.llvm_func_name,
    )
    byte = ir.IntType(8)
    kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer().as_pointer(), _INT64.as_pointer()])
    bases, args = (function := ir.Function(module, kind, symbol)).args
    builder = ir.IRBuilder(function.append_basic_block())
    arguments = _Arguments(context, builder, bases, args, checked)
    values = [arguments.value(p, number) for number, p in enumerate(parameters)]
    call = context.call_conv.call_function
    status, _ = call(builder, lowered, descriptor.restype, descriptor.argtypes, values)
    with builder.if_then(status.is_error):  # gone after optimisation, unless it can happen
        builder.call(ir.Function(module, ir.FunctionType(ir.VoidType(), []), _EXCEPTION), [])
    if checked:
        arguments.report()
    builder.ret_void()
    return module


class _Arguments:
    """Reads `bases` and `args`, slot by slot, as `store` and `bounds.checked_text` say."""

    def __init__(
        self, context: Any, builder: ir.IRBuilder, bases: ir.Value, args: ir.Value, checked: bool
    ) -> None:
        self.context, self.builder, self.bases = context, builder, bases
        self._slots = (builder.load(builder.gep(args, [_INT64(k)])) for k in itertools.count())
        self.record = next(self._slots) if checked else None

    def value(self, parameter: _Parameter, number: int) -> ir.Value:
        """The next parameter's."""
        if not parameter.in_memory:
            return next(self._slots)
        if isinstance(parameter.kind, Pointer):
            return self._pointer(parameter.kind.dtype, number)
        pointer, nbytes = self._pointer(parameter.kind, number), as_dtype(parameter.kind).itemsize
        place = bounds.element(self.builder, pointer, 0, nbytes, writes=False)
        return _load(self.context, self.builder, parameter.kind, place)

    def _pointer(self, element: types.Type, number: int) -> ir.Value:
        builder = self.builder
        base = builder.load(builder.gep(self.bases, [next(self._slots)]))
        place = builder.gep(base, [next(self._slots)])
        place = builder.bitcast(place, self.context.get_data_type(element).as_pointer())
        if self.record is None:
            return place
        start = builder.ptrtoint(base, _INT64)
        low, high = (builder.add(start, next(self._slots)) for _ in range(2))
        return bounds.with_bounds(builder, place, low, high, self.record, number)

    def report(self) -> None:
        """Stop the walk if a violation was found: its status is the first word of the bases."""
        builder = self.builder
        found = builder.load(builder.inttoptr(self.record, _INT64.as_pointer()))
        with builder.if_then(builder.icmp_unsigned("!=", found, _INT64(0))):
            control = builder.load(builder.gep(self.bases, [_INT64(0)]))
            status = builder.bitcast(control, _INT64.as_pointer())
            builder.store(_INT64(bounds.OUTSIDE), status)


def _close(module: llvm.ModuleRef, symbol: str) -> None:
    """Make all but the exported function private, so that it is inlined or dropped."""
    for item in (*module.functions, *module.global_variables):
        if not item.is_declaration and item.name != symbol:
            item.linkage = "internal"


def _optimise(module: llvm.ModuleRef) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(_target_machine(), options)
    builder.getModulePassManager().run(module, builder)


@functools.cache
def _target_machine() -> llvm.TargetMachine:
    cpu, features = host.cpu()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default", jit=True
    )


def _check_external(module: llvm.ModuleRef, symbol: str) -> None:
    declared = [i for i in (*module.functions, *module.global_variables) if i.is_declaration]
    foreign = {item.name for item in declared if not item.name.startswith("llvm.")} - EXTERNAL
    if _EXCEPTION in foreign:
        raise KernelError(f"{symbol}: a kernel cannot raise exceptions; write a status instead.")
    if foreign:
        raise KernelError(
            f"{symbol}: a kernel may call only the C library; got {', '.join(sorted(foreign))}. "
            "Strings, lists, new arrays and Python objects need Numba's run time."
        )
