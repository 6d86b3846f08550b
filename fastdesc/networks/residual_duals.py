"""Activation and normalisation of residual blocks in dual numbers, compiled for the host: what training takes.

The formulas are (5) to (7) of fastdesc/networks/residual.py, of z + eps tz with plain parameters; a cotangent (d, e)
belongs to (tangent, value), see fastdesc/networks/duals.py. With c = a - mean a, r = (mean c^2 + 1e-5)^(-1/2), x = c r,
D = gain d, E = gain e:

    tc = ta - mean ta,   tr = -r^3 mean(c tc),   tx = tc r + c tr                                             (1)
    m = mean D,   p = mean(D x),   tp = mean(E x + D tx)                                                      (2)
    da = r (D - m - x p),   ea = r (E - mean E - tx p - x tp) + tr (D - m - x p)                              (3)

and da, ea are D, E where nothing is normalised. Device arrays and parameters with tangents take the array operations of
residual.py.
"""

import threading
from functools import cache

import numpy as np
from numba.extending import register_jitable

from fastdesc.backend.jit import kernel
from fastdesc.networks.residual_units import EPSILON
from fastdesc.numerics.elementary import COMPILED, exp, sqrt


@register_jitable(**COMPILED)
def _silu_unit(z, beta, one):
    """phi, its derivatives by z and beta, and the derivatives of these two by z."""
    u = beta * z
    s = one / (one + exp(-u))
    slope = s * (one + u * (one - s))
    curvature = s * (one - s) * (one + one + u * (one - s - s))
    return u * s, beta * slope, z * slope, beta * beta * curvature, slope + u * curvature


@register_jitable(**COMPILED)
def _isru_unit(z, beta, one):
    u = beta * z
    s = one / sqrt(one + u * u)
    cube = s * s * s
    fifth = (one + one + one) * u * s * s * cube
    return z * s, cube, -(z * z * u * cube), -(beta * fifth), -(z * fifth)


UNITS = {"trained_silu": _silu_unit, "trained_isru": _isru_unit}


@cache
def _first(activation):
    """Compiled: fills phi, tphi, by_z, tby_z, by_beta, tby_beta and alpha phi, alpha tphi, in this order."""
    unit = UNITS[activation]

    @kernel
    def first(z, tz, alpha, beta, out):
        one = z.dtype.type(1)
        for i in range(z.shape[0]):
            a, b = alpha[i, 0], beta[i, 0]
            for k in range(z.shape[1]):
                t = tz[i, k]
                phi, by_z, by_beta, by_zz, by_zbeta = unit(z[i, k], b, one)
                out[0, i, k], out[1, i, k] = phi, by_z * t
                out[2, i, k], out[3, i, k] = by_z, by_zz * t
                out[4, i, k], out[5, i, k] = by_beta, by_zbeta * t
                out[6, i, k], out[7, i, k] = a * phi, a * by_z * t

    return first


@kernel
def _normalise(a, ta, epsilon, r):
    """a and ta become x and tx of (1), r (2, n) becomes r and tr."""
    rows, n = a.shape
    one = a.dtype.type(1)
    share = one / a.dtype.type(rows)
    r[:] = 0
    for i in range(rows):
        for k in range(n):
            r[0, k] += a[i, k]
            r[1, k] += ta[i, k]
    for k in range(n):
        r[0, k] *= share
        r[1, k] *= share
    for i in range(rows):
        for k in range(n):
            a[i, k] -= r[0, k]
            ta[i, k] -= r[1, k]
    r[:] = 0
    for i in range(rows):
        for k in range(n):
            r[0, k] += a[i, k] * a[i, k]
            r[1, k] += a[i, k] * ta[i, k]
    for k in range(n):
        inverse = one / np.sqrt(r[0, k] * share + epsilon)
        r[0, k] = inverse
        r[1, k] = -(inverse * inverse * inverse) * (r[1, k] * share)
    for i in range(rows):
        for k in range(n):
            ta[i, k] = ta[i, k] * r[0, k] + a[i, k] * r[1, k]
            a[i, k] *= r[0, k]


@kernel
def _normalise_back(x, tx, r, gain, d, e, sums, da, ea):
    """(2) and (3); `sums` (4, n) is memory."""
    rows, n = x.shape
    share = x.dtype.type(1) / x.dtype.type(rows)
    sums[:] = 0
    for i in range(rows):
        g = gain[i, 0]
        for k in range(n):
            D, E = d[i, k] * g, e[i, k] * g
            sums[0, k] += D
            sums[1, k] += E
            sums[2, k] += D * x[i, k]
            sums[3, k] += E * x[i, k] + D * tx[i, k]
    for k in range(n):
        for q in range(4):
            sums[q, k] *= share
    for i in range(rows):
        g = gain[i, 0]
        for k in range(n):
            own = d[i, k] * g - sums[0, k] - x[i, k] * sums[2, k]
            other = e[i, k] * g - sums[1, k] - tx[i, k] * sums[2, k] - x[i, k] * sums[3, k]
            da[i, k] = r[0, k] * own
            ea[i, k] = r[0, k] * other + r[1, k] * own


@kernel
def _activate_back(kept, alpha, da, ea, dz, ez):
    """Cotangents of z from those of a."""
    for i in range(da.shape[0]):
        a = alpha[i, 0]
        for k in range(da.shape[1]):
            dz[i, k] = a * (da[i, k] * kept[2, i, k])
            ez[i, k] = a * (ea[i, k] * kept[2, i, k] + da[i, k] * kept[3, i, k])


def suits(z, *own):
    """Whether `z` is dual, on the host, and of plain parameters."""
    return z.t is not None and isinstance(z.v, np.ndarray) and z.v.dtype.char in "fd" and all(p.t is None for p in own)


_here = threading.local()
_KEPT = 16
"""Shapes whose memory a thread keeps."""


def _memory(shape, dtype):
    """Eight arrays of a shape, the calling thread's own, which the next call of `value` uses again."""
    known = _here.__dict__
    key = shape, dtype.char
    if key not in known:
        if len(known) >= _KEPT:
            known.clear()
        known[key] = np.empty((8, *shape), dtype)
    return known[key]


def value(activation, z, tz, alpha, beta, gain=None, shift=None):
    """norm(a(z)) and its tangent, and what `pullback` wants back before `value` is called again in this thread."""
    kept = _memory(z.shape, z.dtype)
    _first(activation)(z, np.ascontiguousarray(tz), alpha, beta, kept)
    if gain is None:
        return kept[6].copy(), kept[7].copy(), (kept, None)
    r = np.empty((2, z.shape[1]), z.dtype)
    _normalise(kept[6], kept[7], z.dtype.type(EPSILON), r)
    h, th = gain * kept[6], gain * kept[7]
    h += shift
    return h, th, (kept, r)


def pullback(saved, d, e, alpha, gain=None):
    """Cotangents of z and tz, and those of a, from cotangents d and e of norm(a(z))."""
    kept, r = saved
    d, e = np.ascontiguousarray(d), np.ascontiguousarray(e)
    da, ea = (d, e) if r is None else np.empty((2, *d.shape), d.dtype)
    if r is not None:
        _normalise_back(kept[6], kept[7], r, gain, d, e, np.empty((4, d.shape[1]), d.dtype), da, ea)
    dz, ez = np.empty((2, *d.shape), d.dtype)
    _activate_back(kept, alpha, da, ea, dz, ez)
    return (dz, ez), (da, ea)


def row_products(d, e, x, tx):
    """Sums over columns of d x, and of e x + d tx, (rows, 1) each."""
    tangent = np.einsum("ik,ik->i", e, x)
    tangent += np.einsum("ik,ik->i", d, tx)
    return np.einsum("ik,ik->i", d, x)[:, None], tangent[:, None]
