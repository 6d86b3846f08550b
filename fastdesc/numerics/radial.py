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

from fastdesc.backend.jit import inner
from fastdesc.simd import load, splat, store
from fastdesc.simd.functions import below, exp, sincos

BASES = ("gaussian", "bessel")
GAUSSIAN, BESSEL = range(2)
R_MIN = 0.5


@inner
def radial_basis(kind, d, basis, n_basis, cutoff, values, slopes, at):
    """Write f_c g_b / sqrt(N) and its derivative to n_basis slots of `values` and `slopes` from slot `at`."""
    wave = math.pi / cutoff
    s, c = sincos(d * wave)
    scale = 1.0 / math.sqrt(n_basis)
    fc = below(d, cutoff, (c + 1.0) * (0.5 * scale))
    dfc = below(d, cutoff, s * (-0.5 * wave * scale))
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
