"""A square of numbers in registers, rows turned into columns."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastdesc.simd import codegen as code
from fastdesc.simd.memory import load_vector, place, store_vector

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def turned(b, rows):
    """n vectors of n elements, the k-th of them the elements k of the given ones."""
    rows, n, step = list(rows), len(rows), 1
    while step < n:    # swap blocks of step x step numbers across the diagonal, in blocks twice as large
        low = [j if not j & step else n + j - step for j in range(n)]
        high = [j + step if not j & step else n + j for j in range(n)]
        low, high = (ir.Constant(ir.VectorType(_I32, n), index) for index in (low, high))
        for k in range(n):
            if not k & step:
                x, y = rows[k], rows[k + step]
                rows[k], rows[k + step] = b.shuffle_vector(x, y, low), b.shuffle_vector(x, y, high)
        step *= 2
    return rows


@intrinsic
def transpose(typingctx, kind, source, first, step, target, to):
    """Slot to + k of `target` becomes lane k of the slots first, first + step, .. of `source`, one for each lane.

    Plain kinds; source, target : scratch
    """
    t = code.value_type(kind)
    n = t.width

    def codegen(ctx, b, sig, args):
        def at(memory, where, row):
            return place(ctx, b, t, memory, where, _I64(0), row, _I64(0))

        rows = [
            load_vector(b, at(source, args[1], b.add(args[2], b.mul(args[3], _I64(k)))), t.vector) for k in range(n)
        ]
        for k, x in enumerate(turned(b, rows)):
            store_vector(b, x, at(target, args[4], b.add(args[5], _I64(k))))
        return ctx.get_dummy_value()

    return types.void(kind, source, types.intp, types.intp, target, types.intp), codegen
