"""Spline filters as spline-based MEAM potentials, and back: no approximation either way.

In terms of spline filters G2, G3 with one triplet filter, formulas (1) and (2) of fastdesc/meam_spline.py are

    E = sum_i sum_a w_{Zi,a} G2_i[a] + U_{Zi}(n_i) - U_{Zi}(0),   n_i = sum_a v_a G2_i[a] + v_t G3_i          (3)
"""

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.meam_spline import MeamSpline, SplineFunction


def from_filters(descriptor, pair_weights, density_weights, U):
    """Return the potential (3) of spline filters, exactly, for writing.

    Parameters
    ----------
    descriptor : SplineFilters
        With one triplet filter.
    pair_weights : (n_species, n_pair) array_like, eV
        w of (3): by the centre's element.
    density_weights : (n_pair + 1,) array_like
        v of (3), that of the triplet filter last.
    U : sequence of SplineFunction, eV
        One per element.

    Raises
    ------
    InputError
        For another number of triplet filters, or weights of another shape.
    """
    n, elements = len(descriptor.species_numbers), tuple(chemical_symbols[z] for z in descriptor.species_numbers)
    w, v = np.asarray(pair_weights, float), np.asarray(density_weights, float)
    if descriptor.n_triplet != 1:
        raise InputError(f"the descriptor has {descriptor.n_triplet} triplet filters; meam/spline knows exactly one")
    for name, weights, wanted in (
        ("pair_weights", w, (n, descriptor.n_pair)),
        ("density_weights", v, (descriptor.n_pair + 1,)),
    ):
        if weights.shape != wanted:
            raise InputError(f"{name} came with shape {weights.shape}; this descriptor needs {wanted}")
    # Shared filters are equal filters for all elements.
    pair, radial, angular = (
        np.broadcast_to(x, (len(x), m, x.shape[2])) if descriptor.shared else x
        for x, m in zip(descriptor.parameters.values(), (n, n, n * (n + 1) // 2), strict=True)
    )
    pair_grid, radial_grid, angular_grid = descriptor.splines.values()
    both = [(a, b) for a in range(n) for b in range(a, n)]
    return MeamSpline(
        elements,
        phi=tuple(SplineFunction.of(pair_grid, w[a] @ pair[:, b] + w[b] @ pair[:, a]) for a, b in both),
        rho=tuple(SplineFunction.of(pair_grid, v[:-1] @ pair[:, a]) for a in range(n)),
        U=tuple(U),
        f=tuple(SplineFunction.of(radial_grid, radial[0, a]) for a in range(n)),
        g=tuple(SplineFunction.of(angular_grid, v[-1] * angular[0, k]) for k in range(len(both))),
    )


def to_filters(potential):
    """Return descriptor, pair_weights, density_weights and U of (3): the inverse of `from_filters`.

    The descriptor has a pair filter per element of the centre, for phi, and one for rho.

    Raises
    ------
    InputError
        When functions that are one kind of filter have different knots, or do not end smoothly at their last knot: as
        most published potentials, they are no spline filters then.
    """
    by_number = np.argsort([atomic_numbers[e] for e in potential.elements])
    n = len(by_number)
    grids = {}
    for name, functions in (("phi and rho", potential.phi + potential.rho), ("f", potential.f), ("g", potential.g)):
        if len({function.splines for function in functions}) > 1:
            raise InputError(f"functions {name} have different knots; spline filters need the same for all of them")
        grids[name] = functions[0].splines
    pair, radial, angular = grids.values()
    if not (pair.x0 == radial.x0 and pair.n_knots == radial.n_knots == angular.n_knots and radial.x1 <= pair.x1):
        raise InputError("phi, rho, f and g differ in first knot or number of knots; spline filters share these")
    if (angular.x0, angular.x1) != (-1.0, 1.0):
        raise InputError(f"the knots of g span {angular.x0:g} to {angular.x1:g}; spline filters need -1 to 1")
    for function in (*potential.phi, *potential.rho, *potential.f):
        if abs(function.parameters[[-3, -1]]).max() > 0:
            raise InputError("phi, rho or f ends with a value or slope other than zero; spline filters end smoothly")
    descriptor = SplineFilters(
        species=[potential.elements[a] for a in by_number], cutoff=pair.x1, triplet_cutoff=radial.x1, r_min=pair.x0,
        n_pair=n + 1, n_triplet=1, n_knots=pair.n_knots, angular_ends=("clamped", "clamped"),
    )  # fmt: skip

    def of_pair(functions, a, b):
        low, high = min(a, b), max(a, b)
        return functions[low * n - low * (low - 1) // 2 + high - low].parameters

    filters = np.array(
        [[of_pair(potential.phi, a, b) for b in by_number] for a in by_number]
        + [[potential.rho[b].parameters for b in by_number]]
    )
    unordered = [(by_number[a], by_number[b]) for a in range(n) for b in range(a, n)]
    descriptor.set_parameters(
        pair=filters,
        triplet_radial=[[potential.f[b].parameters for b in by_number]],
        triplet_angular=[[of_pair(potential.g, a, b) for a, b in unordered]],
    )
    pair_weights = np.concatenate([np.eye(n) / 2, np.zeros((n, 1))], axis=1)
    density_weights = np.array([0.0] * n + [1.0, 1.0])
    return descriptor, pair_weights, density_weights, tuple(potential.U[a] for a in by_number)
