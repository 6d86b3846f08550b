"""Elementary functions that one text can use on arrays of any library and inside compiled loops.

On arrays they are the library's own (NumPy, CuPy, also while CuPy fuses). Inside compiled loops they are polynomials,
because the mathematical library's functions do not vectorise there.

Text that CuPy fuses must not calculate with a literal and a scalar alone: CuPy does it in half precision.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastdesc.backend.arrays import namespace

# Without "reassoc": the range reduction of exp depends on the order of its subtractions. NaN stays honest.
# A function that LLVM finds too long to inline keeps the loop around it from being vectorised, 20 times slower.
COMPILED = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "forceinline": True}


def exp(x):
    """e^x."""
    return namespace(x).exp(x)


def tanh(x):
    """Hyperbolic tangent."""
    return namespace(x).tanh(x)


def log1p(x):
    """ln(1 + x); compiled only for -1/2 <= x <= 1."""
    return namespace(x).log1p(x)


def sqrt(x):
    """Square root."""
    return namespace(x).sqrt(x)


def maximum(x, y):
    """The larger one, elementwise; NaN if `x` is."""
    return namespace(x).maximum(x, y)


def minimum(x, y):
    """The smaller one, elementwise; NaN if `x` is."""
    return namespace(x).minimum(x, y)


def where(condition, x, y):
    """`x` where the condition holds, else `y`."""
    return namespace(condition).where(condition, x, y)


@intrinsic
def _power_of_two(_, n):
    """2^n for a whole number n in floating point, by its exponent bits."""
    bits, bias, mantissa = (32, 127, 23) if n is types.float32 else (64, 1023, 52)

    def emit(context, builder, signature, args):
        integer = ir.IntType(bits)
        exponent = builder.add(builder.fptosi(args[0], integer), integer(bias))
        return builder.bitcast(builder.shl(exponent, integer(mantissa)), args[0].type)

    return n(n), emit


def _real(x):
    return np.float32 if x is types.float32 else np.float64


@overload(exp, jit_options=COMPILED)
def _exp(x):
    """Cody and Waite's reduction to |r| <= ln(2)/2, then the Taylor series; error about one unit in the last place.

    Below `lowest` the result stays at the smallest normal number, from half a binade below the largest it is inf.
    """
    if not isinstance(x, types.Float):
        return None
    if x is types.float32:
        real, degree, lowest, highest, head = np.float32, 7, -87.0, 89.0, 355 / 512
    else:
        real, degree, lowest, highest, head = np.float64, 13, -708.0, 710.0, 6.93147180369123816490e-01
    tail = real(1.90821492927058770002e-10 if real is np.float64 else math.log(2) - head)
    lowest, highest, head, per_ln2 = real(lowest), real(highest), real(head), real(1 / math.log(2))
    first = real(1 / math.factorial(degree))
    series = tuple(real(1 / math.factorial(k)) for k in range(degree - 1, -1, -1))

    def compiled(x):
        y = lowest if x < lowest else x  # in this order NaN passes
        y = highest if y > highest else y
        n = np.rint(y * per_ln2)
        r = (y - n * head) - n * tail
        p = first
        for c in series:
            p = p * r + c
        return p * _power_of_two(n)

    return compiled


@overload(tanh, jit_options=COMPILED)
def _tanh(x):
    if not isinstance(x, types.Float):
        return None
    real = _real(x)
    one, two = real(1), real(2)

    def compiled(x):
        e = exp(-two * abs(x))
        t = (one - e) / (one + e)
        return -t if x < 0 else t

    return compiled


@overload(log1p, jit_options=COMPILED)
def _log1p(x):
    """ln(1 + x) = 2 artanh(t), t = x / (2 + x), and the Taylor series for |t| <= 1/3."""
    if not isinstance(x, types.Float):
        return None
    real, terms = (np.float32, 8) if x is types.float32 else (np.float64, 17)
    first, two = real(1 / (2 * terms - 1)), real(2)
    series = tuple(real(1 / (2 * k - 1)) for k in range(terms - 1, 0, -1))
    high, low = series[: terms // 2], series[terms // 2 :]  # LLVM unrolls, and so vectorises, only short loops

    def compiled(x):
        t = x / (two + x)
        p = first
        for c in high:
            p = p * (t * t) + c
        for c in low:
            p = p * (t * t) + c
        return two * t * p

    return compiled


@overload(sqrt, jit_options=COMPILED)
def _sqrt(x):
    if not isinstance(x, types.Float):
        return None
    return lambda x: math.sqrt(x)


@overload(maximum, jit_options=COMPILED)
def _maximum(x, y):
    if not isinstance(x, types.Float):
        return None
    real = _real(x)  # y may be a literal 0, which would promote float32
    return lambda x, y: real(y) if x < y else x


@overload(minimum, jit_options=COMPILED)
def _minimum(x, y):
    if not isinstance(x, types.Float):
        return None
    real = _real(x)
    return lambda x, y: real(y) if x > y else x


@overload(where, jit_options=COMPILED)
def _where(condition, x, y):
    if not isinstance(x, types.Float) or not isinstance(condition, types.Boolean):
        return None
    real = _real(x)
    return lambda condition, x, y: x if condition else real(y)
