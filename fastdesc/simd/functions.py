"""Functions of SIMD values: sqrt, exp, sine and cosine, selection, and the parts of dual numbers.

All are written for plain and dual values and compile to straight vector code; the polynomials are as long as
the scalar type asks for (float32 or float64).
"""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastdesc.simd import codegen as code
from fastdesc.simd.codegen import DualLanes, Lanes


def _unary(name, x):
    """LLVM's vector intrinsic of this name, as code generator."""

    def call(b, v):
        kind = f"v{x.width}{'f32' if x.scalar == types.float32 else 'f64'}"
        signature = ir.FunctionType(v.type, [v.type])
        return b.call(cgutils.get_or_insert_function(b.module, signature, f"llvm.{name}.{kind}"), [v])

    return call


@intrinsic
def value(typingctx, x):
    """Value part of a plain or dual number."""
    t = x.lanes
    return t(x), lambda ctx, b, sig, args: code.split(ctx, b, x, args[0])[0]


@intrinsic
def tangent(typingctx, x):
    """Tangent part of a dual number; zero for a plain one."""
    t = x.lanes

    def codegen(ctx, b, sig, args):
        part = code.split(ctx, b, x, args[0])[1]
        return code.zeros(t.vector) if part is None else part

    return t(x), codegen


@intrinsic
def dual(typingctx, v, t):
    """The dual number v + eps t."""
    d = DualLanes(v.scalar, v.width)
    return d(v, t), lambda ctx, b, sig, args: code.join(ctx, b, d, args[0], args[1])


@intrinsic
def sqrt(typingctx, x):
    """Square root."""
    root = _unary("sqrt", x)

    def codegen(ctx, b, sig, args):
        v, t = code.split(ctx, b, x, args[0])
        s = root(b, v)
        return code.join(ctx, b, x, s, None if t is None else code.div(b, t, code.add(b, s, s)))

    return x(x), codegen


@intrinsic
def below(typingctx, x, limit, y):
    """`y` in the lanes where x < limit, zero elsewhere."""
    y_type = y

    def codegen(ctx, b, sig, args):
        v, _ = code.split(ctx, b, x, args[0])
        inside = b.fcmp_ordered("<", v, code.broadcast(b, v.type, ctx.cast(b, args[1], limit, x.scalar)))
        yv, yt = code.split(ctx, b, y_type, args[2])
        yt = None if yt is None else b.select(inside, yt, code.zeros(yt.type))
        return code.join(ctx, b, y_type, b.select(inside, yv, code.zeros(yv.type)), yt)

    return y(x, limit, y), codegen


@intrinsic
def at_most(typingctx, x, limit):
    """`x` where it is not above the limit, else the limit, with a tangent of zero; what is not a number stays so."""

    def codegen(ctx, b, sig, args):
        v, t = code.split(ctx, b, x, args[0])
        highest = code.broadcast(b, v.type, ctx.cast(b, args[1], limit, x.scalar))
        above = b.fcmp_ordered(">", v, highest)
        t = None if t is None else b.select(above, code.zeros(t.type), t)
        return code.join(ctx, b, x, b.select(above, highest, v), t)

    return x(x, limit), codegen


@intrinsic
def _floor(typingctx, x):
    call = _unary("floor", x)
    return x(x), lambda ctx, b, sig, args: call(b, args[0])


@intrinsic
def _pow2(typingctx, n):
    """2**n for integral n, by writing the exponent."""
    bits, bias, mantissa = (32, 127, 23) if n.scalar == types.float32 else (64, 1023, 52)

    def codegen(ctx, b, sig, args):
        integer = ir.VectorType(ir.IntType(bits), n.width)
        k = b.fptosi(args[0], integer)
        k = b.add(k, ir.Constant(integer, [bias] * n.width))
        return b.bitcast(b.shl(k, ir.Constant(integer, [mantissa] * n.width)), n.vector)

    return n(n), codegen


def _bounded(name, order, predicate):
    @intrinsic
    def bounded(typingctx, x, bound):
        def codegen(ctx, b, sig, args):
            limit = code.broadcast(b, args[0].type, ctx.cast(b, args[1], bound, x.scalar))
            return b.select(getattr(b, f"fcmp_{order}")(predicate, args[0], limit), limit, args[0])

        return x(x, bound), codegen

    bounded.__name__ = name
    return bounded


# What is not a number stays as it is, but for the last, which makes it the bound.
_at_least = _bounded("_at_least", "ordered", "<")
_at_most = _bounded("_at_most", "ordered", ">")
_surely_at_least = _bounded("_surely_at_least", "unordered", "<")


@intrinsic
def _less(typingctx, x, n, step):
    """x - n * step with no rounding between, and not to be joined with other sums."""

    def codegen(ctx, b, sig, args):
        wide = code.broadcast(b, args[0].type, ctx.cast(b, args[2], step, x.scalar))
        return b.fsub(args[0], b.fmul(args[1], wide, flags=("contract",)), flags=("contract",))

    return x(x, n, step), codegen


def exp(x):
    """Exponential, relative error below 2 units in the last place; below the smallest normal number it stays there."""
    raise TypeError("exp of SIMD values is for compiled code")


@overload(exp, inline="never")
def _exp(x):
    if isinstance(x, DualLanes):

        def impl(x):
            v = exp(value(x))
            return dual(v, v * tangent(x))

        return impl
    if not isinstance(x, Lanes):
        return None
    single = x.scalar == types.float32
    lowest, highest = (-87.0, 89.0) if single else (-708.0, 710.0)    # 2^n is infinite for the highest
    log2e, high, low = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
    if single:
        high, low = 0.693359375, -2.12194440e-4
    c2, c3, c4, c5, c6 = (1 / math.factorial(k) for k in range(2, 7))
    c7, c8, c9, c10, c11, c12 = (1 / math.factorial(k) for k in range(7, 13))

    def impl_single(x):
        y = _at_most(_at_least(x, lowest), highest)
        n = _floor(y * log2e + 0.5)
        r = _less(_less(y, n, high), n, low)
        p = r * (r * (r * (r * (r * (r * c7 + c6) + c5) + c4) + c3) + c2) * r + r + 1.0
        return p * _pow2(_surely_at_least(n, -126.0))

    def impl_double(x):
        y = _at_most(_at_least(x, lowest), highest)
        n = _floor(y * log2e + 0.5)
        r = _less(_less(y, n, high), n, low)
        p = r * (r * (r * (r * (r * (r * c12 + c11) + c10) + c9) + c8) + c7) + c6
        p = r * (r * (r * (r * (r * p + c5) + c4) + c3) + c2) * r + r + 1.0
        return p * _pow2(_surely_at_least(n, -1022.0))

    return impl_single if single else impl_double


def sincos(x):
    """Sine and cosine for 0 <= x <= pi, from the even and odd series about pi/2."""
    raise TypeError("sincos of SIMD values is for compiled code")


@overload(sincos, inline="never")
def _sincos(x):
    if isinstance(x, DualLanes):

        def impl(x):
            s, c = sincos(value(x))
            t = tangent(x)
            return dual(s, c * t), dual(c, s * t * -1.0)

        return impl
    if not isinstance(x, Lanes):
        return None
    half_pi = math.pi / 2
    rest = 6.123233995736766e-17
    n_terms = 7 if x.scalar == types.float32 else 12
    even = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(n_terms))
    odd = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(n_terms))
    last = n_terms - 1

    def impl(x):
        t = (x - half_pi) - rest
        tt = t * t
        s = tt * even[last]
        c = tt * odd[last]
        for k in range(last - 1, 0, -1):
            s = (s + even[k]) * tt
            c = (c + odd[k]) * tt
        return s + even[0], t * (c + odd[0]) * -1.0

    return impl
