"""SIMD value types for Numba: one lane is one atom, and the same text computes values or dual numbers.

Numba leaves vectorisation to LLVM, which gives up on anything but the simplest inner loop. Here a value is a
hardware vector: ``Lanes`` holds 512 bits (16 float32 or 8 float64), ``DualLanes`` a pair (value, tangent) of
them. Kernels are written as if for one atom, like a CUDA thread; arithmetic on these types compiles to packed
instructions on any processor (LLVM splits the vectors where registers are narrower).

A kernel learns which of the four types to use from its argument `kind`: a scalar for plain numbers, a pair of
scalars for dual ones (see `kind_of`). Scratch memory is a one-dimensional array, addressed in slots of one
value each (`scratch`, `load`, `store`). Arrays of the outside world, (rows.., n) or, for dual numbers, (2, rows..,
n), arrive as `Rows`: an address and two strides, so that their layout needs no compilation of its own.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from fastdesc.simd import codegen as code
from fastdesc.simd.codegen import BITS, DualLanes, Lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)
LINE = 64
"""Bytes of a cache line."""


def width(dtype):
    """Number of lanes of a vector of `dtype`."""
    return BITS // (8 * np.dtype(dtype).itemsize)


def kind_of(dtype, dual):
    """Value to pass as `kind`: a scalar for plain numbers, a pair for dual ones."""
    zero = np.dtype(dtype).type(0)
    return (zero, zero) if dual else zero


# ------------------------------------------------------------------------------------------- operators


def _common(x, y):
    """Type of x op y, or None when this is not ours: equal types, or one of them a plain scalar."""
    ours = [t for t in (x, y) if isinstance(t, Lanes | DualLanes)]
    if not ours or any(not isinstance(t, Lanes | DualLanes | types.Number) for t in (x, y)):
        return None
    return ours[0] if all(t == ours[0] for t in ours) else None


def _register(op, rule):
    @type_callable(op)
    def _typer(context):
        return _common

    def lower(ctx, b, sig, args):
        t = sig.return_type
        lanes = t if isinstance(t, Lanes) else t.lanes
        parts = []
        for arg_type, x in zip(sig.args, args, strict=True):
            if isinstance(arg_type, types.Number):
                parts += [code.broadcast(b, lanes.vector, ctx.cast(b, x, arg_type, t.scalar)), None]
            else:
                parts += code.split(ctx, b, arg_type, x)
        return code.join(ctx, b, t, *rule(b, *parts))

    for ours in (Lanes, DualLanes):
        lower_builtin(op, ours, ours)(lower)
        lower_builtin(op, ours, types.Number)(lower)
        lower_builtin(op, types.Number, ours)(lower)


for _op, _rule in (
    (operator.add, code.sum_rule(code.add)),
    (operator.sub, code.sum_rule(code.sub)),
    (operator.mul, code.mul_rule),
    (operator.truediv, code.div_rule),
):
    _register(_op, _rule)


# ------------------------------------------------------------------------------------ values and memory


@intrinsic
def slots(typingctx, kind):
    """Scalars that one value of this kind occupies in scratch memory."""
    t = code.value_type(kind)
    n = t.width * (2 if isinstance(t, DualLanes) else 1)
    return types.intp(kind), lambda ctx, b, sig, args: _I64(n)


@intrinsic
def lanes(typingctx, kind):
    """Number of lanes of a value of this kind."""
    n = code.value_type(kind).width
    return types.intp(kind), lambda ctx, b, sig, args: _I64(n)


@intrinsic
def planes_of(typingctx, kind):
    """1 for plain numbers, 2 for dual ones."""
    n = 2 if isinstance(code.value_type(kind), DualLanes) else 1
    return types.intp(kind), lambda ctx, b, sig, args: _I64(n)


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


@intrinsic
def splat(typingctx, kind, x):
    """The number `x` in every lane, its tangent zero."""
    t = code.value_type(kind)
    lane = t if isinstance(t, Lanes) else t.lanes

    def codegen(ctx, b, sig, args):
        return code.join(ctx, b, t, code.broadcast(b, lane.vector, ctx.cast(b, args[1], x, t.scalar)), None)

    return t(kind, x), codegen


def _vector_pointer(b, pointer, vector):
    return b.bitcast(pointer, vector.as_pointer())


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


@intrinsic
def load(typingctx, kind, memory, slot):
    """Value number `slot` of one-dimensional scratch memory."""
    t = code.value_type(kind)
    lane = t if isinstance(t, Lanes) else t.lanes
    planes = 1 if isinstance(t, Lanes) else 2

    def codegen(ctx, b, sig, args):
        data = ctx.make_array(memory)(ctx, b, args[1]).data
        start = b.mul(args[2], _I64(t.width * planes))
        parts = []
        for plane in range(planes):
            at = b.gep(data, [b.add(start, _I64(plane * t.width))])
            parts.append(b.load(_vector_pointer(b, at, lane.vector), align=t.scalar.bitwidth // 8))
        return code.join(ctx, b, t, parts[0], parts[1] if planes == 2 else None)

    return t(kind, memory, types.intp), codegen


@intrinsic
def store(typingctx, memory, slot, value):
    """Write value number `slot` of one-dimensional scratch memory."""

    def codegen(ctx, b, sig, args):
        data = ctx.make_array(memory)(ctx, b, args[0]).data
        parts = [x for x in code.split(ctx, b, value, args[2]) if x is not None]
        start = b.mul(args[1], _I64(value.width * len(parts)))
        for plane, x in enumerate(parts):
            at = b.gep(data, [b.add(start, _I64(plane * value.width))])
            b.store(x, _vector_pointer(b, at, x.type), align=value.scalar.bitwidth // 8)
        return ctx.get_dummy_value()

    return types.void(memory, types.intp, value), codegen


def rows_of(array, dual):
    """Describe array (rows.., n), or (2, rows.., n) if dual, by address, plane stride and row stride in bytes.

    The last axis must be contiguous and the rows evenly spaced; the caller keeps the array alive.
    """
    lead, strides = array.shape[dual:-1], array.strides[dual:-1]
    even = all(strides[k] == strides[k + 1] * lead[k + 1] for k in range(len(lead) - 1))
    if not even or (array.strides[-1] != array.itemsize and array.shape[-1] > 1):
        raise ValueError(f"rows of an array of shape {array.shape} and strides {array.strides} are not evenly spaced")
    return array.ctypes.data, array.strides[0] if dual else 0, strides[-1]


def _pointer(b, rows, plane, row, column, element, item):
    """Pointer to (plane, row, column) of Rows."""
    address, plane_stride, row_stride = cgutils.unpack_tuple(b, rows, 3)
    at = b.add(address, b.mul(plane_stride, plane))
    at = b.add(b.add(at, b.mul(row_stride, row)), b.mul(_I64(item), column))
    return b.inttoptr(at, element.as_pointer())


def _first_lanes(b, n, vector):
    """Mask of the first `n` lanes."""
    index = ir.Constant(ir.VectorType(_I64, vector.count), list(range(vector.count)))
    return b.icmp_signed("<", index, code.broadcast(b, ir.VectorType(_I64, vector.count), n))


def _masked(b, name, vector, result, arguments):
    kind = f"v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"
    fnty = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(b.module, fnty, f"llvm.masked.{name}.{kind}.p0")


@intrinsic
def load_atoms(typingctx, kind, rows, row, i, n):
    """Value of atoms i .. i+n-1 in a row; further lanes are zero."""
    t = code.value_type(kind)
    lane = t if isinstance(t, Lanes) else t.lanes
    vector, item = lane.vector, t.scalar.bitwidth // 8
    planes = 1 if isinstance(t, Lanes) else 2

    def codegen(ctx, b, sig, args):
        mask = _first_lanes(b, args[4], vector)
        parts = []
        for plane in range(planes):
            at = _pointer(b, args[1], _I64(plane), args[2], args[3], vector, item)
            fn = _masked(b, "load", vector, vector, [at.type, _I32, mask.type, vector])
            parts.append(b.call(fn, [at, _I32(item), mask, code.zeros(vector)]))
        return code.join(ctx, b, t, parts[0], parts[1] if planes == 2 else None)

    return t(kind, rows, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_atoms(typingctx, rows, row, i, n, value):
    """Write atoms i .. i+n-1 of a row from the first n lanes."""
    item = value.scalar.bitwidth // 8

    def codegen(ctx, b, sig, args):
        parts = [x for x in code.split(ctx, b, value, args[4]) if x is not None]
        mask = _first_lanes(b, args[3], parts[0].type)
        for plane, x in enumerate(parts):
            at = _pointer(b, args[0], _I64(plane), args[1], args[2], x.type, item)
            fn = _masked(b, "store", x.type, ir.VoidType(), [x.type, at.type, _I32, mask.type])
            b.call(fn, [x, at, _I32(item), mask])
        return ctx.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp, value), codegen


@intrinsic
def peek(typingctx, kind, rows, plane, row, column):
    """One scalar of Rows."""
    scalar = code.value_type(kind).scalar

    def codegen(ctx, b, sig, args):
        element = ir.FloatType() if scalar == types.float32 else ir.DoubleType()
        return b.load(_pointer(b, *args[1:], element, scalar.bitwidth // 8), align=scalar.bitwidth // 8)

    return scalar(kind, rows, types.intp, types.intp, types.intp), codegen


@intrinsic
def poke(typingctx, rows, plane, row, column, x):
    """Write one scalar of Rows."""

    def codegen(ctx, b, sig, args):
        element, item = args[4].type, x.bitwidth // 8
        b.store(args[4], _pointer(b, *args[:4], element, item), align=item)
        return ctx.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp, x), codegen
