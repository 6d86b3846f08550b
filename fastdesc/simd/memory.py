"""The memory that SIMD values are read from and written to.

Memory is rows. It comes in three forms, and every function takes each of them:

    scratch array   one-dimensional, made by `scratch`: a row is one value, its tangent behind it
    Rows            (address, plane stride, row stride) in bytes: an array (planes, rows.., n); tangents are in plane 1
    plain Rows      (address, row stride): an array (rows.., n) of plain numbers

A place is a row and a column, the number of a scalar within the row; without a column it is the first. What is at a
place reaches as far as there are lanes, or over the n lanes that are given. Addresses keep nothing alive: a kernel that
takes the address of its own array says `keep(array)` when it no longer needs it.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastdesc.backend.jit import inner
from fastdesc.simd import codegen as code
from fastdesc.simd.arithmetic import slots

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
LINE = 64
"""Bytes of a cache line."""


def scratch(kind, n):
    """Memory for `n` values of this kind, not initialised; it begins at a cache line, so no value lies across two."""
    raise TypeError("scratch memory is for compiled code")


@overload(scratch)
def _scratch(kind, n):
    dtype = np.dtype(code.value_type(kind).scalar.name)

    line = LINE // np.dtype(dtype).itemsize

    def impl(kind, n):
        size = n * slots(kind)
        raw = np.empty(size + line, dtype)
        start = (-raw.ctypes.data % LINE) // raw.itemsize
        return raw[start : start + size]

    return impl


def rows_of(array, dual):
    """Rows of an array (rows.., n), or (2, rows.., n) if dual.

    The last axis must be contiguous and the rows evenly spaced; the caller keeps the array alive.
    """
    lead, strides = array.shape[dual:-1], array.strides[dual:-1]
    even = all(strides[k] == strides[k + 1] * lead[k + 1] for k in range(len(lead) - 1))
    if not even or (array.strides[-1] != array.itemsize and array.shape[-1] > 1):
        raise ValueError(f"rows of an array of shape {array.shape} and strides {array.strides} are not evenly spaced")
    return array.ctypes.data, array.strides[0] if dual else 0, strides[-1]


@inner
def keep(array):
    """Called last, so that an array lives as long as its address is in use."""
    array[:1] = 0


@intrinsic
def borrowed(typingctx, array):
    """The same array without a share in its memory; the caller's caller keeps it alive.

    Numba counts references at every call that takes an array, atomically; threads that share arrays wait for each
    other at that. Kernels borrow what they are handed.
    """

    def codegen(ctx, b, sig, args):
        a = cgutils.create_struct_proxy(array)(ctx, b, value=args[0])
        a.meminfo = cgutils.get_null_value(a.meminfo.type)
        a.parent = cgutils.get_null_value(a.parent.type)
        return a._getvalue()

    return array(array), codegen


# ---------------------------------------------------------------------------------------------- places


def _element(scalar):
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: _I32}[scalar]


def place(ctx, b, t, memory, where, plane, row, column):
    """Pointer to a scalar; `where` is memory of type `memory`, values in it are of type t."""
    size = t.scalar.bitwidth // 8
    if isinstance(memory, types.Array):
        at = b.add(b.mul(row, _I64(t.width * t.planes)), b.add(b.mul(plane, _I64(t.width)), column))
        return b.gep(ctx.make_array(memory)(ctx, b, where).data, [at])
    address, *plane_stride, row_stride = cgutils.unpack_tuple(b, where, memory.count)
    at = b.add(b.mul(row, row_stride), b.mul(column, _I64(size)))
    if plane_stride:
        at = b.add(at, b.mul(plane_stride[0], plane))
    return moved(b, b.inttoptr(address, _element(t.scalar).as_pointer()), at)


def moved(b, pointer, by):
    """The pointer so many bytes further."""
    return b.bitcast(b.gep(b.bitcast(pointer, _I8.as_pointer()), [by]), pointer.type)


def places(ctx, b, t, memory, where, row, column):
    """Pointers to a value's scalar and, where there is one, its tangent's."""
    planes = 1 if isinstance(memory, types.BaseTuple) and memory.count == 2 else t.planes
    return [place(ctx, b, t, memory, where, _I64(plane), row, column) for plane in range(planes)]


def _size(vector):
    """Bytes of an element."""
    return 4 if vector.element == ir.FloatType() else 8


def load_vector(b, at, vector):
    """Vector of consecutive numbers from a pointer to the first."""
    return b.load(b.bitcast(at, vector.as_pointer()), align=_size(vector))


def store_vector(b, x, at):
    b.store(x, b.bitcast(at, x.type.as_pointer()), align=_size(x.type))


def sum_of_lanes(b, x):
    """Sum of a vector's elements."""
    if x.type.count == 1:
        return b.extract_element(x, _I32(0))
    scalar = x.type.element
    name = f"llvm.vector.reduce.fadd.v{x.type.count}{'f32' if scalar == ir.FloatType() else 'f64'}"
    fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(scalar, [scalar, x.type]), name)
    return b.call(fn, [ir.Constant(scalar, -0.0), x], fastmath=("reassoc", "nsz"))


def _masked(b, name, at, n, vector, *more):
    """LLVM's masked load or store of the first n lanes."""
    index = ir.Constant(ir.VectorType(_I64, vector.count), list(range(vector.count)))
    mask = b.icmp_signed("<", index, code.broadcast(b, index.type, n))
    at = b.bitcast(at, vector.as_pointer())
    align = _I32(_size(vector))
    arguments = [at, align, mask, *more] if name == "load" else [*more, at, align, mask]
    kind = f"v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"
    signature = ir.FunctionType(vector if name == "load" else ir.VoidType(), [x.type for x in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, signature, f"llvm.masked.{name}.{kind}.p0"), arguments)


def _of(place):
    """Types of a place's numbers as Numba wants those of *arguments."""
    return types.StarArgTuple.from_types((types.intp,) * len(place))


def _column_and_n(given):
    """The column, 0 where none is given, and the number of lanes or None."""
    return given[0] if given else _I64(0), given[1] if len(given) > 1 else None


# ------------------------------------------------------------------------------------ values from and to places


@intrinsic
def load(typingctx, kind, memory, row, *column_and_n):
    """Value from (row, column); with n the first n lanes, the others zero."""
    t = code.value_type(kind)

    def codegen(ctx, b, sig, args):
        column, n = _column_and_n(cgutils.unpack_tuple(b, args[3]))
        vector, found = t.lanes.vector, []
        for at in places(ctx, b, t, memory, args[1], args[2], column):
            found.append(
                load_vector(b, at, vector) if n is None else _masked(b, "load", at, n, vector, code.zeros(vector))
            )
        return code.join(ctx, b, t, found[0], found[1] if len(found) == 2 else None)

    return t(kind, memory, types.intp, _of(column_and_n)), codegen


def _writes(memory, column_n_value, write):
    """Signature and code of what writes a value with `write(b, pointer, vector, n)` to each plane."""
    *column_and_n, value = column_n_value
    given = types.StarArgTuple.from_types((*(types.intp for _ in column_and_n), value))

    def codegen(ctx, b, sig, args):
        *column_and_n, x = cgutils.unpack_tuple(b, args[2])
        column, n = _column_and_n(column_and_n)
        at = places(ctx, b, value, memory, args[0], args[1], column)
        for pointer, part in zip(at, code.split(ctx, b, value, x), strict=False):
            write(b, pointer, part, n)
        return ctx.get_dummy_value()

    return types.void(memory, types.intp, given), codegen


def _store(b, at, x, n):
    if n is None:
        store_vector(b, x, at)
    else:
        _masked(b, "store", at, n, x.type, x)


@intrinsic
def store(typingctx, memory, row, *column_n_value):
    """store(memory, row, [column, [n,]] value): write a value to (row, column), or its first n lanes."""
    return _writes(memory, column_n_value, _store)


@intrinsic
def add(typingctx, memory, row, *column_value):
    """add(memory, row, [column,] value): add a value to what is at (row, column)."""

    def write(b, at, x, n):
        store_vector(b, code.add(b, load_vector(b, at, x.type), x), at)

    return _writes(memory, column_value, write)


@intrinsic
def add_sum(typingctx, memory, row, *column_value):
    """add_sum(memory, row, [column,] value): add the sum over all lanes to the number at (row, column)."""
    return _writes(memory, column_value, lambda b, at, x, n: b.store(code.add(b, b.load(at), sum_of_lanes(b, x)), at))


@intrinsic
def broadcast(typingctx, kind, memory, row, *column):
    """The number at (row, column) in every lane."""
    t = code.value_type(kind)

    def codegen(ctx, b, sig, args):
        at = places(ctx, b, t, memory, args[1], args[2], _column_and_n(cgutils.unpack_tuple(b, args[3]))[0])
        found = [code.broadcast(b, t.lanes.vector, b.load(one)) for one in at]
        return code.join(ctx, b, t, found[0], found[1] if len(found) == 2 else None)

    return t(kind, memory, types.intp, _of(column)), codegen


# ----------------------------------------------------------------------------------------------- single numbers


@intrinsic
def peek(typingctx, kind, rows, plane, row, column):
    """One scalar of Rows."""
    t = code.value_type(kind)

    def codegen(ctx, b, sig, args):
        return b.load(place(ctx, b, t, rows, *args[1:]), align=t.scalar.bitwidth // 8)

    return t.scalar(kind, rows, types.intp, types.intp, types.intp), codegen


@intrinsic
def poke(typingctx, rows, plane, row, column, x):
    """Write one scalar of Rows."""

    def codegen(ctx, b, sig, args):
        at = place(ctx, b, code.Lanes(x), rows, *args[:4])
        b.store(args[4], at, align=x.bitwidth // 8)
        return ctx.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp, x), codegen


@intrinsic
def integer(typingctx, rows, row, column):
    """One element of plain Rows of int32."""

    def codegen(ctx, b, sig, args):
        at = place(ctx, b, code.Lanes(types.int32), rows, args[0], _I64(0), *args[1:])
        return b.sext(b.load(at, align=4), _I64)

    return types.intp(rows, types.intp, types.intp), codegen


@intrinsic
def set_integer(typingctx, rows, row, column, x):
    """Write one element of plain Rows of int32."""

    def codegen(ctx, b, sig, args):
        at = place(ctx, b, code.Lanes(types.int32), rows, args[0], _I64(0), *args[1:3])
        b.store(b.trunc(args[3], _I32), at, align=4)
        return ctx.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp), codegen
