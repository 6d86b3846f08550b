"""Activation functions: one text for NumPy arrays, for CUDA kernels fused by CuPy and for compiled loops.

An activation is three small functions. Its value comes with a `gate` s, from which, with the value h itself, both
derivatives follow without another exponential:

    h, s = value(z)          h' = slope(h, s)          h'' = curvature(h, s)

All of them vanish at z = 0, so that a network without bias maps zero to zero.

    silu      h = z s, s = 1 / (1 + e^-z)       h' = s + h (1 - s)    h'' = (1 - s) (2 s + h (1 - 2 s))      (1)
    tanh      h = tanh z, s = 1 - h^2           h' = s                h'' = -2 h s                           (2)
    celu      h = max(z, 0) + e^min(z, 0) - 1   h' = s = e^min(z, 0)  h'' = s where z < 0, else 0            (3)
    softplus  h = ln((1 + e^z) / 2)             h' = s = 1/(1 + e^-z) h'' = s (1 - s)                        (4)

celu has a continuous slope but a curvature that jumps at z = 0: forces are continuous, their derivatives are not;
the others are smooth. softplus is shifted by -ln 2; celu and softplus are convex and increasing.

References: Elfwing, Uchibe, Doya, Neural Networks 107, 3 (2018) (silu); Barron, arXiv:1704.07483 (celu, here with
alpha = 1); Schuett et al., J. Chem. Phys. 148, 241722 (2018) (shifted softplus).
"""

from collections import namedtuple
from functools import cache

import numpy as np
from numba.extending import register_jitable

from fastdesc.backend.arrays import namespace
from fastdesc.backend.jit import kernel
from fastdesc.errors import InputError, nearest
from fastdesc.numerics.elementary import COMPILED, exp, log1p, maximum, minimum, tanh, where

Activation = namedtuple("Activation", "value slope curvature")
Passes = namedtuple("Passes", "values slopes duals")
Loops = namedtuple("Loops", "values slopes duals")


# The activations. `one` is 1 in the dtype of the arrays: in compiled code a literal would promote float32.


@register_jitable(**COMPILED)
def _silu(z, one):
    s = one / (one + exp(-z))
    return z * s, s


@register_jitable(**COMPILED)
def _silu_slope(h, s, one):
    return s + h * (one - s)


@register_jitable(**COMPILED)
def _silu_curvature(h, s, one):
    return (one - s) * (s + s + h * (one - s - s))


@register_jitable(**COMPILED)
def _gate(h, s, one):
    return s


@register_jitable(**COMPILED)
def _tanh_value(z, one):
    h = tanh(z)
    return h, one - h * h


@register_jitable(**COMPILED)
def _tanh_curvature(h, s, one):
    return -(h + h) * s


@register_jitable(**COMPILED)
def _celu(z, one):
    s = exp(minimum(z, 0))
    return maximum(z, 0) + (s - one), s


@register_jitable(**COMPILED)
def _celu_curvature(h, s, one):
    return where(h < 0, s, 0)


@register_jitable(**COMPILED)
def _softplus(z, one):
    e = exp(-maximum(z, -z))  # no overflow on either side
    r = one / (one + e)
    return maximum(z, 0) - log1p(r + r - one), where(z < 0, e * r, r)


@register_jitable(**COMPILED)
def _softplus_curvature(h, s, one):
    return s * (one - s)


ACTIVATIONS = {
    "silu": Activation(_silu, _silu_slope, _silu_curvature),
    "tanh": Activation(_tanh_value, _gate, _tanh_curvature),
    "celu": Activation(_celu, _gate, _celu_curvature),
    "softplus": Activation(_softplus, _gate, _softplus_curvature),
}


def _formulas(value, slope, curvature):
    """The three elementwise steps of network.py, for scalars or arrays."""

    @register_jitable(**COMPILED)
    def values(z, b, one):
        return value(z + b, one)

    @register_jitable(**COMPILED)
    def slopes(h, s, g, one):
        return slope(h, s, one) * g

    @register_jitable(**COMPILED)
    def duals(h, s, u, tz, g, sign, one):
        p, c = slope(h, s, one), sign * g
        return p * u + curvature(h, s, one) * (tz * c), p * tz, p * c

    return values, slopes, duals


def _loops(values, slopes, duals):
    """The same three as compiled loops; the first array argument that is not needed any more is overwritten."""

    @kernel
    def values_loop(z, b, s):
        one = z.dtype.type(1)
        for i in range(z.shape[0]):
            for k in range(z.shape[1]):
                z[i, k], s[i, k] = values(z[i, k], b[i, 0], one)

    @kernel
    def slopes_loop(h, s, g, out):
        one = h.dtype.type(1)
        for i in range(h.shape[0]):
            for k in range(h.shape[1]):
                out[i, k] = slopes(h[i, k], s[i, k], g[i, k], one)

    @kernel
    def duals_loop(h, s, u, tz, g, sign, th, dtz):
        one = h.dtype.type(1)
        for i in range(h.shape[0]):
            for k in range(h.shape[1]):
                u[i, k], th[i, k], dtz[i, k] = duals(h[i, k], s[i, k], u[i, k], tz[i, k], g[i, k], sign, one)

    return Loops(values_loop, slopes_loop, duals_loop)


def _compiled(loops):
    values_loop, slopes_loop, duals_loop = loops

    def values(z, b):
        s = np.empty_like(z)
        values_loop(z, b, s)
        return z, s

    def slopes(h, s, g):
        out = np.empty_like(h)
        slopes_loop(h, s, g, out)
        return out

    def duals(h, s, u, tz, g, sign):
        th, dtz = np.empty_like(h), np.empty_like(h)
        duals_loop(h, s, u, tz, g, h.dtype.type(sign), th, dtz)
        return u, th, dtz

    return Passes(values, slopes, duals)


def _on_arrays(formulas):
    values, slopes, duals = formulas
    return Passes(
        lambda z, b: values(z, b, z.dtype.type(1)),
        lambda h, s, g: slopes(h, s, g, h.dtype.type(1)),
        lambda h, s, u, tz, g, sign: duals(h, s, u, tz, g, h.dtype.type(sign), h.dtype.type(1)),
    )


@cache
def host_loops(name):
    """The compiled loops themselves, for float32 or float64 arrays of the host that the caller provides.

    Returns
    -------
    Loops
        values(z, b, s)                          z becomes the value of z + b, s its gate
        slopes(h, s, g, out)                     out = h' g; out may be g
        duals(h, s, u, tz, g, sign, th, dtz)     u becomes h' u + sign h'' tz g, th = h' tz, dtz = sign h' g
    """
    return _loops(*_formulas(*ACTIVATIONS[name]))


@cache
def _compiled_passes(name):
    return _compiled(host_loops(name))


@cache
def _array_passes(name, xp):
    formulas = _formulas(*ACTIVATIONS[name])
    return _on_arrays(formulas if xp is np else [xp.fuse(f) for f in formulas])


def check_activation(name):
    """Return `name` when it is an activation; InputError with the nearest name otherwise."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InputError(f"activation {name!r} is not known{nearest(name, ACTIVATIONS)}; use one of {known}")
    return name


def passes(name, x):
    """The elementwise steps of a network for arrays like `x`.

    Parameters
    ----------
    name : str
        A key of ACTIVATIONS.
    x : array
        Decides: NumPy float32 or float64 runs compiled loops, CuPy fused kernels, another dtype (the complex step)
        plain array operations.

    Returns
    -------
    Passes
        values(z, b) -> h, s        h = value of z + b and its gate; z may be overwritten
        slopes(h, s, g) -> h' g
        duals(h, s, u, tz, g, sign) -> h' u + sign h'' tz g, h' tz, sign h' g;   u may be overwritten
    """
    check_activation(name)
    xp = namespace(x)
    return _compiled_passes(name) if xp is np and x.dtype.char in "fd" else _array_passes(name, xp)
