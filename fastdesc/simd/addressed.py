"""SIMD values whose lanes are filters, and the memory they work on.

`kind` is fastdesc.simd's (vectors of 512 bits, here with neighbours as lanes); `filters`, made of it by `filters_of`,
has as many lanes as there are filters, a power of two. Memory is an address: arrays would be counted at every call of
an inner function, which costs more than the row of a small atom. A place is an element, not a slot, and the tangents of
dual numbers stand `plane` elements behind their values.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from fastdesc.simd import codegen as code
from fastdesc.simd.codegen import BITS, DualLanes, Lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class FilterLanes(Lanes):
    """A vector with one scalar per filter."""

    def __init__(self, scalar, width):
        self.scalar, self.width = scalar, width
        types.Type.__init__(self, name=f"FilterLanes({scalar} x {width})")


class DualFilterLanes(DualLanes):
    """A vector of dual numbers with one per filter."""

    def __init__(self, scalar, width):
        self.scalar, self.width = scalar, width
        self.lanes = FilterLanes(scalar, width)
        types.Type.__init__(self, name=f"DualFilterLanes({scalar} x {width})")


@register_model(FilterLanes)
class _FilterLanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.vector)


@register_model(DualFilterLanes)
class _DualFilterLanesModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("v", fe_type.lanes), ("t", fe_type.lanes)])


FEWEST = 4
"""Lanes of a vector of several filters: fewer are not faster, and every number of lanes is compiled by itself."""


def lanes_for(n_filters, itemsize):
    """Number of lanes of each vector when `n_filters` are spread over as few vectors as possible."""
    most = BITS // (8 * itemsize)
    n_vectors = max(1, -(-n_filters // most))
    each = max(FEWEST, -(-n_filters // n_vectors))
    return 1 << (each - 1).bit_length()


def filters_of(kind, n_lanes):
    """Value to pass as `filters`."""
    return ((kind,) * n_lanes,)


def type_of(kind):
    """Type of the values that `kind` or `filters` stands for."""
    if isinstance(kind, types.BaseTuple) and kind.count == 1:
        inside = kind.types[0]
        lanes = code.value_type(inside.types[0])
        made = FilterLanes if isinstance(lanes, Lanes) else DualFilterLanes
        return made(lanes.scalar, inside.count)
    return code.value_type(kind)


def _lanes_of(t):
    return t if isinstance(t, Lanes) else t.lanes


def places_of(b, t, memory, plane, at):
    """Pointers to the scalars at the value's place and at its tangent's."""
    data = pointer_to(b, memory, t.scalar)
    places = [b.gep(data, [at])]
    if isinstance(t, DualLanes):
        places.append(b.gep(data, [b.add(plane, at)]))
    return places


def pointer_to(b, address, scalar):
    element = ir.FloatType() if scalar == types.float32 else ir.DoubleType()
    return b.inttoptr(address, element.as_pointer())


def pair_of(parts):
    """Value and tangent; the tangent of a plain number is None."""
    return parts if len(parts) == 2 else (parts[0], None)


def load_vector(b, place, t):
    vector = _lanes_of(t).vector
    return b.load(b.bitcast(place, vector.as_pointer()), align=t.scalar.bitwidth // 8)


def store_vector(b, x, place, t):
    b.store(x, b.bitcast(place, x.type.as_pointer()), align=t.scalar.bitwidth // 8)


def _sum_of_lanes(b, x, t):
    """Sum of a vector's elements."""
    if t.width == 1:
        return b.extract_element(x, _I32(0))
    scalar = x.type.element
    kind = f"v{t.width}{'f32' if scalar == ir.FloatType() else 'f64'}"
    fn = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(scalar, [scalar, x.type]), f"llvm.vector.reduce.fadd.{kind}"
    )
    return b.call(fn, [ir.Constant(scalar, -0.0), x], fastmath=("reassoc", "nsz"))


@intrinsic
def width_of(typingctx, kind):
    """Number of lanes."""
    n = type_of(kind).width
    return types.intp(kind), lambda ctx, b, sig, args: _I64(n)


@intrinsic
def nothing(typingctx, kind):
    """Zero in every lane."""
    t = type_of(kind)
    return t(kind), lambda ctx, b, sig, args: code.join(ctx, b, t, code.zeros(_lanes_of(t).vector), None)


@intrinsic
def load_consecutive(typingctx, kind, memory, plane, at):
    """Consecutive elements from `at`, one per lane."""
    t = type_of(kind)

    def codegen(ctx, b, sig, args):
        places = places_of(b, t, args[1], args[2], args[3])
        return code.join(ctx, b, t, *pair_of([load_vector(b, place, t) for place in places]))

    return t(kind, types.intp, types.intp, types.intp), codegen


@intrinsic
def store_consecutive(typingctx, memory, plane, at, value):
    """Write lanes to consecutive elements from `at`."""

    def codegen(ctx, b, sig, args):
        places = places_of(b, value, args[0], args[1], args[2])
        for place, x in zip(places, code.split(ctx, b, value, args[3]), strict=False):
            store_vector(b, x, place, value)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, value), codegen


@intrinsic
def add_consecutive(typingctx, memory, plane, at, value):
    """Add lanes to consecutive elements from `at`."""

    def codegen(ctx, b, sig, args):
        places = places_of(b, value, args[0], args[1], args[2])
        for place, x in zip(places, code.split(ctx, b, value, args[3]), strict=False):
            store_vector(b, code.add(b, load_vector(b, place, value), x), place, value)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, value), codegen


@intrinsic
def broadcast(typingctx, kind, memory, plane, at):
    """One element of memory in every lane."""
    t = type_of(kind)

    def codegen(ctx, b, sig, args):
        vector = _lanes_of(t).vector
        places = places_of(b, t, args[1], args[2], args[3])
        parts = [code.broadcast(b, vector, b.load(place)) for place in places]
        return code.join(ctx, b, t, *pair_of(parts))

    return t(kind, types.intp, types.intp, types.intp), codegen


@intrinsic
def get_scalar(typingctx, kind, memory, at):
    """One element of memory."""
    scalar = type_of(kind).scalar

    def codegen(ctx, b, sig, args):
        return b.load(b.gep(pointer_to(b, args[1], scalar), [args[2]]))

    return scalar(kind, types.intp, types.intp), codegen


@intrinsic
def set_scalar(typingctx, memory, at, x):
    """Write one element of memory."""

    def codegen(ctx, b, sig, args):
        b.store(args[2], b.gep(pointer_to(b, args[0], x), [args[1]]))
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, x), codegen


@intrinsic
def get_number(typingctx, numbers, at):
    """One element of int32 memory."""

    def codegen(ctx, b, sig, args):
        return b.sext(b.load(b.gep(b.inttoptr(args[0], _I32.as_pointer()), [args[1]])), _I64)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def set_number(typingctx, numbers, at, x):
    """Write one element of int32 memory."""

    def codegen(ctx, b, sig, args):
        b.store(b.trunc(args[2], _I32), b.gep(b.inttoptr(args[0], _I32.as_pointer()), [args[1]]))
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def add_sum(typingctx, memory, plane, at, value):
    """Add the sum over all lanes to one element."""

    def codegen(ctx, b, sig, args):
        places = places_of(b, value, args[0], args[1], args[2])
        for place, x in zip(places, code.split(ctx, b, value, args[3]), strict=False):
            b.store(code.add(b, b.load(place), _sum_of_lanes(b, x, value)), place)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, value), codegen
