"""How SIMD values become instructions: their Numba types, and LLVM code for arithmetic on them and on dual numbers.

For those who write intrinsics; kernels use fastdesc.simd. In all of it `b` is llvmlite's IRBuilder, `ctx` Numba's
target context, and a tangent that is None is zero. A rule takes values and tangents of x and y, (b, xv, xt, yv, yt),
and returns those of the result.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default

BITS = 512
_I32 = ir.IntType(32)
# Sums may be reassociated and contracted to FMA; NaN and infinity stay honest.
_FLAGS = ("contract", "reassoc", "nsz", "arcp")


class Lanes(types.Type):
    """A vector of `width` scalars, of 512 bits unless another width is asked for."""

    planes = 1

    def __init__(self, scalar, width=None):
        self.scalar = scalar
        self.width = BITS // scalar.bitwidth if width is None else width
        super().__init__(name=f"Lanes({scalar} x {self.width})")

    @property
    def vector(self):
        return ir.VectorType(self.element, self.width)

    @property
    def element(self):
        return ir.FloatType() if self.scalar == types.float32 else ir.DoubleType()

    @property
    def lanes(self):
        """Type of the value of a dual number, and of its tangent; a plain number is its own value."""
        return self


class DualLanes(types.Type):
    """A vector of dual numbers v + eps t."""

    planes = 2

    def __init__(self, scalar, width=None):
        self.lanes = Lanes(scalar, width)
        self.scalar, self.width = scalar, self.lanes.width
        super().__init__(name=f"DualLanes({scalar} x {self.width})")


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.vector)


@register_default(DualLanes)
class _DualLanesModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("v", fe_type.lanes), ("t", fe_type.lanes)])


def value_type(kind):
    """Type of the values that `kind` stands for, see fastdesc.simd.kind_of."""
    if isinstance(kind, types.BaseTuple) and kind.count == 1:    # ((kind, kind, ..),): as many lanes as there are kinds
        t = value_type(kind.types[0].types[0])
        return type(t)(t.scalar, kind.types[0].count)
    if isinstance(kind, types.Float):
        return Lanes(kind)
    if isinstance(kind, types.UniTuple) and isinstance(kind.dtype, types.Float) and kind.count == 2:
        return DualLanes(kind.dtype)
    return None


def broadcast(b, vector, scalar):
    """A vector of one scalar in every lane."""
    one = b.insert_element(ir.Constant(vector, ir.Undefined), scalar, _I32(0))
    mask = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def zeros(vector):
    return ir.Constant(vector, [0.0] * vector.count)


def split(ctx, b, t, x):
    """Value and tangent vectors of `x` of type `t`; the tangent of a plain number is None."""
    if isinstance(t, Lanes):
        return x, None
    s = cgutils.create_struct_proxy(t)(ctx, b, value=x)
    return s.v, s.t


def join(ctx, b, t, v, tangent):
    """The inverse of `split`."""
    if isinstance(t, Lanes):
        return v
    s = cgutils.create_struct_proxy(t)(ctx, b)
    s.v = v
    s.t = zeros(t.lanes.vector) if tangent is None else tangent
    return s._getvalue()


def add(b, x, y):
    return b.fadd(x, y, flags=_FLAGS)


def sub(b, x, y):
    return b.fsub(x, y, flags=_FLAGS)


def mul(b, x, y):
    return b.fmul(x, y, flags=_FLAGS)


def div(b, x, y):
    return b.fdiv(x, y, flags=_FLAGS)


def sum_rule(op):
    """The rule of `add` or `sub`."""

    def rule(b, xv, xt, yv, yt):
        if xt is None and yt is None:
            return op(b, xv, yv), None
        xt = zeros(xv.type) if xt is None else xt
        yt = zeros(yv.type) if yt is None else yt
        return op(b, xv, yv), op(b, xt, yt)

    return rule


def mul_rule(b, xv, xt, yv, yt):
    v = mul(b, xv, yv)
    if xt is None and yt is None:
        return v, None
    if yt is None:
        return v, mul(b, xt, yv)
    if xt is None:
        return v, mul(b, xv, yt)
    return v, add(b, mul(b, xv, yt), mul(b, xt, yv))


def div_rule(b, xv, xt, yv, yt):
    v = div(b, xv, yv)
    if xt is None and yt is None:
        return v, None
    t = zeros(xv.type) if xt is None else xt
    if yt is not None:
        t = sub(b, t, mul(b, v, yt))
    return v, div(b, t, yv)
