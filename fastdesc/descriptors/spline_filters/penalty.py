"""Spline filters: what keeps them readable, their curvature and magnitude.

For every filter S of every element on knots over [x0, x1], L = x1 - x0, the loss gets

    curvature L³ ∫ S''² dx + magnitude / L ∫ S² dx  =  p M p,   M = curvature L³ R + magnitude G / L        (1)

with the matrices of fastdesc.numerics.splines: both integrals are those of the filter drawn over an interval of length
one, so that a weight means the same at any number of knots, any cutoff, for distances and for cosines. The gradient is
2 M p.
"""

import numpy as np

from fastdesc.backend.arrays import namespace


def penalty(spline, theta, curvature, magnitude):
    """Return the value of (1), summed over all filters, and its gradient.

    Parameters
    ----------
    spline : callable
        (name, filter, element) -> Splines.
    theta : dict of str to (n_filters, n_elements, n_parameters) array
    curvature, magnitude : float

    Returns
    -------
    value : scalar, where theta is
    gradient : dict of str to float64 array, shaped like theta
    """
    value, gradient, made = 0.0, {}, {}

    def matrix(s):
        length = s.x1 - s.x0
        return curvature * length**3 * s.roughness + magnitude / length * s.overlap

    for name, p in theta.items():
        m = np.zeros((*p.shape, p.shape[-1]))
        for a, e in np.ndindex(p.shape[:2]):
            s = spline(name, a, e)
            n = s.n_parameters
            made[s] = m[a, e, :n, :n] = made[s] if s in made else matrix(s)
        mp = (p[..., None, :] @ namespace(p).asarray(m))[..., 0, :]
        value = value + (p * mp).sum()
        gradient[name] = 2 * mp
    return value, gradient
