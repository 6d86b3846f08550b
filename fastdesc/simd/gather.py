"""What the embedded density needs beyond fastdesc.simd.

Coefficients that are plain or dual, and rows of a table, one for each lane, turned into columns.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastdesc.simd import codegen as code
from fastdesc.simd import splat
from fastdesc.simd.functions import dual, value

_I64 = ir.IntType(64)


def coefficient(kind, array, k):
    """Number k of a plain array (n,), or the dual number k of an array (2, n)."""
    raise TypeError("coefficient is for compiled code")


@overload(coefficient, inline="always")
def _coefficient(kind, array, k):
    if array.ndim == 1:
        return lambda kind, array, k: array[k]

    def impl(kind, array, k):
        x = splat(kind, array[0, k])
        t = splat(kind, array[1, k])
        return dual(value(x), value(t))

    return impl


@intrinsic
def add_scaled(typingctx, a, x, y):
    """Tuple a * x + y, element by element; `a` is a value or a scalar, which spares a dual product."""

    def codegen(ctx, b, sig, args):
        if isinstance(a, types.Number):
            factor = code.broadcast(b, x.dtype.lanes.vector, ctx.cast(b, args[0], a, x.dtype.scalar)), None
        else:
            factor = code.split(ctx, b, a, args[0])
        out = []
        for xk, yk in zip(
            cgutils.unpack_tuple(b, args[1], x.count), cgutils.unpack_tuple(b, args[2], x.count), strict=True
        ):
            product = code.mul_rule(b, *factor, *code.split(ctx, b, x.dtype, xk))
            total = code.sum_rule(code.add)(b, *product, *code.split(ctx, b, y.dtype, yk))
            out.append(code.join(ctx, b, y.dtype, *total))
        return cgutils.pack_array(b, out)

    return y(a, x, y), codegen


# ------------------------------------------------------------- rows of a table, one per lane, turned into columns

TILE = 8
"""Rows of a table are filled up to a multiple of this many columns."""


def _shuffle(b, x, y, index):
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(index)), index))


def _interleave(b, x, y, e, step, high):
    """Alternate pieces of `step` scalars from the low or high half of each part of e scalars."""
    index = []
    for start in range(0, 4 * e, e):
        for k in range(start + high * e // 2, start + (high + 1) * e // 2, step):
            index += [*range(k, k + step), *range(4 * e + k, 4 * e + k + step)]
    return _shuffle(b, x, y, index)


def _turn(b, rows, e):
    """Turn 4e vectors of 2e scalars into 2e vectors of 4e scalars, e of which make 128 bits.

    In steps that are one instruction each where vectors have 512 bits: join, interleave, pick parts of 128 bits.
    """
    halves = []
    for rows4 in (rows[: 2 * e], rows[2 * e :]):
        x = [_shuffle(b, rows4[r], rows4[e + r], list(range(4 * e))) for r in range(e)]
        low, high = ([_interleave(b, x[r], x[r + 1], e, 1, h) for r in range(0, e, 2)] for h in (0, 1))
        if e == 4:
            low, high = ([_interleave(b, *y, e, 2, h) for h in (0, 1)] for y in (low, high))
        halves.append([*low, *high])
    picked = []
    for first in (0, 1):
        parts = [n for part in (first, first + 2, first + 4, first + 6) for n in range(part * e, part * e + e)]
        picked += [_shuffle(b, x, w, parts) for x, w in zip(*halves, strict=True)]
    return picked


def _plane_size(b, table, array):
    size = _I64(1)
    for n in cgutils.unpack_tuple(b, array.shape, table.ndim)[1:]:
        size = b.mul(size, n)
    return size


@intrinsic
def columns_at_once(typingctx, kind):
    """Columns that one `gather_columns` returns."""
    n = 256 // code.value_type(kind).scalar.bitwidth
    return types.intp(kind), lambda ctx, b, sig, args: _I64(n)


@intrinsic
def gather_columns(typingctx, kind, table, where, slot, first):
    """Tuple of consecutive columns of a table, each lane from its own row.

    table : C-contiguous array (planes, .., columns); where : array (slots, lanes) of the rows' starts, counted in
    scalars; first : added to them. Float32 gives 8 columns, float64 4: see `columns_at_once`.
    """
    t = code.value_type(kind)
    planes = t.planes
    e = 128 // t.scalar.bitwidth
    row_type = ir.VectorType(t.lanes.element, 2 * e)

    def codegen(ctx, b, sig, args):
        array, index = ctx.make_array(table)(ctx, b, args[1]), ctx.make_array(where)(ctx, b, args[2])
        plane_size = _plane_size(b, table, array)
        starts = b.mul(args[3], _I64(t.width))
        columns = []
        for plane in range(planes):
            offset = b.add(args[4], b.mul(plane_size, _I64(plane)))
            rows = []
            for lane in range(t.width):
                start = b.load(b.gep(index.data, [b.add(starts, _I64(lane))]))
                at = b.gep(array.data, [b.add(start, offset)])
                rows.append(b.load(b.bitcast(at, row_type.as_pointer()), align=t.scalar.bitwidth // 8))
            columns.append(_turn(b, rows, e))
        return cgutils.pack_array(
            b, [code.join(ctx, b, t, c[0], c[1] if planes == 2 else None) for c in zip(*columns, strict=True)]
        )

    return types.UniTuple(t, 2 * e)(kind, table, where, types.intp, types.intp), codegen
