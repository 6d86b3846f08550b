"""Cutoff and radial bases on SIMD values: values and slopes, once per pair.

    f_c(r) = (1 + cos(pi r / r_c)) / 2                                                              (1)
    gaussian   g_b(r) = (2 a / pi)^(1/4) exp(-a (r - mu_b)^2),  a = N^2 / r_c^2,
               mu_b = r_min + b (r_c - r_min) / N                                                   (2)
    bessel     g_b(r) = (-1)^b sqrt(2) pi r_c^(-3/2) [ sinc((b+1) r/r_c) + sinc((b+2) r/r_c) ],
               sinc x = sin(pi x) / (pi x)                                                          (3)

with b = 0..N-1. Both are multiplied by f_c and by N^(-1/2), and are exactly zero from r_c on. f_c has one
continuous derivative at r_c; value, slope and curvature of (3) vanish there, so f_c g_b has four.
"""

import math

import numpy as np

from fastdesc.backend.jit import inner
from fastdesc.simd import load, splat, store
from fastdesc.simd.functions import at_most, below, exp, sincos

BASES = ("gaussian", "bessel")
GAUSSIAN, BESSEL = range(2)
R_MIN = 0.5


@inner
def _cut_off(d, n_basis, cutoff):
    """Distance, sine and cosine of pi r/r_c, pi/r_c, and f_c / sqrt(N) with its derivative.

    Beyond the cutoff the distance is the cutoff: multiples of the angle would overflow, and zero times infinity is not
    zero.
    """
    d = at_most(d, cutoff)
    wave = math.pi / cutoff
    s, c = sincos(d * wave)
    scale = 1.0 / math.sqrt(n_basis)
    fc = below(d, cutoff, (c + 1.0) * (0.5 * scale))
    dfc = below(d, cutoff, s * (-0.5 * wave * scale))
    return d, s, c, wave, fc, dfc


@inner
def radial_basis(kind, d, basis, n_basis, cutoff, values, slopes, at):
    """Write f_c g_b / sqrt(N) and its derivative to n_basis slots of `values` and `slopes` from slot `at`."""
    d, s, c, wave, fc, dfc = _cut_off(d, n_basis, cutoff)
    if basis == BESSEL:
        _bessel(kind, d, s, c, wave, n_basis, values, slopes, at)
    else:
        _gaussian(d, n_basis, cutoff, values, slopes, at)
    for b in range(n_basis):
        g = load(kind, values, at + b)
        store(slopes, at + b, fc * load(kind, slopes, at + b) + dfc * g)
        store(values, at + b, fc * g)


@inner
def _gaussian(d, n_basis, cutoff, values, slopes, at):
    """Formula (2)."""
    a = n_basis * n_basis / (cutoff * cutoff)
    height = (2.0 * a / math.pi) ** 0.25
    for b in range(n_basis):
        x = d - (R_MIN + b * (cutoff - R_MIN) / n_basis)
        g = exp(x * x * (-a)) * height
        store(values, at + b, g)
        store(slopes, at + b, x * g * (-2.0 * a))


@inner
def _bessel(kind, d, s, c, wave, n_basis, values, slopes, at):
    """Formula (3); sin and cos of multiples of pi r/r_c by recurrence, so one sine serves all b."""
    height = math.sqrt(2.0) * math.pi * (wave / math.pi) ** 1.5
    inverse = 1.0 / (d * wave)
    slope = wave * inverse
    two_c = c + c
    s0, c0 = splat(kind, 0.0), splat(kind, 1.0)
    s1, c1 = s, c
    sinc1 = s1 * inverse
    dsinc1 = (c1 - sinc1) * slope
    for b in range(n_basis):
        s2, c2 = two_c * s1 - s0, two_c * c1 - c0
        sinc2 = s2 * inverse * (1.0 / (b + 2))
        dsinc2 = (c2 - sinc2) * slope
        store(values, at + b, (sinc1 + sinc2) * height)
        store(slopes, at + b, (dsinc1 + dsinc2) * height)
        s0, c0, s1, c1 = s1, c1, s2, c2
        sinc1, dsinc1 = sinc2, dsinc2
        height = -height


# ------------------------------------------------------------------------ fixed combinations of the basis functions
#
# For fixed coefficients beta the channels R_s = f_c N^(-1/2) sum_b beta_sb g_b need no basis: with functions f_k that
# are cheap,
#
#    R_s = p S_s,   R'_s = p S'_s + p' S_s,   S_s = sum_k C_sk f_k                                        (4)
#
# gaussian   f_k = g_k,  C = beta,  p = f_c N^(-1/2)
# bessel     f_k = sin(k pi r/r_c), k = 1..N+1,  p = f_c N^(-1/2) / r                                      (5)
#            C_sk = (-1)^(k-1) sqrt(2/r_c) (beta_{s,k-1} - beta_{s,k-2}) / k, with beta_{s,-1} = beta_{s,N} = 0


def combinations(beta, basis, cutoff):
    """C of (4).

    Parameters
    ----------
    beta : (.., n_radial, n_basis) array
    basis : {GAUSSIAN, BESSEL}
    cutoff : float

    Returns
    -------
    (.., n_functions, n_radial) array, C-contiguous, dtype of beta; n_functions is n_basis, with bessel one more
    """
    c = np.asarray(beta, np.float64)
    if basis == BESSEL:
        k = np.arange(1, c.shape[-1] + 2)
        none = np.zeros_like(c[..., :1])
        steps = np.concatenate([c, none], axis=-1) - np.concatenate([none, c], axis=-1)
        c = steps * (-1.0) ** (k - 1) * math.sqrt(2.0 / cutoff) / k
    return np.ascontiguousarray(np.swapaxes(c, -1, -2), dtype=np.asarray(beta).dtype)


@inner
def radial_functions(kind, d, basis, n_basis, cutoff, values, slopes):
    """Write f_k of (4) and f'_k to the first slots of `values` and `slopes`; return p and p'."""
    d, s, c, wave, fc, dfc = _cut_off(d, n_basis, cutoff)
    if basis == BESSEL:
        inverse = 1.0 / d
        two_c = c + c
        s0, c0 = splat(kind, 0.0), splat(kind, 1.0)
        for k in range(n_basis + 1):
            store(values, k, s)
            store(slopes, k, c * (wave * (k + 1)))
            s0, c0, s, c = s, c, two_c * s - s0, two_c * c - c0
        fc = fc * inverse
        return fc, dfc * inverse - fc * inverse
    _gaussian(d, n_basis, cutoff, values, slopes, 0)
    return fc, dfc
