"""Cubic pieces of splines, evaluated for all filters at once.

All filters of a sum see the same distance or cosine. With one lane per filter, and the coefficients of all filters on
one piece side by side in memory, a spline is four vector loads and three multiply-adds at a place that a scalar index
chooses: nothing is gathered lane by lane, and the number of knots does not enter. (With neighbours as lanes and tables
looked up by permutation within a register, which only some processors have and short tables allow, eight filters take
as long, sixteen half as long again, and one half as long.)

A table holds c[piece, q, filter] of S = sum_q c_q t^q; `at` is the element of c[piece, 0, filter 0], `step` the number
of elements from one q to the next. A tuple of the addresses of two tables gives values and tangents of coefficients.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code
from fastdesc.simd.addressed import load_vector, pair_of, places_of, pointer_to, store_vector, type_of

_I32 = ir.IntType(32)


@intrinsic
def locate(typingctx, x, first, per_dx, dx, last, limit, beyond, step, numbers, at):
    """Find the piece of each lane's coordinate x: writes step * piece, returns the distance t from the piece's knot.

    Piece 0 lies below the first knot, piece k between knots k-1 and k, piece `last` from the last knot on.

    Parameters
    ----------
    x : lanes
    first, per_dx, dx, last : float, or lanes
        First knot, 1/dx, dx, number of knots.
    limit, beyond : float, int
        From the limit on, x lies on piece `beyond`; None where there is no limit.
    step : int
    numbers : int
        Address of int32 memory, written from element `at`, as many elements as there are lanes.
    """
    n = x.width
    name = f"llvm.floor.v{n}{'f32' if x.scalar == types.float32 else 'f64'}"

    def codegen(ctx, b, sig, args):
        v, tangent = code.split(ctx, b, x, args[0])

        def wide(arg, t):
            if isinstance(t, types.Number):
                return code.broadcast(b, v.type, ctx.cast(b, arg, t, x.scalar))
            return code.split(ctx, b, t, arg)[0]

        first_, per_dx_, dx_, last_ = (wide(*given) for given in zip(args[1:5], sig.args[1:5], strict=True))
        scaled = code.mul(b, code.sub(b, v, first_), per_dx_)
        fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(v.type, [v.type]), name)
        k = code.add(b, b.call(fn, [scaled]), ir.Constant(v.type, [1.0] * n))
        low = code.zeros(v.type)
        k = b.select(b.fcmp_ordered(">", k, low), k, low)
        k = b.select(b.fcmp_ordered("<", k, last_), k, last_)
        t = code.mul(b, code.sub(b, scaled, k), dx_)
        if limit is not types.none:
            inside = b.fcmp_ordered("<", v, wide(args[5], limit))
            k = b.select(inside, k, code.broadcast(b, v.type, b.sitofp(args[6], v.type.element)))
        integers = ir.VectorType(_I32, n)
        piece = b.mul(b.fptosi(k, integers), code.broadcast(b, integers, b.trunc(args[7], _I32)))
        place = b.gep(b.inttoptr(args[8], _I32.as_pointer()), [args[9]])
        b.store(piece, b.bitcast(place, integers.as_pointer()), align=4)
        return code.join(ctx, b, x, t, tangent)

    return x(x, first, per_dx, dx, last, limit, types.intp, types.intp, types.intp, types.intp), codegen


def _horner(b, t, table, at, step, x, order):
    """Value, slope and half the curvature of the cubics at x, up to `order`, by repeated synthetic division."""
    data = pointer_to(b, table, t.scalar)
    c = []
    for _ in range(4):
        c.append(load_vector(b, b.gep(data, [at]), t))
        at = b.add(at, step)
    found = []
    for low in range(order + 1):
        for q in range(2, low - 1, -1):
            c[q] = code.add(b, code.mul(b, c[q + 1], x), c[q])
        found.append(c[low])
    return found


@intrinsic
def spline(typingctx, filters, tables, at, step, t):
    """Values of all filters at t."""
    value = type_of(filters)
    assert value == t

    def codegen(ctx, b, sig, args):
        x, tangent = code.split(ctx, b, t, args[4])
        addresses = cgutils.unpack_tuple(b, args[1], tables.count)
        found = _horner(b, t, addresses[0], args[2], args[3], x, 0 if tangent is None else 1)
        if tangent is None:
            return found[0]
        out = code.mul(b, found[1], tangent)
        if tables.count == 2:
            out = code.add(b, out, _horner(b, t, addresses[1], args[2], args[3], x, 0)[0])
        return code.join(ctx, b, t, found[0], out)

    return value(filters, tables, types.intp, types.intp, t), codegen


@intrinsic
def spline_slope(typingctx, filters, tables, at, step, t):
    """Values and slopes of all filters at t."""
    value = type_of(filters)
    assert value == t

    def codegen(ctx, b, sig, args):
        x, tangent = code.split(ctx, b, t, args[4])
        addresses = cgutils.unpack_tuple(b, args[1], tables.count)
        found = _horner(b, t, addresses[0], args[2], args[3], x, 1 if tangent is None else 2)
        if tangent is None:
            return cgutils.pack_array(b, found)
        tangents = [code.mul(b, found[1], tangent), code.mul(b, code.add(b, found[2], found[2]), tangent)]
        if tables.count == 2:
            more = _horner(b, t, addresses[1], args[2], args[3], x, 1)
            tangents = [code.add(b, one, two) for one, two in zip(tangents, more, strict=True)]
        pairs = [code.join(ctx, b, t, v, w) for v, w in zip(found, tangents, strict=False)]
        return cgutils.pack_array(b, pairs)

    return types.UniTuple(value, 2)(filters, tables, types.intp, types.intp, t), codegen


@intrinsic
def add_powers(typingctx, memory, plane, at, step, weight, t):
    """Add weight * t^q to the row of each q = 0..3: the adjoint of `spline` in its coefficients."""

    def codegen(ctx, b, sig, args):
        x = code.split(ctx, b, t, args[5])
        w = code.split(ctx, b, weight, args[4])
        at = args[2]
        for q in range(4):
            places = places_of(b, weight, args[0], args[1], at)
            old = [load_vector(b, place, weight) for place in places]
            total = code.sum_rule(code.add)(b, *pair_of(old), *w)
            for place, part in zip(places, total, strict=False):
                store_vector(b, part, place, weight)
            if q < 3:
                w = code.mul_rule(b, *w, *x)
                at = b.add(at, args[3])
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, weight, t), codegen
