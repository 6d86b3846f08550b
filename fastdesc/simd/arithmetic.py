"""Operators of SIMD values, with each other and with plain numbers, and values made of numbers."""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, type_callable

from fastdesc.simd import codegen as code
from fastdesc.simd.codegen import BITS, DualLanes, Lanes

_I64 = ir.IntType(64)


def width(dtype):
    """Number of lanes of a whole vector of `dtype`."""
    return BITS // (8 * np.dtype(dtype).itemsize)


def kind_of(dtype, dual, n_lanes=None):
    """Value to pass as `kind`: a scalar for plain numbers, a pair for dual ones; ((kind, ..),) for n_lanes lanes."""
    zero = np.dtype(dtype).type(0)
    kind = (zero, zero) if dual else zero
    return kind if n_lanes is None else ((kind,) * n_lanes,)


def _common(x, y):
    """Type of x op y, or None when this is not ours: equal types, or one of them a plain scalar."""
    ours = [t for t in (x, y) if isinstance(t, Lanes | DualLanes)]
    if not ours or any(not isinstance(t, Lanes | DualLanes | types.Number) for t in (x, y)):
        return None
    return ours[0] if all(t == ours[0] for t in ours) else None


def _register(op, rule):
    @type_callable(op)
    def _typer(context):
        return _common

    def lower(ctx, b, sig, args):
        t = sig.return_type
        parts = []
        for arg_type, x in zip(sig.args, args, strict=True):
            if isinstance(arg_type, types.Number):
                parts += [code.broadcast(b, t.lanes.vector, ctx.cast(b, x, arg_type, t.scalar)), None]
            else:
                parts += code.split(ctx, b, arg_type, x)
        return code.join(ctx, b, t, *rule(b, *parts))

    for ours in (Lanes, DualLanes):
        lower_builtin(op, ours, ours)(lower)
        lower_builtin(op, ours, types.Number)(lower)
        lower_builtin(op, types.Number, ours)(lower)


for _op, _rule in (
    (operator.add, code.sum_rule(code.add)),
    (operator.sub, code.sum_rule(code.sub)),
    (operator.mul, code.mul_rule),
    (operator.truediv, code.div_rule),
):
    _register(_op, _rule)


def _constant(number):
    """An intrinsic of `kind` alone, whose result is known when a kernel is compiled."""

    @intrinsic
    def constant(typingctx, kind):
        n = number(code.value_type(kind))
        return types.intp(kind), lambda ctx, b, sig, args: _I64(n)

    return constant


lanes = _constant(lambda t: t.width)
"""lanes(kind): number of lanes of a value."""
planes_of = _constant(lambda t: t.planes)
"""planes_of(kind): 1 for plain numbers, 2 for dual ones."""
slots = _constant(lambda t: t.width * t.planes)
"""slots(kind): scalars that a value occupies in scratch memory."""


@intrinsic
def splat(typingctx, kind, x):
    """The number `x` in every lane, its tangent zero."""
    t = code.value_type(kind)

    def codegen(ctx, b, sig, args):
        return code.join(ctx, b, t, code.broadcast(b, t.lanes.vector, ctx.cast(b, args[1], x, t.scalar)), None)

    return t(kind, x), codegen
