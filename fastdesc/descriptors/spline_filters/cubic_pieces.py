"""Cubic pieces of splines, evaluated for all filters at once.

All filters of a sum see the same distance or cosine. With one lane per filter, and the coefficients of all filters on
one piece side by side in memory, a spline is four vector loads and three multiply-adds at a place that a scalar index
chooses: nothing is gathered lane by lane, and the number of knots does not enter. (With neighbours as lanes and tables
looked up by permutation within a register, which only some processors have and short tables allow, eight filters take
as long, sixteen half as long again, and one half as long.)

A table holds c[piece, q, filter] of S = sum_q c_q t^q: Rows of filters, plain where the coefficients have no tangents.
A place in it is the row of c[piece, 0] and the column of the first filter.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code
from fastdesc.simd.memory import load_vector, moved, place, places, store_vector

_I32, _I64 = ir.IntType(32), ir.IntType(64)
COEFFICIENTS = 4
"""Rows of a piece."""


@intrinsic
def locate(typingctx, x, first, per_dx, dx, last, limit, beyond, integers, row, column):
    """Find the piece of each lane's coordinate x: writes its row in a table, returns the distance t from its knot.

    Piece 0 lies below the first knot, piece k between knots k-1 and k, piece `last` from the last knot on.

    Parameters
    ----------
    x : lanes
    first, per_dx, dx, last : float, or lanes
        First knot, 1/dx, dx, number of knots.
    limit, beyond : float, int
        From the limit on, x lies on piece `beyond`; None where there is no limit.
    integers : plain Rows of int32
        Written from (row, column) on, as many elements as there are lanes.
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
        whole = ir.VectorType(_I32, n)
        start = b.mul(b.fptosi(k, whole), ir.Constant(whole, [COEFFICIENTS] * n))
        at = place(ctx, b, code.Lanes(types.int32), integers, args[7], _I64(0), args[8], args[9])
        b.store(start, b.bitcast(at, whole.as_pointer()), align=4)
        return code.join(ctx, b, x, t, tangent)

    return x(x, first, per_dx, dx, last, limit, types.intp, integers, types.intp, types.intp), codegen


def _pointers(ctx, b, t, table, where, row, column):
    """Pointers to the four coefficients, a list for each plane."""
    stride = cgutils.unpack_tuple(b, where, table.count)[-1]
    steps = [b.mul(stride, _I64(q)) for q in range(COEFFICIENTS)]
    return [[moved(b, first, by) for by in steps] for first in places(ctx, b, t, table, where, row, column)]


def _coefficients(ctx, b, t, *place):
    """Vectors of the four coefficients; and of their tangents, or None."""
    vectors = [[load_vector(b, at, t.lanes.vector) for at in plane] for plane in _pointers(ctx, b, t, *place)]
    return vectors[0], vectors[1] if len(vectors) == 2 else None


def _horner(b, coefficients, x, order):
    """Value, slope and half the curvature of the cubics at x, up to `order`, by repeated synthetic division."""
    c, found = list(coefficients), []
    for low in range(order + 1):
        for q in range(2, low - 1, -1):
            c[q] = code.add(b, code.mul(b, c[q + 1], x), c[q])
        found.append(c[low])
    return found


@intrinsic
def spline(typingctx, filters, table, row, column, t):
    """Values of all filters at t."""
    assert code.value_type(filters) == t

    def codegen(ctx, b, sig, args):
        x, tangent = code.split(ctx, b, t, args[4])
        c, dc = _coefficients(ctx, b, t, table, *args[1:4])
        found = _horner(b, c, x, 0 if tangent is None else 1)
        if tangent is None:
            return found[0]
        out = code.mul(b, found[1], tangent)
        if dc is not None:
            out = code.add(b, out, _horner(b, dc, x, 0)[0])
        return code.join(ctx, b, t, found[0], out)

    return t(filters, table, types.intp, types.intp, t), codegen


@intrinsic
def spline_slope(typingctx, filters, table, row, column, t):
    """Values and slopes of all filters at t."""
    assert code.value_type(filters) == t

    def codegen(ctx, b, sig, args):
        x, tangent = code.split(ctx, b, t, args[4])
        c, dc = _coefficients(ctx, b, t, table, *args[1:4])
        found = _horner(b, c, x, 1 if tangent is None else 2)
        if tangent is None:
            return cgutils.pack_array(b, found)
        tangents = [code.mul(b, found[1], tangent), code.mul(b, code.add(b, found[2], found[2]), tangent)]
        if dc is not None:
            tangents = [code.add(b, one, two) for one, two in zip(tangents, _horner(b, dc, x, 1), strict=True)]
        pairs = [code.join(ctx, b, t, v, w) for v, w in zip(found, tangents, strict=False)]
        return cgutils.pack_array(b, pairs)

    return types.UniTuple(t, 2)(filters, table, types.intp, types.intp, t), codegen


@intrinsic
def splines_of_lanes(typingctx, t, table, first, integers, row, column):
    """Values and slopes of one filter in all lanes, each on the piece that `locate` wrote for it.

    Parameters
    ----------
    t : lanes
        What `locate` returned; no dual numbers.
    table : plain Rows of one filter
        Pieces lie one behind the other, four numbers each.
    first : int
        Row of the table at which the filter's pieces begin.
    integers : plain Rows of int32
        Where `locate` wrote, from (row, column) on.
    """
    n, item = t.width, t.scalar.bitwidth // 8

    def codegen(ctx, b, sig, args):
        x, (_, table_, first_, integers_, row_, column_) = args[0], args
        whole, wide = ir.VectorType(_I32, n), ir.VectorType(_I64, n)
        at = place(ctx, b, code.Lanes(types.int32), integers_type, integers_, _I64(0), row_, column_)
        pieces = b.sext(b.load(b.bitcast(at, whole.as_pointer()), align=4), wide)
        address = b.add(cgutils.unpack_tuple(b, table_, 2)[0], b.mul(first_, _I64(item)))
        bytes_on = b.mul(pieces, ir.Constant(wide, [item] * n))
        c = []
        for q in range(COEFFICIENTS):
            start = code.broadcast(b, wide, b.add(address, _I64(q * item)))
            c.append(_gather(b, x.type, b.inttoptr(b.add(start, bytes_on), _pointers_to(x.type))))
        return cgutils.pack_array(b, _horner(b, c, x, 1))

    integers_type = integers
    return types.UniTuple(t, 2)(t, table, types.intp, integers, types.intp, types.intp), codegen


def _pointers_to(vector):
    return ir.VectorType(vector.element.as_pointer(), vector.count)


def _gather(b, vector, pointers):
    """Numbers that lie at these pointers."""
    n, bits = vector.count, 32 if vector.element == ir.FloatType() else 64
    mask = ir.Constant(ir.VectorType(ir.IntType(1), n), [1] * n)
    arguments = [pointers, _I32(bits // 8), mask, ir.Constant(vector, ir.Undefined)]
    signature = ir.FunctionType(vector, [x.type for x in arguments])
    name = f"llvm.masked.gather.v{n}f{bits}.v{n}p0"
    return b.call(cgutils.get_or_insert_function(b.module, signature, name), arguments)


@intrinsic
def add_powers(typingctx, table, row, column, weight, t):
    """Add weight * t^q to the row of each q = 0..3: the adjoint of `spline` in its coefficients."""

    def codegen(ctx, b, sig, args):
        x, w = code.split(ctx, b, t, args[4]), code.split(ctx, b, weight, args[3])
        pointers = _pointers(ctx, b, weight, table, *args[:3])
        for q in range(COEFFICIENTS):
            for pointer, part in zip([plane[q] for plane in pointers], w, strict=False):
                store_vector(b, code.add(b, load_vector(b, pointer, part.type), part), pointer)
            if q < COEFFICIENTS - 1:
                w = code.mul_rule(b, *w, *x)
        return ctx.get_dummy_value()

    return types.void(table, types.intp, types.intp, weight, t), codegen
