"""s-MEAM potentials like published ones in cutoff and numbers of knots, made from formulas: files for everybody."""

import numpy as np

from fastdesc.io.meam_spline import MeamSpline, SplineFunction, write_functions
from fastdesc.numerics.splines import Splines

CUTOFF, BOND = {"Cu": 4.0, "Mo": 5.2}, {"Cu": 2.55, "Mo": 2.73}
"""Å"""
STEP = 1e-6
"""Of the differences that make slopes at the ends."""


def write(path, element):
    """Write the potential of an element in the older form."""
    cutoff, bond = CUTOFF[element], BOND[element]

    def radial(n_knots, function):
        return (_spline(lambda r: function(r - bond) * (1 - r / cutoff) ** 2, 1.5, cutoff, n_knots),)

    functions = MeamSpline(
        (element,),
        phi=radial(15, lambda x: 0.8 * (np.exp(-4 * x) - 2 * np.exp(-2 * x))),
        rho=radial(11, lambda x: np.exp(-2 * x)),
        U=(_spline(lambda n: -np.sqrt(1 + n * n) / 2, -4.0, 12.0, 9),),
        f=radial(10, lambda x: np.exp(-x)),
        g=(_spline(lambda c: (c + 1 / 3) ** 2, -1.0, 1.0, 8),),
    )
    write_functions(path, functions, form="single")


def _spline(function, x0, x1, n_knots):
    slopes = [(function(x + STEP) - function(x - STEP)) / (2 * STEP) for x in (x0, x1)]
    return SplineFunction(Splines(x0, x1, n_knots), np.append(function(np.linspace(x0, x1, n_knots)), slopes))
