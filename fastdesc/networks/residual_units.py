"""Activation and normalisation of fastdesc/networks/residual.py on plain arrays, (4) to (7) there, in one pass each.

What energies and forces need is here, compiled for the host and launched on a device; what training needs beyond is
made of array operations there.
"""

from functools import cache

import numpy as np
from numba.extending import register_jitable

from fastdesc.backend.jit import kernel
from fastdesc.networks import residual_cuda
from fastdesc.numerics.elementary import COMPILED, exp, sqrt

EPSILON = 1e-5
"""Added to variances, as published."""


@register_jitable(**COMPILED)
def _silu_unit(z, beta, one):
    """phi and its slope."""
    u = beta * z
    s = one / (one + exp(-u))
    return u * s, beta * (s * (one + u * (one - s)))


@register_jitable(**COMPILED)
def _isru_unit(z, beta, one):
    u = beta * z
    s = one / sqrt(one + u * u)
    return z * s, s * s * s


UNITS = {"trained_silu": _silu_unit, "trained_isru": _isru_unit}


@cache
def _loops(activation):
    """Compiled loops: values(z, alpha, beta, h), and both(z, alpha, beta, h, slope) with the slope of h."""
    unit = UNITS[activation]

    @kernel
    def values(z, alpha, beta, h):
        one = z.dtype.type(1)
        for i in range(z.shape[0]):
            a, b = alpha[i, 0], beta[i, 0]
            for k in range(z.shape[1]):
                h[i, k] = a * unit(z[i, k], b, one)[0]

    @kernel
    def both(z, alpha, beta, h, slope):
        one = z.dtype.type(1)
        for i in range(z.shape[0]):
            a, b = alpha[i, 0], beta[i, 0]
            for k in range(z.shape[1]):
                phi, by_z = unit(z[i, k], b, one)
                h[i, k], slope[i, k] = a * phi, a * by_z

    return values, both


@kernel
def _centre(h, epsilon, r):
    """Subtract means over rows from h; r becomes the inverse square root of (6)."""
    rows, n = h.shape
    one = h.dtype.type(1)
    share = one / h.dtype.type(rows)
    r[:] = 0
    for i in range(rows):
        for k in range(n):
            r[k] += h[i, k]
    for k in range(n):
        r[k] *= share
    for i in range(rows):
        for k in range(n):
            h[i, k] -= r[k]
    r[:] = 0
    for i in range(rows):
        for k in range(n):
            r[k] += h[i, k] * h[i, k]
    for k in range(n):
        r[k] = one / np.sqrt(r[k] * share + epsilon)


@kernel
def _scale(h, r, gain, shift):
    """h becomes gain h r + shift."""
    for i in range(h.shape[0]):
        g, s = gain[i, 0], shift[i, 0]
        for k in range(h.shape[1]):
            h[i, k] = g * (h[i, k] * r[k]) + s


@kernel
def _scale_back(h, r, gain, dh, slope, mean, along):
    """(7) times `slope`, into `slope`; h is centred."""
    rows, n = h.shape
    share = h.dtype.type(1) / h.dtype.type(rows)
    mean[:] = 0
    along[:] = 0
    for i in range(rows):
        g = gain[i, 0]
        for k in range(n):
            d = dh[i, k] * g
            mean[k] += d
            along[k] += d * h[i, k]
    for k in range(n):
        mean[k] *= share
        along[k] *= share * r[k] * r[k]
    for i in range(rows):
        g = gain[i, 0]
        for k in range(n):
            slope[i, k] *= r[k] * (dh[i, k] * g - mean[k] - h[i, k] * along[k])


def plain(*arrays):
    """Whether there are no tangents, and numbers that kernels know."""
    return all(a.t is None for a in arrays) and arrays[0].v.dtype.char in "fd"


def value(activation, z, alpha, beta, gain=None, shift=None):
    """norm(a(z)), (width, n); without `gain` it is not normalised."""
    if residual_cuda.suits(z):
        return residual_cuda.value(activation, z, alpha, beta, gain, shift)
    h = np.empty(z.shape, z.dtype)
    _loops(activation)[0](z, alpha, beta, h)
    if gain is not None:
        r = np.empty(z.shape[1], z.dtype)
        _centre(h, z.dtype.type(EPSILON), r)
        _scale(h, r, gain, shift)
    return h


def pullback(activation, z, dh, alpha, beta, gain=None, shift=None):
    """Cotangent of z from that of norm(a(z)), (width, n)."""
    if residual_cuda.suits(z):
        return residual_cuda.pullback(activation, z, dh, alpha, beta, gain)
    h, slope = np.empty(z.shape, z.dtype), np.empty(z.shape, z.dtype)
    _loops(activation)[1](z, alpha, beta, h, slope)
    if gain is None:
        slope *= dh
        return slope
    r, mean, along = np.empty((3, z.shape[1]), z.dtype)
    _centre(h, z.dtype.type(EPSILON), r)
    _scale_back(h, r, gain, np.ascontiguousarray(dh), slope, mean, along)
    return slope
