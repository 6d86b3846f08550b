"""Spline filters as potentials of s-MEAM and back: the same energies as the published formula."""

import ase
import numpy as np
import pytest
from helpers.meam_functions import random_potential, spline_function
from helpers.structures import ZOO
from references import spline_filters as textbook
from references.neighbours import neighbours, pair_vectors

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.descriptors.spline_filters.meam import from_filters, to_filters
from fastdesc.errors import InputError
from fastdesc.io.meam_spline import read_functions, write_functions


def energy_by_the_formula(potential, atoms):
    """Formulas (1) and (2), term by term."""
    z = [potential.elements.index(symbol) for symbol in atoms.get_chemical_symbols()]
    n = len(potential.elements)
    number = {}
    for a in range(n):
        for b in range(a, n):
            number[a, b] = number[b, a] = len(set(number.values()))
    i, j, shift = neighbours(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    r = pair_vectors(atoms.positions, atoms.cell.array, i, j, shift)
    d = np.sqrt((r**2).sum(1))
    energy = 0.5 * sum(potential.phi[number[z[a], z[b]]](x) for a, b, x in zip(i, j, d, strict=True))
    for atom in range(len(atoms)):
        mine = np.flatnonzero(i == atom)
        density = sum(potential.rho[z[j[p]]](d[p]) for p in mine)
        for k, p in enumerate(mine):
            for q in mine[:k]:
                cosine = r[p] @ r[q] / (d[p] * d[q])
                f = potential.f[z[j[p]]](d[p]) * potential.f[z[j[q]]](d[q])
                density += f * potential.g[number[z[j[p]], z[j[q]]]](cosine)
        U = potential.U[z[atom]]
        energy += U(density) - U(0.0)
    return energy


def energy_by_filters(descriptor, pair_weights, density_weights, U, atoms):
    """Formula (3)."""
    q = descriptor.compute(atoms)
    z = np.searchsorted(descriptor.species_numbers, atoms.numbers)
    pairs = (pair_weights[z] * q[:, :-1]).sum()
    return pairs + sum(U[s](n) - U[s](0.0) for s, n in zip(z, q @ density_weights, strict=True))


@pytest.mark.parametrize(
    ("elements", "structure"),
    [(["Cu"], "self_images"), (["Na", "Cl"], "triclinic"), (["O", "H", "C"], "three_elements")],
)
def test_a_potential_is_filters_and_back(elements, structure):
    """Elements in any order; the energy of the filters is that of the formula, and the way back leads to the start."""
    potential, atoms = random_potential(elements), ZOO[structure]()
    filters = to_filters(potential)
    wanted = energy_by_the_formula(potential, atoms)
    assert energy_by_filters(*filters, atoms) == pytest.approx(wanted, rel=1e-12)
    back = from_filters(*filters)
    assert back.elements == tuple(sorted(elements, key=ase.data.atomic_numbers.get))
    assert energy_by_the_formula(back, atoms) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("ends", [("clamped", "clamped"), ("natural", "natural")])
def test_filters_are_a_potential(tmp_path, shared, ends):
    """Any ends, several pair filters, weights of every kind; through a file."""
    d = SplineFilters(
        species=["H", "C", "O"], cutoff=4.5, triplet_cutoff=3.9, r_min=0.8, n_pair=3, n_triplet=1, n_knots=5, ends=ends,
        angular_ends=ends, shared=shared,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    d.set_parameters(**{name: rng.uniform(-1, 1, x.shape) for name, x in d.parameters.items()})
    w, v = rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, 4)
    U = [spline_function(k, -3.0, 5.0, 4, pinned=False) for k in range(3)]
    write_functions(tmp_path / "a", from_filters(d, w, v, U))
    atoms = ZOO["three_elements"]()
    energy = energy_by_the_formula(read_functions(tmp_path / "a"), atoms)
    assert energy == pytest.approx(energy_by_filters(d, w, v, U, atoms), rel=1e-11)


def test_weights_that_do_not_fit_are_refused():
    d = SplineFilters(species=["Si"], n_pair=2, n_triplet=2)
    with pytest.raises(InputError, match="2 triplet filters"):
        from_filters(d, np.zeros((1, 2)), np.zeros(3), [spline_function(0)])
    d = SplineFilters(species=["Si"], n_pair=2, n_triplet=1)
    with pytest.raises(InputError, match="pair_weights"):
        from_filters(d, np.zeros(2), np.zeros(3), [spline_function(0)])
    with pytest.raises(InputError, match="density_weights"):
        from_filters(d, np.zeros((1, 2)), np.zeros(2), [spline_function(0)])


def test_textbook_and_formula_share_nothing_but_splines():
    """The formula's functions against the textbook's splines: two implementations of the same pieces."""
    function = spline_function(3)
    x = np.linspace(0.5, 3.9, 30)
    wanted = textbook.spline(x, function.parameters, 1.2, 4.0, ("clamped", "clamped"))
    np.testing.assert_allclose(function(x), wanted, rtol=0, atol=1e-12)
