"""The elementary functions of fastdesc.numerics.elementary for SIMD values: activations are written once, for all.

A comparison of a vector with a number gives a vector of 1 and 0. Duals are left out: what a network does to tangents
is written by hand.
"""

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from fastdesc.numerics import elementary
from fastdesc.simd import codegen as code
from fastdesc.simd import functions
from fastdesc.simd.codegen import DualLanes, Lanes


def _plain(*given):
    """Whether the first is a plain vector, and the others vectors or numbers."""
    if any(isinstance(t, DualLanes) or not isinstance(t, Lanes | types.Number) for t in given):
        return False
    return isinstance(given[0], Lanes)


def _vector(ctx, b, t, given, x):
    """A vector, or a number in every lane."""
    return x if isinstance(given, Lanes) else code.broadcast(b, t.vector, ctx.cast(b, x, given, t.scalar))


@type_callable(operator.neg)
def _type_neg(context):
    return lambda x: x if _plain(x) else None


@lower_builtin(operator.neg, Lanes)
def _lower_neg(ctx, b, sig, args):
    return b.fneg(args[0])


@type_callable(operator.lt)
def _type_less(context):
    return lambda x, y: x if _plain(x, y) else None


@lower_builtin(operator.lt, Lanes, types.Number)
def _lower_less(ctx, b, sig, args):
    t = sig.args[0]
    less = b.fcmp_ordered("<", args[0], _vector(ctx, b, t, sig.args[1], args[1]))
    return b.select(less, ir.Constant(t.vector, [1.0] * t.width), code.zeros(t.vector))


@intrinsic
def _chosen(typingctx, condition, x, y):
    """`x` in the lanes where the condition is not zero, else `y`."""

    def codegen(ctx, b, sig, args):
        holds = b.fcmp_unordered("!=", args[0], code.zeros(args[0].type))
        parts = [_vector(ctx, b, condition, t, v) for t, v in zip(sig.args[1:], args[1:], strict=True)]
        return b.select(holds, *parts)

    return condition(condition, x, y), codegen


def _extreme(order):
    @intrinsic
    def bounded(typingctx, x, y):
        def codegen(ctx, b, sig, args):
            other = _vector(ctx, b, x, y, args[1])
            return b.select(b.fcmp_ordered(order, args[0], other), other, args[0])

        return x(x, y), codegen

    return bounded


_larger, _smaller = _extreme("<"), _extreme(">")


@overload(elementary.where)
def _where(condition, x, y):
    return (lambda condition, x, y: _chosen(condition, x, y)) if _plain(condition, x, y) else None


@overload(elementary.maximum)
def _maximum(x, y):
    return (lambda x, y: _larger(x, y)) if _plain(x, y) else None


@overload(elementary.minimum)
def _minimum(x, y):
    return (lambda x, y: _smaller(x, y)) if _plain(x, y) else None


@overload(elementary.exp)
def _exp(x):
    return (lambda x: functions.exp(x)) if _plain(x) else None


@overload(elementary.tanh)
def _tanh(x):
    if not _plain(x):
        return None

    def compiled(x):
        e = functions.exp(_larger(x, -x) * -2.0)
        t = (1.0 - e) / (1.0 + e)
        return _chosen(x < 0.0, -t, t)

    return compiled


@overload(elementary.log1p)
def _log1p(x):
    """2 artanh(x / (2 + x)), by Taylor's series: see fastdesc.numerics.elementary."""
    if not _plain(x):
        return None
    terms = 8 if x.scalar == types.float32 else 17
    first = 1 / (2 * terms - 1)
    series = tuple(1 / (2 * k - 1) for k in range(terms - 1, 0, -1))

    def compiled(x):
        t = x / (x + 2.0)
        tt = t * t
        p = tt * first
        for k in range(len(series) - 1):
            p = (p + series[k]) * tt
        return (p + series[-1]) * t * 2.0

    return compiled
