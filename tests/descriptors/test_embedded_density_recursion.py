"""What iterations see that three-body features cannot, on features, energies and forces; and files of such models."""

import json

import h5py
import numpy as np
import pytest
from ase import Atoms
from helpers.battery import close
from helpers.structures import ZOO

from fastdesc import EmbeddedDensity, Pairs, Potential, Structures, load
from fastdesc.descriptors import descriptor_from
from fastdesc.errors import FileFormatError, InputError

SMALL = {"cutoff": 3.0, "n_radial": 3, "n_features": 7, "hidden": (5,)}
OCTAGON = ((0, 1, 3, 4), (0, 1, 2, 5))
"""Corners of an octagon: two sets with the same distances between corners, as often, not one set turned."""


def randomised(d, seed=0):
    """Return `d` with its parameters moved into general position."""
    rng = np.random.default_rng(seed)
    d.set_parameters(**{k: x + rng.uniform(-0.5, 0.5, x.shape) for k, x in d.parameters.items()})
    return d


def degenerate_pair():
    """Four H around C at two sets of corners of an octagon of radius 1.3 Å."""
    for corners in OCTAGON:
        angle = np.array(corners) * np.pi / 4
        ring = 1.3 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        yield Atoms("CH4", positions=[(0, 0, 0), *ring])


def histograms(atoms):
    """Sorted distances from atom 0, sorted angles at it, rad, and the distances to the two ends of each angle."""
    r = atoms.positions[1:] - atoms.positions[0]
    d = np.linalg.norm(r, axis=1)
    i, j = np.triu_indices(len(r), 1)
    angles = np.arctan2(np.linalg.norm(np.cross(r[i], r[j]), axis=1), (r[i] * r[j]).sum(axis=1))
    return np.sort(d), np.sort(angles), np.sort(np.stack([d[i], d[j]]), axis=0)


def test_the_pair_has_equal_histograms_and_is_not_one_environment_turned():
    one, two = degenerate_pair()
    for a, b in zip(histograms(one), histograms(two), strict=True):
        close(a, b, 1e-10)
    # Neighbouring corners are in a row of three in the second set only: a triple of directions that the first has not.
    triples = [
        max(np.linalg.norm(np.delete(atoms.positions[1:], k, axis=0).sum(axis=0)) for k in range(4))
        for atoms in (one, two)
    ]
    assert abs(triples[0] - triples[1]) > 0.1


@pytest.mark.parametrize("contraction", ["hyper", "none"])
@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_environments_that_three_bodies_cannot_tell_apart(iterations, contraction):
    """Features and energy of C are equal without iterations, and differ with them, through those of H.

    Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020), show such pairs; this one is planar.
    """
    settings = {**SMALL, "n_features": None, "iterations": iterations, "contraction": contraction}
    d = randomised(EmbeddedDensity(species=["C", "H"], **settings))
    potential = Potential(d, hidden=(5,))
    pair = list(degenerate_pair())
    one, two = (d.compute(atoms)[0] for atoms in pair)
    energies = [potential.predict(atoms).energies[0] for atoms in pair]
    assert abs(one).max() > 1e-3
    difference = abs(one - two).max() / abs(one).max()
    if iterations == 0:
        assert difference < 1e-13
        assert energies[0] == pytest.approx(energies[1], rel=1e-13)
    else:
        assert difference > 1e-4
        assert abs(energies[0] - energies[1]) > 1e-5 * abs(energies[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("iterations", [0, 1])
def test_atoms_beyond_the_cutoff_feel_each_other_through_one_between(iterations, dtype):
    """Atoms in a bent row, 1.7 Å apart, cutoff 3 Å: next neighbours but one do not see each other.

    The energy of the first atom knows the third with one iteration only. Forces come from energies of neighbours too,
    so the force on the first knows the third always; it knows the fourth with one iteration only.
    """
    d = randomised(EmbeddedDensity(species=["Na", "Cl"], iterations=iterations, **SMALL))
    potential = Potential(d, hidden=(5,))
    row = Atoms("NaClNaCl", positions=[(1.7 * k, 0.5 * (k % 2), 0) for k in range(4)])
    row.positions[2:, 0] += 0.1

    def change(k):
        """Changes of the first atom's energy, and of its force, when atom k moves and the list of pairs stays."""
        moved = row.copy()
        moved.positions[k] += (0.05, 0.2, 0.1)
        for atoms in (row, moved):
            assert min(atoms.get_distance(0, 2), atoms.get_distance(1, 3)) > d.cutoff
            assert Pairs.find(Structures.from_ase([atoms]), d.cutoff).n_pairs == 6
        before, after = (potential.predict(atoms, dtype=dtype) for atoms in (row, moved))
        return abs(after.energies[0] - before.energies[0]), abs(after.forces[0] - before.forces[0]).max()

    energy_of_third, force_of_third = change(2)
    energy_of_fourth, force_of_fourth = change(3)
    assert force_of_third > 0.01
    assert energy_of_fourth == 0
    if iterations == 0:
        assert energy_of_third == 0 and force_of_fourth == 0
    else:
        assert energy_of_third > 0.01 and force_of_fourth > 0.01


def saved(path, **settings):
    potential = Potential(randomised(EmbeddedDensity(species=["Na", "Cl"], **{**SMALL, **settings})), hidden=(4,))
    potential.save(path)
    return path


@pytest.mark.parametrize("shape", [(5, 6), (4, 7), (7, 5), (5, 7, 1), (5,), ()])
def test_file_with_a_network_of_wrong_shape(tmp_path, shape):
    path, name = saved(tmp_path / "model.h5", iterations=2), "network.2.Cl.0.weight"
    with h5py.File(path, "a") as file:
        assert file[f"parameters/descriptor/{name}"].shape == (5, 7)
        del file[f"parameters/descriptor/{name}"]
        file[f"parameters/descriptor/{name}"] = np.zeros(shape)
    with pytest.raises(FileFormatError, match=r"model\.h5.*network\.2\.Cl\.0\.weight.*\(5, 7\)"):
        load(path)


def test_file_without_one_of_its_networks(tmp_path):
    path = saved(tmp_path / "model.h5", iterations=1)
    with h5py.File(path, "a") as file:
        del file["parameters/descriptor/network.1.Na.1.bias"]
    with pytest.raises(FileFormatError, match=r"network\.1\.Na\.1\.bias.*missing"):
        load(path)


@pytest.mark.parametrize(
    ("argument", "value", "mention"),
    [
        ("iterations", -1, "iterations"),
        ("iterations", 1, r"network\.2"),  # fewer than the file has networks for
        ("iterations", 3, r"network\.3.*missing"),
        ("networks", "shared", r"network\.1\.shared.*missing"),
        ("hidden", [6], "shape"),
        ("hidden", [5, 5], "missing"),
    ],
)
def test_file_whose_description_does_not_fit_its_networks(tmp_path, argument, value, mention):
    path = saved(tmp_path / "model.h5", iterations=2)
    with h5py.File(path, "a") as file:
        description = json.loads(file.attrs["descriptor"])
        description["arguments"][argument] = value
        file.attrs["descriptor"] = json.dumps(description)
    with pytest.raises(FileFormatError, match=mention):
        load(path)


def test_iterations_below_zero():
    with pytest.raises(InputError, match="iterations came as -2"):
        EmbeddedDensity(species=["H"], iterations=-2)
    with pytest.raises(FileFormatError, match="iterations"):
        descriptor_from("embedded_density", {"species": ["H"], "iterations": -2}, {}, "model.h5", 10**6)


@pytest.mark.parametrize("iterations", [0, 2])
def test_element_that_the_model_does_not_know(iterations):
    d = EmbeddedDensity(species=["Na", "H"], iterations=iterations, **SMALL)
    frames = [Atoms("NaH", positions=[(0, 0, 0), (2, 0, 0)]), ZOO["triclinic"]()]
    for call in (d.compute, Potential(d).predict, d.calibrate):
        with pytest.raises(InputError, match=r"(?s)frame 1.*Cl|Cl.*frame 1"):
            call(frames)


@pytest.mark.parametrize("name", ["network.1.H.0.weight", "network.1.O.1.bias", "coefficients", "hyper", "alpha"])
def test_parameters_of_wrong_shape(name):
    d = EmbeddedDensity(species=["O", "H"], iterations=1, **SMALL)
    before = d.parameters[name].copy()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        d.set_parameters(**{name: np.zeros((*before.shape, 2))})
    with pytest.raises(InputError, match="network"):
        d.set_parameters(**{"network.2.H.0.weight": np.zeros((5, 7))})
    np.testing.assert_array_equal(d.parameters[name], before)
