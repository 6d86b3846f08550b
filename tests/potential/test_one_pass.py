"""One pass over blocks of atoms: the numbers of the maps one after the other, for every model that it takes."""

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import fastdesc as fd
from fastdesc.backend.threads import n_threads, set_threads
from fastdesc.geometry import pair_vectors, virials
from fastdesc.pairs.blocks import pair_blocks
from fastdesc.pairs.ghost_list import GhostList
from fastdesc.potential import recursive_pass
from fastdesc.potential.evaluation import (
    by_element,
    energies_and_forces,
    energies_and_gradient,
    energies_forces_virials,
)
from fastdesc.potential.one_pass import one_pass, suits
from fastdesc.training.dual_pass import loss_gradient

TOLERANCE = {"float64": 1e-12, "float32": 3e-6}
"""Of the largest number: sums are taken in another order, and basis functions mixed before they are summed."""


def alloy(n=(3, 3, 2)):
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True).repeat(n)
    rng = np.random.default_rng(3)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.set_cell(atoms.cell.array + rng.normal(0, 0.1, (3, 3)))
    atoms.set_chemical_symbols(rng.choice(["Cu", "Au", "O"], len(atoms), p=[0.6, 0.3, 0.1]))
    return atoms


FRAMES = {
    "alloy": [alloy()],
    "small cell": [bulk("Cu", "fcc", a=3.7)],
    "mixed": [alloy((2, 1, 1)), Atoms("Au"), molecule("O2"), Atoms("CuO", [[0, 0, 0], [0, 0, 30.0]]), alloy((1, 1, 1))],
}


def potential(dtype="float64", hidden=(7, 18), activation="silu", network="per_species", seed=0, scaled=True, **more):
    direct, bias = more.pop("direct", False), more.pop("bias", True)
    keywords = {"cutoff": 4.5, "n_radial": 3, "n_basis": 5, **more}
    descriptor = fd.GaussianMoments(**{"species": ["O", "Cu", "Au"], **keywords})
    found = fd.Potential(descriptor, hidden, activation, network, direct=direct, bias=bias, seed=seed)
    rng = np.random.default_rng(seed)
    found.set_parameters({name: x + rng.normal(0, 0.1, x.shape) for name, x in found.parameters.items()})
    if scaled:
        found.scaler.mean[:] = rng.normal(0, 0.1, found.scaler.mean.shape)
        found.scaler.scale[:] = rng.uniform(0.5, 2, found.scaler.scale.shape)
    return found, found.model(dtype)


def prepared(frames, found, skin=0.3):
    structures = fd.Structures.from_ase(frames)
    pairs = fd.Pairs.find(structures, found.descriptor.cutoff + skin)
    return structures, pairs, structures.species(found.descriptor.species_numbers)


def one_after_the_other(model, structures, pairs, species):
    rij = pair_vectors(structures.positions, structures.cells, pairs, model.scale.dtype)
    energies, forces, drij = energies_and_forces(model, rij, pairs, species)
    return energies, forces, virials(rij, drij, pairs)


def agree(found, wanted, dtype):
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * max(1e-3, np.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"basis": "gaussian", "n_radial": 2, "n_basis": 8},
        {"n_radial": 1, "n_basis": 1, "max_rank": 0, "hidden": ()},
        {"max_rank": 1, "hidden": (16,), "activation": "tanh"},
        {"max_rank": 2, "n_radial": 4, "activation": "celu", "network": "shared"},
        {"contractions": (8, 3), "activation": "softplus", "hidden": (33, 5, 17)},
        {"direct": True, "bias": False},
        {"direct": ["M0"], "contractions": (1, 2, 6)},
    ],
    ids=str,
)
def test_same_numbers(settings, frames, dtype):
    found, model = potential(dtype, **settings)
    assert suits(model)
    given = prepared(FRAMES[frames], found)
    structures, pairs, species = given
    result = one_pass(model, structures.positions, structures.cells, pairs, species)
    agree(result, one_after_the_other(model, *given), dtype)
    if frames == "alloy":
        assert np.abs(result[1]).max() > 1e-3 and np.abs(result[2]).max() > 1e-3


@pytest.mark.parametrize("direct", [False, True])
def test_energies_alone_are_the_same(direct):
    found, model = potential("float32", direct=direct)
    structures, pairs, _species = prepared(FRAMES["mixed"], found)
    both = found.evaluate(structures, pairs, model)
    alone = found.evaluate(structures, pairs, model, derivatives=False)
    np.testing.assert_array_equal(alone[0], both[0])
    np.testing.assert_array_equal(alone[3], both[3])
    assert alone[1] is alone[2] is None and model.packed is not None


def test_it_is_what_an_evaluation_runs():
    found, model = potential()
    structures, pairs, species = prepared(FRAMES["alloy"], found)
    result = energies_forces_virials(model, structures.positions, structures.cells, pairs, species)
    wanted = one_pass(model, structures.positions, structures.cells, pairs, species)
    for a, b in zip(result, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.packed is not None


def test_forces_are_the_gradient():
    found, _model = potential()
    (atoms,) = FRAMES["alloy"]
    forces, h = found.predict(atoms).forces, 1e-4
    for i, c in ((0, 0), (5, 2), (40, 1)):
        energies = []
        for sign in (2, 1, -1, -2):
            moved = atoms.copy()
            moved.positions[i, c] += sign * h
            energies.append(found.predict(moved, forces=False, stress=False).energy[0])
        slope = (-energies[0] + 8 * energies[1] - 8 * energies[2] + energies[3]) / (12 * h)
        assert abs(forces[i, c] + slope) < 1e-9 * max(1, np.abs(forces).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_atom_does_not_depend_on_the_others_of_its_batch(dtype):
    found, model = potential(dtype)
    together = prepared(FRAMES["mixed"], found)
    energies, forces, w = energies_forces_virials(model, together[0].positions, together[0].cells, *together[1:])
    for k, atoms in enumerate(FRAMES["mixed"]):
        alone = prepared([atoms], found)
        result = energies_forces_virials(model, alone[0].positions, alone[0].cells, *alone[1:])
        own = slice(*together[1].first[k : k + 2])
        for a, b in zip(result, (energies[own], forces[own], w[k : k + 1]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_change_no_bit():
    found, model = potential("float32")
    structures, pairs, species = prepared([alloy((7, 7, 4))], found)
    before, results = n_threads(), []
    try:
        for n in (1, 3):
            set_threads(n)
            results.append(one_pass(model, structures.positions, structures.cells, pairs, species))
    finally:
        set_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_forces_of_a_list_sum_to_zero():
    found, model = potential("float32")
    structures, pairs, species = prepared(FRAMES["alloy"], found)
    _, forces, _ = one_pass(model, structures.positions, structures.cells, pairs, species)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12 * np.abs(forces).max() * len(forces))


def test_centres_with_ghosts():
    """Of a list with ghosts: energies of the centres, forces on ghosts from the centres' pairs alone."""
    found, model = potential()
    structures, pairs, species = prepared(FRAMES["alloy"], found, skin=0.0)
    image, x, kinds = {}, [], []
    for a in range(pairs.n_atoms):
        image[a, (0, 0, 0)] = a
        x.append(structures.positions[a])
        kinds.append(species[a])
    j = np.empty(pairs.n_pairs, np.int32)
    for p in range(pairs.n_pairs):
        key = int(pairs.j[p]), tuple(int(s) for s in pairs.shift[p])
        if key not in image:
            image[key] = len(x)
            x.append(structures.positions[key[0]] + np.array(key[1]) @ structures.cells[0])
            kinds.append(species[key[0]])
        j[p] = image[key]
    ghosts = GhostList(np.arange(pairs.n_atoms, dtype=np.int32), pairs.row, j, np.array(kinds, np.int32))
    positions = np.array(x)
    whole, rij = ghosts.pairs, ghosts.vectors(positions, np.float64)
    wanted = energies_and_forces(model, rij, whole.centres(ghosts.n_own), ghosts.species)
    whole.shift = np.zeros((whole.n_pairs, 3), np.int32)
    result = one_pass(
        model, positions[ghosts.atoms], np.zeros((1, 3, 3)), whole.centres(ghosts.n_own), ghosts.species
    )
    agree((*result[:2], result[2][0]), (*wanted[:2], virials(rij, wanted[2], whole)[0]), "float64")
    assert len(result[1]) > 2 * len(result[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda: fd.Potential(fd.GaussianMoments(species=["Cu"], n_radial=1), network="spline"),
        lambda: fd.Potential(fd.GaussianMoments(species=["Cu"], n_radial=1), network="none", direct=True),
        lambda: fd.Potential(fd.EmbeddedDensity(species=["Cu"], iterations=0)),
        lambda: fd.Potential(fd.GaussianMoments(species=["Cu"]), hidden=(700, 700)),
    ],
    ids=["spline networks", "no network", "another family", "a network larger than the cache"],
)
def test_what_does_not_suit(change):
    assert not suits(change().model("float64"))


EVERY = range(1, 90)


def periodic_table():
    """Two frames of 89 elements; in the second a few make up most."""
    rng, frames = np.random.default_rng(5), []
    even, uneven = rng.permutation(np.resize(EVERY, 256)), np.where(rng.random(256) < 0.8, 29, rng.choice(EVERY, 256))
    for numbers in (even, uneven):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * (4, 4, 4)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        atoms.numbers[:] = numbers
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_89_elements(network):
    """Energies and forces in both ways; they and gradients to the bit for any number of threads."""
    found, model = potential(species=EVERY, species_mixing="factorised", network=network)
    structures, pairs, species = prepared(periodic_table(), found, skin=0.0)
    given = structures.positions, structures.cells, pairs, species
    in_one = energies_forces_virials(model, *given)
    agree(in_one, one_after_the_other(model, structures, pairs, species), "float64")
    assert sum(a.size for a in found.descriptor.parameters.values()) < 2 * 89 * 8 + 8 * 15 + 1

    def gradient():
        rij = pair_vectors(structures.positions, structures.cells, pairs, np.float64)
        tape = energies_and_gradient(model, rij, pairs, species, keep=True)[2]
        dtheta, dnetworks, dscale, _ = loss_gradient(model, rij, rij, pairs, species, tape, np.ones(len(species)))
        return [*dtheta.values(), *(a for network in dnetworks for a in network), dscale]

    before, one = n_threads(), gradient()
    try:
        set_threads(3)
        for a, b in zip([*in_one, *one], [*energies_forces_virials(model, *given), *gradient()], strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        set_threads(before)


@pytest.mark.parametrize("networks", [1, 3])
def test_each_atom_is_in_one_part(networks):
    rng = np.random.default_rng(0)
    species = rng.choice(3, 700, p=[0.1, 0.0, 0.9]).astype(np.int32)
    parts = by_element(SimpleNamespace(networks=[None] * networks), None, species, 700)
    atoms = [np.arange(700)[columns] for _, columns in parts]
    assert sorted(np.concatenate(atoms)) == list(range(700))
    assert all(0 < len(own) <= 256 for own in atoms) and len(parts) == {1: 3, 3: 4}[networks]
    assert all((species[own] == z).all() for (z, _), own in zip(parts, atoms, strict=True) if networks > 1)


def test_blocks_hold_every_pair_once():
    found, _ = potential()
    _structures, pairs, species = prepared(FRAMES["mixed"], found)
    longest = pair_blocks(pairs, species, 3, 8, by_element=False)
    blocks = pair_blocks(pairs, species, 3, 8)
    assert pair_blocks(pairs, species, 3, 8) is blocks
    assert longest.starts.shape[1] == 2 and longest.n_slots < blocks.n_slots
    assert (longest.neighbour >= 0).sum() == (blocks.neighbour >= 0).sum() == pairs.n_pairs
    assert sorted(blocks.atom[blocks.atom >= 0]) == list(range(pairs.n_atoms))
    seen = []
    for block in range(blocks.n_blocks):
        for lane, i in enumerate(blocks.atom[block]):
            assert i < 0 or species[i] == blocks.element[block]
            for z in range(3):
                first = blocks.first_slot[block]
                for k in range(first + blocks.starts[block, z], first + blocks.starts[block, z + 1]):
                    j = blocks.neighbour[k, lane]
                    if j >= 0:
                        assert i >= 0 and species[j] == z
                        seen.append((i, j, *blocks.shift[k, :, lane]))
    wanted = np.column_stack([pairs.i, pairs.j, pairs.shift])
    assert sorted(seen) == sorted(map(tuple, wanted.tolist()))


def test_neighbours_beyond_127_cells_are_left_to_the_other_way():
    found, model = potential(n_radial=1)
    thin = Atoms("Cu", cell=[0.03, 30, 30], pbc=[True, False, False])
    structures = fd.Structures.from_ase([thin])
    pairs = fd.Pairs.find(structures, 4.5)
    assert pairs.shift.max() > 127
    species = structures.species(found.descriptor.species_numbers)
    assert pair_blocks(pairs, species, 3, 8) is None
    given = structures.positions, structures.cells, pairs, species
    for a, b in zip(
        energies_forces_virials(model, *given), one_after_the_other(model, structures, pairs, species), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"networks": "shared", "basis": "gaussian", "message_contractions": (6, 2), "network": "shared"},
        {"species": ["H", "O", "Cu", "Au"], "species_mixing": "factorised", "n_radial": 4},
        {"max_rank": 0, "n_radial": 1, "n_basis": 2, "activation": "tanh", "hidden": ()},
    ],
    ids=str,
)
def test_one_iteration(settings):
    """Passes over blocks find what the maps find one after the other, to the bit for any number of threads."""
    found, model = potential(iterations=1, **settings)
    given = structures, pairs, species = prepared([*FRAMES["alloy"], *FRAMES["mixed"]], found)
    assert recursive_pass.suits(model, pairs) and not suits(model)
    before, results = n_threads(), []
    try:
        for n in (1, 3):
            set_threads(n)
            results.append(energies_forces_virials(model, structures.positions, structures.cells, pairs, species))
    finally:
        set_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.packed is not None
    agree(results[0], one_after_the_other(model, *given), "float64")
    assert np.abs(results[0][1]).max() > 1e-3


def test_iterations_that_are_left_to_the_other_way():
    _, once = potential(iterations=1)
    _, twice = potential(iterations=2)
    found, direct = potential(iterations=1, direct=True)
    _, pairs, _ = prepared(FRAMES["small cell"], found)
    ghosts = pairs.centres(1)
    assert recursive_pass.suits(once, pairs)
    assert not any(recursive_pass.suits(*given) for given in ((twice, pairs), (direct, pairs), (once, ghosts)))
