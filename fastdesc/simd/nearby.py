"""Which of many candidates are near a point: sixteen at a time, those that are stay together, in their order."""

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code

AT_ONCE = 16
"""Candidates that `keep_near` looks at: so many numbers more than it keeps, it may write."""
COMPRESSES = numba.config.CPU_NAME is None and binding.get_host_cpu_features().get("avx512f", False)
"""Whether the processor moves chosen elements of a vector together by one instruction."""

_I1, _I16, _I32, _I64, _F64 = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_HALF = AT_ONCE // 2


def _row(b, ctx, t, array, row, column):
    """Pointer to an element of a C-contiguous array (rows, columns)."""
    a = ctx.make_array(t)(ctx, b, array)
    width = cgutils.unpack_tuple(b, a.shape, 2)[1]
    return b.gep(a.data, [b.add(b.mul(width, _I64(row)), column)])


def _compressed(b, x, mask, bits, at):
    """Write the elements of x whose bits are set, one after another."""
    if COMPRESSES:
        signature = ir.FunctionType(x.type, [x.type, x.type, mask.type])
        compress = cgutils.get_or_insert_function(b.module, signature, f"llvm.x86.avx512.mask.compress.v{AT_ONCE}i32")
        found = b.call(compress, [x, ir.Constant(x.type, ir.Undefined), mask])
        b.store(found, b.bitcast(at, x.type.as_pointer()), align=4)
        return
    n = _I64(0)
    for k in range(AT_ONCE):    # no branch: which ones stay cannot be predicted
        b.store(b.extract_element(x, _I32(k)), b.gep(at, [n]))
        n = b.add(n, b.zext(b.trunc(b.lshr(bits, _I16(k)), _I1), _I64))


@intrinsic
def keep_near(typingctx, points, tags, k, x, y, z, limit, least, kept, n):
    """Look at the candidates k .. k + 15; return the smallest squared distances up to now, and n with those kept.

    Parameters
    ----------
    points : float64 (3, n_points), C-contiguous
    tags : uint32 (2, n_points), C-contiguous
        What is kept of a point.
    k : int
    x, y, z, limit : float
        Points are kept whose squared distance from (x, y, z) is less than the limit.
    least : eight lanes of float64
        Smallest squared distances, those of points that are not kept included.
    kept : uint32 (2, n + 16 at least), C-contiguous
        Written from column n on.
    n : int
    """
    half = ir.VectorType(_F64, _HALF)

    def codegen(ctx, b, sig, args):
        centre = [code.broadcast(b, half, args[c]) for c in (3, 4, 5)]
        bound, smallest, masks = code.broadcast(b, half, args[6]), args[7], []
        for part in range(2):
            column = b.add(args[2], _I64(part * _HALF))
            d2 = None
            for c in range(3):
                at = b.bitcast(_row(b, ctx, points, args[0], c, column), half.as_pointer())
                d = b.fsub(b.load(at, align=8), centre[c])
                d2 = b.fmul(d, d) if d2 is None else b.fadd(d2, b.fmul(d, d))
            masks.append(b.fcmp_ordered("<", d2, bound))
            smallest = b.select(b.fcmp_ordered("<", d2, smallest), d2, smallest)
        both = ir.Constant(ir.VectorType(_I32, AT_ONCE), list(range(AT_ONCE)))
        mask = b.shuffle_vector(*masks, both)
        bits = b.bitcast(mask, _I16)
        for row in range(2):
            at = b.bitcast(_row(b, ctx, tags, args[1], row, args[2]), ir.VectorType(_I32, AT_ONCE).as_pointer())
            _compressed(b, b.load(at, align=4), mask, bits, _row(b, ctx, kept, args[8], row, args[9]))
        n_kept = b.zext(b.ctpop(bits), _I64)
        return ctx.make_tuple(b, sig.return_type, [smallest, b.add(args[9], n_kept)])

    pair = types.Tuple((least, types.intp))
    number = types.float64
    return pair(points, tags, types.intp, number, number, number, number, least, kept, types.intp), codegen


@intrinsic
def least_of(typingctx, x):
    """The smallest element of a vector."""

    def codegen(ctx, b, sig, args):
        least = b.extract_element(args[0], _I32(0))
        for k in range(1, x.width):
            one = b.extract_element(args[0], _I32(k))
            least = b.select(b.fcmp_ordered("<", one, least), one, least)
        return least

    return x.scalar(x), codegen
