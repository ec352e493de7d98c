"""From the text of a kernel to object code: Numba's front end, then LLVM, once.

Numba types and lowers the function; its optimisation, wrappers, run time and cache are left out.
What it lowered is joined with the C function that the kernel exports, which unpacks the arguments;
everything else becomes private, and LLVM optimises the whole and emits it.

This module imports Numba: only `store` imports it, and only when a kernel is new.
"""

from __future__ import annotations

import functools
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
from numba.core.datamodel.models import PointerModel
from numba.core.errors import NumbaError
from numba.core.extending import lower_builtin, register_model
from numba.core.funcdesc import FunctionDescriptor
from numba.core.registry import cpu_target
from numba.np.numpy_support import from_dtype

from fallline.compiler import host

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


class KernelError(Exception):
    """The text of a kernel is not one that can be compiled."""


def compile_kernel(text: str, symbol: str, path: Path | None = None) -> bytes:
    """The object code of a kernel: it exports the function `symbol`, and nothing else."""
    with global_compiler_lock:  # LLVM's modules share one context, Numba's included
        return _target_machine().emit_object(optimised(text, symbol, path))


def optimised(text: str, symbol: str, path: Path | None = None) -> llvm.ModuleRef:
    """The LLVM module of a kernel as it is emitted. `path` is where tracebacks find the text."""
    function = _import(text, symbol, path).kernel
    parameters = [_parameter(symbol, *item) for item in function.__annotations__.items()]
    with global_compiler_lock:
        try:
            module, descriptor = _lower(function, parameters, symbol)
        except NumbaError as error:
            raise KernelError(f"{symbol}: {error}") from error
        module.link_in(llvm.parse_assembly(str(_exported(symbol, parameters, descriptor))))
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


register_model(Pointer)(PointerModel)


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _get_item(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    pointer, index = arguments
    return _load(context, builder, signature.return_type, builder.gep(pointer, [index]))


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Any)
def _set_item(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> None:
    pointer, index, value = arguments
    model = context.data_model_manager[signature.args[0].dtype]
    builder.store(model.as_data(builder, value), builder.gep(pointer, [index]))


def _load(context: Any, builder: ir.IRBuilder, kind: types.Type, pointer: ir.Value) -> ir.Value:
    value = builder.load(pointer)
    if kind == types.boolean:
        return builder.icmp_unsigned("!=", value, value.type(0))
    return context.data_model_manager[kind].from_data(builder, value)


class _Parameter(NamedTuple):
    kind: types.Type
    in_memory: bool  # passed as (base, offset) rather than by value


def _parameter(symbol: str, name: str, annotation: object) -> _Parameter:
    if annotation == "int":
        return _Parameter(types.int64, False)
    try:
        element = from_dtype(np.dtype(str(annotation).removesuffix("*")))
        if element == types.float16 or not isinstance(element, types.Number | types.Boolean):
            raise TypeError("kernels do not compute with it")
    except (TypeError, NotImplementedError) as error:
        raise KernelError(
            f'{symbol}: parameter {name} must be annotated "int", "<dtype>" or "<dtype>*"; '
            f"got {annotation!r} ({error})."
        ) from None
    return _Parameter(Pointer(element) if str(annotation).endswith("*") else element, True)


class _Library(JITCodeLibrary):
    """Collects what Numba lowers. It is optimised later, together with its caller."""

    def _optimize_functions(self, ll_module: llvm.ModuleRef) -> None:
        pass


def _lower(
    function: FunctionType, parameters: list[_Parameter], symbol: str
) -> tuple[llvm.ModuleRef, FunctionDescriptor]:
    """Numba's front end: types, then LLVM instructions."""
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    target.refresh()
    library = _Library(target.codegen(), symbol)
    kinds = tuple(p.kind for p in parameters)
    compiled = compiler.compile_extra(
        typing, target, function, kinds, types.void, _flags(), {}, library=library
    )
    module = library._final_module
    for callee in dict.fromkeys(library._linking_libraries):
        module.link_in(callee._get_module_for_linking(), preserve=True)
    return module, compiled.fndesc


def _flags() -> Any:
    flags: Any = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"  # x / 0 is inf; a check would keep loops from being vectorised
    flags.noalias = True  # the promise of a kernel's pointers
    return flags


def _exported(
    symbol: str, parameters: list[_Parameter], descriptor: FunctionDescriptor
) -> ir.Module:
    """The module of `void symbol(char** bases, int64_t* args)`: it calls the lowered function."""
    context = cpu_target.target_context
    module = context.codegen()._create_empty_module(symbol)
    lowered = ir.Function(
        module,
        context.call_conv.get_function_type(descriptor.restype, descriptor.argtypes),
        descriptor.llvm_func_name,
    )
    int64, byte = ir.IntType(64), ir.IntType(8)
    kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer().as_pointer(), int64.as_pointer()])
    bases, args = (function := ir.Function(module, kind, symbol)).args
    builder = ir.IRBuilder(function.append_basic_block())
    slots = (builder.load(builder.gep(args, [int64(k)])) for k in range(2 * len(parameters)))

    def value(parameter: _Parameter) -> ir.Value:
        if not parameter.in_memory:
            return next(slots)
        base = builder.load(builder.gep(bases, [next(slots)]))
        place = builder.gep(base, [next(slots)])
        if isinstance(parameter.kind, Pointer):
            return builder.bitcast(place, context.get_value_type(parameter.kind))
        place = builder.bitcast(place, context.get_data_type(parameter.kind).as_pointer())
        return _load(context, builder, parameter.kind, place)

    values = [value(p) for p in parameters]
    call = context.call_conv.call_function
    status, _ = call(builder, lowered, descriptor.restype, descriptor.argtypes, values)
    with builder.if_then(status.is_error):  # gone after optimisation, unless it can happen
        builder.call(ir.Function(module, ir.FunctionType(ir.VoidType(), []), _EXCEPTION), [])
    builder.ret_void()
    return module


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
