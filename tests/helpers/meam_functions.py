"""Functions of s-MEAM with numbers of chance, and when two sets of them are the same."""

import numpy as np

from fastdesc.io.meam_spline import MeamSpline, SplineFunction
from fastdesc.numerics.splines import Splines


def spline_function(seed, x0=1.2, x1=4.0, n=6, pinned=True):
    p = np.random.default_rng(seed).normal(size=n + 2)
    if pinned:
        p[[-3, -1]] = 0
    return SplineFunction(Splines(x0, x1, n), p)


def random_potential(elements):
    """Return a potential whose functions have the knots that spline filters share."""
    n = len(elements)
    pairs = n * (n + 1) // 2
    return MeamSpline(
        tuple(elements),
        phi=tuple(spline_function(k) for k in range(pairs)),
        rho=tuple(spline_function(10 + k) for k in range(n)),
        U=tuple(spline_function(20 + k, -3.0, 5.0, 4, pinned=False) for k in range(n)),
        f=tuple(spline_function(30 + k, x1=3.5) for k in range(n)),
        g=tuple(spline_function(40 + k, -1.0, 1.0, pinned=False) for k in range(pairs)),
    )


def functions_of(potential):
    return [getattr(potential, name) for name in ("phi", "rho", "U", "f", "g")]


def assert_same(one, two):
    assert one.elements == two.elements
    for these, those in zip(functions_of(one), functions_of(two), strict=True):
        for a, b in zip(these, those, strict=True):
            assert (a.splines.x0, a.splines.x1, a.splines.ends) == (b.splines.x0, b.splines.x1, b.splines.ends)
            np.testing.assert_array_equal(a.parameters, b.parameters)
