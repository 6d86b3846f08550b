"""Rows of a list of pairs turned into slots of a block, as many at a time as there are lanes."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code
from fastdesc.simd.transpose import turned

_I1, _I8, _I32, _I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _flat(b, ctx, t, array, at):
    """Pointer to number `at` of an array, seen as flat."""
    return b.gep(ctx.make_array(t)(ctx, b, array).data, [at])


def _below(b, n, limit):
    """Mask of the first `limit` of n elements; none where it is not positive."""
    wide = ir.VectorType(_I64, n)
    return b.icmp_signed("<", ir.Constant(wide, list(range(n))), code.broadcast(b, wide, limit))


def _masked_load(b, at, mask, otherwise):
    vector = ir.VectorType(_I32, mask.type.count)
    pointer = vector.as_pointer()
    signature = ir.FunctionType(vector, [pointer, _I32, mask.type, vector])
    name = f"llvm.masked.load.v{vector.count}i32.p0"
    load = cgutils.get_or_insert_function(b.module, signature, name)
    return b.call(load, [b.bitcast(at, pointer), _I32(4), mask, ir.Constant(vector, [otherwise] * vector.count)])


def _masked_store(b, x, at, mask):
    pointer = x.type.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [x.type, pointer, _I32, mask.type])
    name = f"llvm.masked.store.v{x.type.count}i32.p0"
    b.call(cgutils.get_or_insert_function(b.module, signature, name), [x, b.bitcast(at, pointer), _I32(4), mask])


@intrinsic
def fill_tile(typingctx, kind, j, shifts, begins, counts, k, slot, n_slots, neighbour, shift, place):
    """Write the slots of a block that hold the pairs k, k + 1, .. of each lane's row; return all |shifts|, or-ed.

    in   j int32 (n_pairs,), shifts int32 (n_pairs, 3)
         begins, counts int64 (lanes,): first pair and number of pairs of each lane's row
         slot: that of the pairs k; n_slots: slots to be written, no more than there are lanes
    out  neighbour int32 (.., lanes): -1 where a row has ended; shift int8 (.., 3, lanes)
         place int32 (n_pairs,): 3 lanes slot + lane of the slot of each pair
    """
    n = code.value_type(kind).width
    vector = ir.VectorType(_I32, n)

    def codegen(ctx, b, sig, args):
        _, j_, shifts_, begins_, counts_, k_, slot_, n_slots_, neighbour_, shift_, place_ = args
        firsts, lefts, rows = [], [], []
        for lane in range(n):
            firsts.append(b.add(b.load(_flat(b, ctx, begins, begins_, _I64(lane))), k_))
            lefts.append(b.sub(b.load(_flat(b, ctx, counts, counts_, _I64(lane))), k_))
            mask = _below(b, n, lefts[lane])
            rows.append(_masked_load(b, _flat(b, ctx, j, j_, firsts[lane]), mask, -1))
            at = b.trunc(b.add(b.mul(slot_, _I64(3 * n)), _I64(lane)), _I32)
            places = b.add(code.broadcast(b, vector, at), ir.Constant(vector, [3 * n * i for i in range(n)]))
            _masked_store(b, places, _flat(b, ctx, place, place_, firsts[lane]), mask)
        for i, x in enumerate(turned(b, rows)):
            with b.if_then(b.icmp_signed("<", _I64(i), n_slots_), likely=True):
                at = _flat(b, ctx, neighbour, neighbour_, b.mul(b.add(slot_, _I64(i)), _I64(n)))
                b.store(x, b.bitcast(at, vector.as_pointer()), align=4)
        bits, zero = ir.Constant(vector, [0] * n), ir.Constant(vector, [0] * n)
        for part in range(3):
            rows = []
            for lane in range(n):
                mask = _below(b, n, b.sub(b.mul(lefts[lane], _I64(3)), _I64(part * n)))
                at = b.add(b.mul(firsts[lane], _I64(3)), _I64(part * n))
                rows.append(_masked_load(b, _flat(b, ctx, shifts, shifts_, at), mask, 0))
                negative = b.sub(zero, rows[lane])
                bits = b.or_(bits, b.select(b.icmp_signed("<", rows[lane], zero), negative, rows[lane]))
            for i, x in enumerate(turned(b, rows)):
                row = part * n + i
                with b.if_then(b.icmp_signed("<", _I64(row // 3), n_slots_), likely=True):
                    at = _flat(b, ctx, shift, shift_, b.mul(b.add(b.mul(slot_, _I64(3)), _I64(row)), _I64(n)))
                    small = b.trunc(x, ir.VectorType(_I8, n))
                    b.store(small, b.bitcast(at, small.type.as_pointer()), align=1)
        reduce = ir.FunctionType(_I32, [vector])
        name = f"llvm.vector.reduce.or.v{n}i32"
        return b.call(cgutils.get_or_insert_function(b.module, reduce, name), [bits])

    integer = types.intp
    return types.int32(kind, j, shifts, begins, counts, integer, integer, integer, neighbour, shift, place), codegen
