"""From positions to pair vectors in lanes, and from those back to forces.

A lane is an atom, a slot holds one neighbour of each (fastdesc/pairs/blocks.py). Differences of positions and sums of
forces are taken in float64 whatever the kernel's type is.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.simd import codegen as code

_I1, _I8, _I32, _I64, _F64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_EXACT = ("contract",)    # vectors of a pair and its mirror stay opposite to the last bit: no other order of sums
_SUM = ("contract", "reassoc", "nsz")


def _load(b, ctx, array_type, array, at, element, n):
    """Vector of n consecutive elements of an array, seen as flat, from number `at` on."""
    data = ctx.make_array(array_type)(ctx, b, array).data
    place = b.gep(data, [at])
    return b.load(b.bitcast(place, ir.VectorType(element, n).as_pointer()), align=1)


def _gather(b, addresses, n):
    """float64 numbers at n addresses (a vector of integers)."""
    pointers = ir.VectorType(_F64.as_pointer(), n)
    mask, vector = ir.VectorType(_I1, n), ir.VectorType(_F64, n)
    signature = ir.FunctionType(vector, [pointers, _I32, mask, vector])
    function = cgutils.get_or_insert_function(b.module, signature, f"llvm.masked.gather.v{n}f64.v{n}p0")
    everywhere = ir.Constant(mask, [1] * n)
    return b.call(function, [b.inttoptr(addresses, pointers), _I32(8), everywhere, ir.Constant(vector, ir.Undefined)])


def _narrow(b, x, t):
    return b.fptrunc(x, t.vector) if t.scalar == types.float32 else x


def _wide(b, x, t):
    return b.fpext(x, ir.VectorType(_F64, t.width)) if t.scalar == types.float32 else x


@intrinsic
def pair_vector(typingctx, kind, positions, neighbour, shift, slot, centre, cell, shifted, far):
    """Vector from each lane's centre to its neighbour in a slot: tuple x, y, z.

        r = x_j - x_i + shift H                                                                          (1)

    Parameters
    ----------
    positions : float64 (n, 3)
    neighbour : int32 (n_slots, lanes); negative where a lane has none: its vector is (far, 0, 0)
    shift : int8 (n_slots, 3, lanes)
    slot : int
    centre : float64 (3 lanes,)
    cell : float64 (9 lanes,), read where `shifted` is not 0
    far : float
    """
    t = code.value_type(kind)
    n = t.width

    def codegen(ctx, b, sig, args):
        found = _load(b, ctx, neighbour, args[2], b.mul(args[4], _I64(n)), _I32, n)
        none = b.icmp_signed("<", found, ir.Constant(found.type, [0] * n))
        known = b.select(none, ir.Constant(found.type, [0] * n), found)
        wide = ir.VectorType(_I64, n)
        start = b.ptrtoint(ctx.make_array(positions)(ctx, b, args[1]).data, _I64)
        at = b.add(code.broadcast(b, wide, start), b.mul(b.zext(known, wide), ir.Constant(wide, [24] * n)))
        vector = ir.VectorType(_F64, n)
        r = []
        for c in range(3):
            x = _gather(b, b.add(at, ir.Constant(wide, [8 * c] * n)), n)
            r.append(b.fsub(x, _load(b, ctx, centre, args[5], _I64(c * n), _F64, n), flags=_EXACT))
        before = b.block
        with b.if_then(b.icmp_signed("!=", args[7], ir.Constant(args[7].type, 0))):
            turns = []
            for c in range(3):
                whole = _load(b, ctx, shift, args[3], b.add(b.mul(args[4], _I64(3 * n)), _I64(c * n)), _I8, n)
                turns.append(b.sitofp(whole, vector))
            moved = []
            for c in range(3):
                sides = [_load(b, ctx, cell, args[6], _I64((3 * a + c) * n), _F64, n) for a in range(3)]
                total = b.fmul(turns[0], sides[0], flags=_EXACT)
                for a in (1, 2):
                    total = b.fadd(total, b.fmul(turns[a], sides[a], flags=_EXACT), flags=_EXACT)
                moved.append(b.fadd(r[c], total, flags=_EXACT))
            inside = b.block
        joined = [b.phi(vector) for _ in range(3)]
        out = []
        for c in range(3):
            joined[c].add_incoming(r[c], before)
            joined[c].add_incoming(moved[c], inside)
            x = _narrow(b, joined[c], t)
            limit = ctx.cast(b, args[8], far, t.scalar) if c == 0 else ir.Constant(x.type.element, 0.0)
            out.append(b.select(none, code.broadcast(b, x.type, limit), x))
        return cgutils.pack_array(b, out)

    return types.UniTuple(t, 3)(kind, positions, neighbour, shift, types.intp, centre, cell, shifted, far), codegen


@intrinsic
def any_below(typingctx, x, limit):
    """Whether any lane is below a limit."""

    def codegen(ctx, b, sig, args):
        wide = code.broadcast(b, args[0].type, ctx.cast(b, args[1], limit, x.scalar))
        mask = b.fcmp_ordered("<", args[0], wide)
        bits = ir.IntType(x.width)
        return b.icmp_unsigned("!=", b.bitcast(mask, bits), bits(0))

    return types.boolean(x, limit), codegen


@intrinsic
def add_force(typingctx, sums, dr):
    """Add, for each lane, dr to a force.

    sums : float64 (3 lanes or more,): x, y, z, each by lane.
    """
    t = dr.dtype

    def codegen(ctx, b, sig, args):
        for k, f in enumerate(cgutils.unpack_tuple(b, args[1], 3)):
            _add_term(b, ctx.make_array(sums)(ctx, b, args[0]).data, k, _wide(b, f, t))
        return ctx.get_dummy_value()

    return types.void(sums, dr), codegen


@intrinsic
def add_virial(typingctx, sums, r, dr):
    """Add, for each lane, the symmetric part of r (x) dr to a virial.

    sums : float64 (9 lanes,): xx, yy, zz, yz, xz, xy, each by lane, behind the force of `add_force`.
    """
    t = r.dtype

    def codegen(ctx, b, sig, args):
        x = [_wide(b, v, t) for v in cgutils.unpack_tuple(b, args[1], 3)]
        f = [_wide(b, v, t) for v in cgutils.unpack_tuple(b, args[2], 3)]
        half = code.broadcast(b, x[0].type, _F64(0.5))
        terms = [b.fmul(x[c], f[c], flags=_SUM) for c in range(3)]
        for a, c in ((1, 2), (0, 2), (0, 1)):
            both = b.fadd(b.fmul(x[a], f[c], flags=_SUM), b.fmul(x[c], f[a], flags=_SUM), flags=_SUM)
            terms.append(b.fmul(half, both, flags=_SUM))
        for k, term in enumerate(terms, 3):
            _add_term(b, ctx.make_array(sums)(ctx, b, args[0]).data, k, term)
        return ctx.get_dummy_value()

    return types.void(sums, r, dr), codegen


def _add_term(b, data, k, term):
    """Add a vector to the k-th of consecutive ones."""
    place = b.bitcast(b.gep(data, [_I64(k * term.type.count)]), term.type.as_pointer())
    b.store(b.fadd(b.load(place, align=8), term, flags=_SUM), place, align=8)
