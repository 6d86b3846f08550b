"""Tuples of SIMD values of one type: what a kernel keeps in registers, sums over it, and its way to scratch memory."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code


@intrinsic(prefer_literal=True)
def zeros(typingctx, x, n):
    """Tuple of `n` zeros of the type of `x` (n is a literal)."""
    count = n.literal_value
    t = types.UniTuple(x, count)

    def codegen(ctx, b, sig, args):
        zero = code.join(ctx, b, x, code.zeros(x.lanes.vector), None)
        return cgutils.pack_array(b, [zero] * count)

    return t(x, n), codegen


@intrinsic
def axpy(typingctx, a, x, y):
    """Tuple a * x + y, element by element."""

    def codegen(ctx, b, sig, args):
        av, at = code.split(ctx, b, a, args[0])
        out = []
        for xk, yk in zip(
            cgutils.unpack_tuple(b, args[1], x.count), cgutils.unpack_tuple(b, args[2], x.count), strict=True
        ):
            product = code.mul_rule(b, av, at, *code.split(ctx, b, x.dtype, xk))
            total = code.sum_rule(code.add)(b, *product, *code.split(ctx, b, y.dtype, yk))
            out.append(code.join(ctx, b, y.dtype, *total))
        return cgutils.pack_array(b, out)

    return y(a, x, y), codegen


@intrinsic
def axpy_numbers(typingctx, numbers, at, x, y):
    """Tuple y_k + numbers[at + k] * x, with consecutive plain numbers of a one-dimensional array."""

    def codegen(ctx, b, sig, args):
        data = ctx.make_array(numbers)(ctx, b, args[0]).data
        out = []
        for k, yk in enumerate(cgutils.unpack_tuple(b, args[3], y.count)):
            number = b.load(b.gep(data, [b.add(args[1], ir.IntType(64)(k))]))
            factor = code.broadcast(b, x.lanes.vector, number), None
            product = code.mul_rule(b, *factor, *code.split(ctx, b, x, args[2]))
            total = code.sum_rule(code.add)(b, *product, *code.split(ctx, b, y.dtype, yk))
            out.append(code.join(ctx, b, y.dtype, *total))
        return cgutils.pack_array(b, out)

    return y(numbers, types.intp, x, y), codegen


@intrinsic
def dot(typingctx, x, y):
    """Sum of x_k y_k over two tuples."""

    def codegen(ctx, b, sig, args):
        total = None
        for xk, yk in zip(
            cgutils.unpack_tuple(b, args[0], x.count), cgutils.unpack_tuple(b, args[1], x.count), strict=True
        ):
            product = code.mul_rule(b, *code.split(ctx, b, x.dtype, xk), *code.split(ctx, b, y.dtype, yk))
            total = product if total is None else code.sum_rule(code.add)(b, *total, *product)
        return code.join(ctx, b, x.dtype, *total)

    return x.dtype(x, y), codegen


@intrinsic(prefer_literal=True)
def load_tuple(typingctx, kind, memory, slot, n):
    """Tuple of `n` (a literal) consecutive values of scratch memory."""
    t, count = code.value_type(kind), n.literal_value
    planes, lane = t.planes, t.lanes

    def codegen(ctx, b, sig, args):
        data = ctx.make_array(memory)(ctx, b, args[1]).data
        i64 = ir.IntType(64)
        start = b.mul(args[2], i64(t.width * planes))
        out = []
        for k in range(count):
            parts = []
            for plane in range(planes):
                at = b.gep(data, [b.add(start, i64((k * planes + plane) * t.width))])
                pointer = b.bitcast(at, lane.vector.as_pointer())
                parts.append(b.load(pointer, align=t.scalar.bitwidth // 8))
            out.append(code.join(ctx, b, t, parts[0], parts[1] if planes == 2 else None))
        return cgutils.pack_array(b, out)

    return types.UniTuple(t, count)(kind, memory, types.intp, n), codegen


def _store_each(ctx, b, memory, slot, t, tuple_type, xs, add):
    """Store, or add, a tuple of values to consecutive slots."""
    data = ctx.make_array(memory[0])(ctx, b, memory[1]).data
    i64 = ir.IntType(64)
    planes = t.planes
    start = b.mul(slot, i64(t.width * planes))
    align = t.scalar.bitwidth // 8
    for k, xk in enumerate(cgutils.unpack_tuple(b, xs, tuple_type.count)):
        for plane, part in enumerate(p for p in code.split(ctx, b, t, xk) if p is not None):
            at = b.gep(data, [b.add(start, i64((k * planes + plane) * t.width))])
            pointer = b.bitcast(at, part.type.as_pointer())
            b.store(code.add(b, b.load(pointer, align=align), part) if add else part, pointer, align=align)


@intrinsic
def store_tuple(typingctx, memory, slot, x):
    """Write a tuple of values to consecutive slots of scratch memory."""

    def codegen(ctx, b, sig, args):
        _store_each(ctx, b, (memory, args[0]), args[1], x.dtype, x, args[2], False)
        return ctx.get_dummy_value()

    return types.void(memory, types.intp, x), codegen


@intrinsic
def add_tuple(typingctx, memory, slot, x):
    """Add a tuple of values to consecutive slots of scratch memory."""

    def codegen(ctx, b, sig, args):
        _store_each(ctx, b, (memory, args[0]), args[1], x.dtype, x, args[2], True)
        return ctx.get_dummy_value()

    return types.void(memory, types.intp, x), codegen
