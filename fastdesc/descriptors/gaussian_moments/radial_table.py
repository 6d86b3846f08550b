"""Radial channels of fixed coefficients as cubics between knots: two loads and six multiply-adds instead of a basis.

Between the knots k h and (k + 1) h, with t = d/h - k,

    R_s(d) = c_0 + t (c_1 + t (c_2 + t c_3))                                                            (1)

has the value and the slope of the channel at both knots (fastdesc/numerics/radial.py, formulas 4 and 5), so R_s is
once continuously differentiable, and its derivative is that of (1): forces stay the gradient of the energy. A sine that
turns N times half around within the cutoff is missed by (pi N h / r_c)^4 / 384 of its height, its slope by
(pi N h / r_c)^3 / 125 of its own: 8e-9 and 6e-7 with KNOTS knots for each basis function.
"""

import math

import numpy as np

from fastdesc.numerics.radial import BESSEL, R_MIN, combinations

KNOTS = 76
"""For each basis function: as many as keep five channels of eight functions within 48 KB, for one element."""
NEAREST = 1e-3
"""Parts of a knot's distance that stand for a distance of zero, where sines are divided by it."""


def radial_tables(beta, basis, cutoff, width):
    """Cubics (1) of all channels.

    Parameters
    ----------
    beta : (n_species, n_species, n_radial, n_basis) array of the host
    basis : {GAUSSIAN, BESSEL}
    cutoff : float, in Å
    width : int
        Channels that lie side by side.

    Returns
    -------
    (slabs, n_species, n_species, knots + 1, width, 4) float32 array
        c of (1), zero for channels past the last and behind the last knot, which is the cutoff.
    knots : int
    """
    beta = np.asarray(beta, np.float64)
    n, n_radial, n_basis = len(beta), *beta.shape[2:]
    knots = KNOTS * n_basis
    values, slopes = _channels(beta, basis, cutoff, knots)
    slabs = -(-n_radial // width)
    cubics = np.zeros((slabs * width, n, n, knots + 1, 4), np.float32)
    rise, (a, b) = np.diff(values), (slopes[..., :-1], slopes[..., 1:])
    parts = values[..., :-1], a, 3 * rise - 2 * a - b, a + b - 2 * rise
    cubics[:n_radial, :, :, :-1] = np.moveaxis(np.stack(parts, axis=-1), 2, 0)
    cubics = cubics.reshape(slabs, width, n, n, knots + 1, 4)
    return np.ascontiguousarray(np.moveaxis(cubics, 1, -2)), knots


def _channels(beta, basis, cutoff, knots):
    """Channels at the knots and their slopes times the distance of two, (n_species, n_species, n_radial, knots + 1)."""
    n_basis, h = beta.shape[-1], cutoff / knots
    d = np.maximum(np.arange(knots + 1), NEAREST) * h
    wave = math.pi / cutoff
    scale = 1 / math.sqrt(n_basis)
    fc, dfc = scale * 0.5 * (1 + np.cos(wave * d)), -scale * 0.5 * wave * np.sin(wave * d)
    if basis == BESSEL:
        k = wave * np.arange(1, n_basis + 2)[:, None]
        f, df = np.sin(k * d), k * np.cos(k * d)
        fc, dfc = fc / d, dfc / d - fc / d**2
    else:
        a = (n_basis / cutoff) ** 2
        x = d - (R_MIN + np.arange(n_basis)[:, None] * (cutoff - R_MIN) / n_basis)
        f = (2 * a / math.pi) ** 0.25 * np.exp(-a * x * x)
        df = -2 * a * x * f
    c = np.swapaxes(combinations(beta, basis, cutoff), -1, -2)
    values, slopes = fc * (c @ f), h * (fc * (c @ df) + dfc * (c @ f))
    values[..., -1] = slopes[..., -1] = 0    # (1 + cos pi) / 2 is not quite
    return values, slopes
