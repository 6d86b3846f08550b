"""Spline filters as spline-based MEAM potentials, and back: no approximation either way.

In terms of spline filters G2, G3 with one triplet filter, formulas (1) and (2) of fastdesc/io/meam_spline.py are

    E = sum_i sum_a w_{Zi,a} G2_i[a] + U_{Zi}(n_i) - U_{Zi}(0),   n_i = sum_a v_a G2_i[a] + v_t G3_i          (3)

Functions of a file go on as straight lines outside their knots, up to the one cutoff that all functions of distances
have, the largest last knot of phi, rho and f; there they are cut off, wherever they are (checked against LAMMPS).
"""

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.io.meam_spline import MeamSpline, SplineFunction

NEAREST = 1e-3
"""Å; no distance is shorter, so a first knot below is as good as one here."""


def to_filters(functions):
    """Return descriptor, pair_weights, density_weights and U of (3): the inverse of `from_filters`.

    The descriptor has a pair filter per element of the centre, for phi, and one for rho; functions keep their knots.

    Parameters
    ----------
    functions : MeamSpline
    """
    order = np.argsort([atomic_numbers[e] for e in functions.elements])
    n, cutoff = len(order), float(functions.cutoff)

    def of_pair(kind, a, b):
        low, high = min(a, b), max(a, b)
        return kind[low * n - low * (low - 1) // 2 + high - low]

    pair = [[of_pair(functions.phi, a, b) for b in order] for a in order] + [[functions.rho[b] for b in order]]
    radial = [functions.f[b] for b in order]
    angular = [of_pair(functions.g, order[a], order[b]) for a in range(n) for b in range(a, n)]
    smooth = all(_ends_at_zero(f) for f in radial)
    first = min(f.splines.x0 for row in (*pair, radial) for f in row)
    descriptor = SplineFilters(
        species=[functions.elements[a] for a in order],
        cutoff=cutoff,
        triplet_cutoff=float(max(f.splines.x1 for f in radial)) if smooth else cutoff,
        r_min=max(float(first), NEAREST),
        n_pair=n + 1,
        n_triplet=1,
        ends=("clamped", "free"),
        angular_ends=("clamped", "clamped"),
        knots={
            "pair": [[_knots(f) for f in row] for row in pair],
            "triplet_radial": [_knots(f) for f in radial],
            "triplet_angular": [_knots(f) for f in angular],
        },
    )
    rows = {"pair": pair, "triplet_radial": [radial], "triplet_angular": [angular]}
    parameters = {name: np.zeros_like(p) for name, p in descriptor.parameters.items()}
    for name, filters in rows.items():
        for a, row in enumerate(filters):
            for element, f in enumerate(row):
                parameters[name][a, element, : len(f.parameters)] = f.parameters
    descriptor.set_parameters(**parameters)
    pair_weights = np.concatenate([np.eye(n) / 2, np.zeros((n, 1))], axis=1)
    density_weights = np.array([0.0] * n + [1.0, 1.0])
    return descriptor, pair_weights, density_weights, tuple(functions.U[a] for a in order)


def from_filters(descriptor, pair_weights, density_weights, U):
    """Return the functions (3) of spline filters, exactly.

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
        For another number of triplet filters, weights of another shape, filters of different knots that would have to
        be added, and filters that are cut off elsewhere than LAMMPS cuts.
    """
    n, elements = len(descriptor.species_numbers), tuple(chemical_symbols[z] for z in descriptor.species_numbers)
    w, v = np.asarray(pair_weights, float), np.asarray(density_weights, float)
    if descriptor.n_triplet != 1:
        raise InputError(
            f"the descriptor has {descriptor.n_triplet} triplet filters and meam/spline exactly one; train one with "
            "n_triplet=1"
        )
    for name, weights, wanted in (
        ("pair_weights", w, (n, descriptor.n_pair)),
        ("density_weights", v, (descriptor.n_pair + 1,)),
    ):
        if weights.shape != wanted:
            raise InputError(f"{name} came with shape {weights.shape}; this descriptor needs {wanted}")

    def filter(kind, a, element):
        element = 0 if descriptor.shared else element
        splines = descriptor.spline(kind, a, element)
        return SplineFunction.of(splines, descriptor.parameters[kind][a, element, : splines.n_parameters])

    def pairs(weights, element):
        return [(weight, filter("pair", a, element)) for a, weight in enumerate(weights)]

    both = [(a, b) for a in range(n) for b in range(a, n)]
    made = MeamSpline(
        elements,
        phi=tuple(_sum(f"phi {elements[a]}-{elements[b]}", pairs(w[a], b) + pairs(w[b], a)) for a, b in both),
        rho=tuple(_sum(f"rho {elements[a]}", pairs(v[:-1], a)) for a in range(n)),
        U=tuple(U),
        f=tuple(filter("triplet_radial", 0, a) for a in range(n)),
        g=tuple(_sum("g", [(v[-1], filter("triplet_angular", 0, k))]) for k in range(len(both))),
    )
    for name, cutoff in (("phi", descriptor.cutoff), ("rho", descriptor.cutoff), ("f", descriptor.triplet_cutoff)):
        for function in getattr(made, name):
            if cutoff != made.cutoff and not _ends_at_zero(function):
                raise InputError(
                    f"a function {name} does not end at zero and is cut off at {cutoff:g} Å, but LAMMPS cuts all at "
                    f"the largest last knot, {made.cutoff:g} Å, and no file can hold it; train with one cutoff for all"
                )
    return made


def _knots(function):
    splines = function.splines
    return [float(splines.x0), float(splines.x1), splines.n_knots]


def _ends_at_zero(function):
    """Whether a function of distance reaches its last knot with value and slope zero."""
    return not function.parameters[[-3, -1]].any()


def _sum(name, terms):
    """Weighted sum of functions, which must have the same knots; of those that are not zero."""
    present = [(weight, f) for weight, f in terms if weight and f.parameters.any()]
    if not present:
        if not terms:
            raise InputError(
                f"there is no pair filter for {name}, and meam/spline needs the function, if only zero; train with "
                "n_pair of at least 1"
            )
        present = [(0.0, terms[0][1])]
    first = present[0][1].splines
    for _, f in present:
        if f.splines != first:
            raise InputError(
                f"{name} would be a sum of filters with different knots, {_knots(present[0][1])} and {_knots(f)}; "
                "meam/spline holds one spline: give these filters the same knots, or weights of zero"
            )
    return SplineFunction(first, sum(weight * f.parameters for weight, f in present))
