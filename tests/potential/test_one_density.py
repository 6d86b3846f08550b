"""Energies and forces in one pass, of potentials whose filters enter through one density."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.ladder_models import placed
from helpers.meam_functions import random_potential

import fastdesc as fd
from fastdesc.geometry import pair_vectors
from fastdesc.io.meam_spline import write_functions
from fastdesc.potential.evaluation import energies_and_gradient
from fastdesc.potential.one_density import one_density, suits


def alloy(symbols):
    """Crystal of three elements without symmetry; and an atom alone."""
    rng = np.random.default_rng(0)
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 1, 1)
    crystal.set_chemical_symbols([symbols[k % len(symbols)] for k in range(len(crystal))])
    crystal.positions += rng.normal(0, 0.15, crystal.positions.shape)
    alone = crystal[:1]
    alone.pbc, alone.cell = False, [20, 20, 20]
    return [crystal, alone]


def from_file(tmp_path):
    write_functions(tmp_path / "file", random_potential(["Ti", "O"]))
    return fd.read_meam_spline(tmp_path / "file")


def compared(potential, frames, dtype="float64"):
    """What the pass finds on a list with a skin, and what the maps do, one after the other."""
    structures = fd.Structures.from_ase(frames)
    pairs, model = fd.Pairs.find(structures, potential.descriptor.cutoff + 0.6), potential.model(dtype)
    species = structures.species(potential.descriptor.species_numbers)
    rij = pair_vectors(structures.positions, structures.cells, pairs, model.scale.dtype)
    assert suits(model)
    return one_density(model, rij, pairs, species), energies_and_gradient(model, rij, pairs, species, keep=True)[:2]


@pytest.mark.parametrize("name", ["EAM", "s-MEAM", "file"])
def test_same_as_the_maps(name, tmp_path):
    """Common knots and knots of each function's own; weights of no symmetry, biases, direct terms."""
    potential = from_file(tmp_path) if name == "file" else placed(name)
    symbols = ["Ti", "O"] if name == "file" else ["H", "C", "O"]
    found, wanted = compared(potential, alloy(symbols))
    for a, b in zip(found, wanted, strict=True):
        assert abs(b).max() > 0.1
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * abs(b).max())
    if not potential.bias:
        assert found[0][-1] == 0    # of the atom alone


def test_single_precision(tmp_path):
    (out, drij), wanted = compared(from_file(tmp_path), alloy(["Ti", "O"]), "float32")
    assert drij.dtype == np.float32
    for a, b in zip((out, drij), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * abs(b).max())


@pytest.mark.parametrize("name", ["pair", "embeddings", "s-NNP"])
def test_what_has_another_form_goes_through_the_maps(name):
    assert not suits(placed(name).model())


def test_filters_on_different_knots_are_not_summed(tmp_path):
    """Two of a density that do not share their knots; until one of them does not count."""
    knots = {"pair": [[[1.5, 4.0, 6]], [[1.7, 4.5, 9]]]}
    d = fd.SplineFilters(species=["Cu"], cutoff=4.5, triplet_cutoff=3.6, n_pair=2, n_triplet=1, knots=knots)
    potential = fd.Potential(d, network="spline", bias=False)
    assert not suits(potential.model())
    weight = np.array(potential.networks[0].weight)
    weight[0, 1] = 0
    potential.set_parameters({"network/0/weight": weight})
    assert suits(potential.model())
    found, wanted = compared(potential, alloy(["Cu"]))
    np.testing.assert_allclose(found[1], wanted[1], rtol=0, atol=1e-13 * abs(wanted[1]).max())
