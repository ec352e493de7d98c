"""Pointers with bounds: what kernels are compiled with where every access is to be checked.

A pointer of a kernel is an address, and nothing stops a kernel from going astray with it. In a
kernel whose text is `checked_text` of another, each pointer is five words instead:

    place    the address
    low      where its buffer begins
    high     where its buffer ends
    record   where the first violation is written down
    number   which of the kernel's parameters it is; SCRATCH for memory of the kernel's own

Whoever reads or writes memory asks `element` for the address to do it at, and is understood with
either kind; with the second kind, an access that is not inside the buffer is written down and sent
to a spare place, so that no memory is harmed, and the kernel goes on to its end. LLVM's types see
to it that no emitter takes five words for an address and forgets to ask.

A record is made by Python (`fallline.compiler.checking`), which tells of it.
"""

from __future__ import annotations

from typing import TypeAlias

from llvmlite import ir

# Words of a record. What is at SPARE is read and written by accesses that went astray.
FOUND, PARAMETER, WRITES, OFFSET, BYTES, SIZE, SPARE, RECORD_WORDS = 0, 1, 2, 3, 4, 5, 8, 8 + 64
SCRATCH = -1
OUTSIDE = 4  # the status of a walk in which a kernel has found a violation
_MARK = "# every access is checked\n"

_BIT, _INT = ir.IntType(1), ir.IntType(64)
_PLACE, _LOW, _HIGH, _RECORD, _NUMBER = range(5)
_Size: TypeAlias = "int | ir.Value"


def checked_text(text: str) -> str:
    """The text of the same kernel with every access checked.

    Its arguments begin with the address of a record; each pointer and each scalar has four slots:
    base, offset, and from where to where its buffer lies, in bytes from the base.
    """
    name, newline, rest = text.partition("\n")
    if not name.startswith("# name:"):
        name, newline, rest = "", "", text
    return f"{name}{newline}{_MARK}{rest}"


def is_checked(text: str) -> bool:
    """Whether a text was made by `checked_text`."""
    return text.startswith(_MARK) or text.partition("\n")[2].startswith(_MARK)


# Emitting -----------------------------------------------------------------------------------------


def with_bounds(
    builder: ir.IRBuilder,
    place: ir.Value,
    low: ir.Value,
    high: ir.Value,
    record: ir.Value,
    number: int,
) -> ir.Value:
    """A pointer with bounds; all but `place` are integers."""
    values = [place, low, high, record, _INT(number)]
    pointer = ir.Constant(ir.LiteralStructType([v.type for v in values]), ir.Undefined)
    for i, value in enumerate(values):
        pointer = builder.insert_value(pointer, value, i)
    return pointer


def element_type(pointer: ir.Value) -> ir.Type:
    """The LLVM type of what a pointer of either kind points to."""
    thin = pointer.type.elements[_PLACE] if _has_bounds(pointer) else pointer.type
    return thin.pointee


def element(
    builder: ir.IRBuilder,
    pointer: ir.Value,
    index: _Size,
    nbytes: _Size,
    *,
    writes: bool,
    mask: ir.Value | None = None,
) -> ir.Value:
    """Where to read or write `nbytes` bytes from an element on.

    With a mask, of equally many bytes in each lane, only those between the first and the last
    lane on it are touched.
    """
    place = builder.gep(_address(builder, pointer), [_int(index)])
    if not _has_bounds(pointer):
        return place
    first, count = (_int(0), _int(nbytes)) if mask is None else _touched(builder, mask, nbytes)
    spare, fits = _check(builder, pointer, place, first, count, writes)
    return builder.select(fits, place, builder.inttoptr(spare, place.type))


def span(
    builder: ir.IRBuilder, pointer: ir.Value, count: ir.Value, *, writes: bool
) -> tuple[ir.Value, ir.Value]:
    """The address of a pointer, and whether `count` elements from it on may be touched.

    For functions that are not ours, which are not called if not.
    """
    place = _address(builder, pointer)
    if not _has_bounds(pointer):
        return place, _BIT(1)
    begin, end = (builder.ptrtoint(p, _INT) for p in (place, builder.gep(place, [count])))
    nbytes = builder.sub(end, begin)
    return place, _check(builder, pointer, place, _int(0), nbytes, writes)[1]


def scratch(builder: ir.IRBuilder, like: ir.Value, place: ir.Value, count: int) -> ir.Value:
    """A pointer of the same kind as another to `count` elements of the kernel's own."""
    if not _has_bounds(like):
        return place
    low, high = (builder.ptrtoint(p, _INT) for p in (place, builder.gep(place, [_int(count)])))
    return with_bounds(builder, place, low, high, builder.extract_value(like, _RECORD), SCRATCH)


def _has_bounds(pointer: ir.Value) -> bool:
    return isinstance(pointer.type, ir.LiteralStructType)


def _address(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    return builder.extract_value(pointer, _PLACE) if _has_bounds(pointer) else pointer


def _int(value: _Size) -> ir.Value:
    return _INT(value) if isinstance(value, int) else value


def _touched(builder: ir.IRBuilder, mask: ir.Value, nbytes: _Size) -> tuple[ir.Value, ir.Value]:
    """Where the lanes on a mask begin, and from there to where they end, in bytes."""
    lanes = mask.type.count
    bits = builder.zext(builder.bitcast(mask, ir.IntType(lanes)), _INT)
    first = builder.cttz(bits, _BIT(0))
    end = builder.sub(_int(64), builder.ctlz(bits, _BIT(0)))
    each = builder.udiv(_int(nbytes), _int(lanes))
    count = builder.mul(builder.sub(end, first), each)
    none = builder.icmp_unsigned("==", bits, _int(0))
    return builder.mul(first, each), builder.select(none, _int(0), count)


def _check(
    builder: ir.IRBuilder,
    pointer: ir.Value,
    place: ir.Value,
    first: ir.Value,
    nbytes: ir.Value,
    writes: bool,
) -> tuple[ir.Value, ir.Value]:
    """The spare place, and whether `nbytes` bytes, `first` bytes after a place, lie inside."""
    low, high, record, number = (
        builder.extract_value(pointer, i) for i in (_LOW, _HIGH, _RECORD, _NUMBER)
    )
    offset = builder.sub(builder.add(builder.ptrtoint(place, _INT), first), low)
    size = builder.sub(high, low)
    # Unsigned: an offset before the beginning is very large.
    fits = builder.and_(
        builder.icmp_unsigned("<=", nbytes, size),
        builder.icmp_unsigned("<=", offset, builder.sub(size, nbytes)),
    )
    fits = builder.or_(fits, builder.icmp_unsigned("==", nbytes, _int(0)))
    with builder.if_then(builder.not_(fits), likely=False):
        words = [record, number, _int(int(writes)), offset, nbytes, size]
        builder.call(_noting(builder.module), words)
    return builder.add(record, _int(8 * SPARE)), fits


def _noting(module: ir.Module) -> ir.Function:
    """The function that writes a violation into a record, if it is the first."""
    name = "fallline_note_violation"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_INT] * (BYTES + 2)), name)
    function.linkage = "linkonce_odr"  # other modules of the kernel may have it as well
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    record, *words = function.args
    at = builder.inttoptr(record, _INT.as_pointer())
    pair = builder.cmpxchg(at, _int(0), _int(1), "seq_cst", "seq_cst")  # jobs are on many threads
    with builder.if_then(builder.extract_value(pair, 1)):
        for i, word in enumerate(words, PARAMETER):
            builder.store(word, builder.gep(at, [_int(i)]))
    builder.ret_void()
    return function
