"""The way of large systems gives the numbers of the other within float32; which cells take it, and what it keeps."""

import ase
import numpy as np
import pytest
from ase.build import bulk
from cuda_emulator import gcc_status
from helpers.device_models import potential

import fastdesc as fd
from fastdesc.descriptors.gaussian_moments import large_system as kernels
from fastdesc.descriptors.gaussian_moments.radial_table import radial_tables
from fastdesc.numerics.radial import BASES
from fastdesc.potential import large_system

pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles import cupy_double

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
WITHIN = 3e-6
"""Of the largest force: sums of some hundred terms in float32, each of them right to 6e-8 of the largest."""


@pytest.fixture
def ledger(monkeypatch):
    """A device that is not there, where few atoms are many."""
    monkeypatch.setattr(large_system, "LEAST_ATOMS", 1)
    monkeypatch.setattr(large_system, "BLOCK", 64)
    with cupy_double.device_double() as found:
        yield found


def triclinic():
    """Two elements in a skew cell, rattled, one corner of it far outside."""
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(2)
    atoms.numbers[rng.permutation(len(atoms))[:40]] = 79
    atoms.set_cell(atoms.cell @ (np.eye(3) + np.array([[0, 0, 0], [0.3, 0, 0], [-0.2, 0.25, 0]])), scale_atoms=True)
    atoms.rattle(0.15, seed=3)
    atoms.positions[:9] += [5, -3, 40] @ atoms.cell.array
    return atoms


def uneven():
    """A crowd, whose atoms see most of it, and atoms that see one another or nobody."""
    rng = np.random.default_rng(1)
    crowd = 1.3 * np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) + rng.uniform(-0.1, 0.1, (64, 3))
    others = [[12, 12, 12], [14.5, 12, 12], [4, 15, 15]]
    return ase.Atoms("Cu64AuCuAu", [*crowd, *others], cell=[19, 19, 20], pbc=True)


def both(pot, atoms, monkeypatch, **keywords):
    """Predictions of the large system's way, of the other in float32 and in float64 on the host."""
    taken, original = [], large_system.large_system
    monkeypatch.setattr(large_system, "large_system", lambda *x: taken.append(1) or original(*x))
    large = pot.predict(atoms, "cuda", "float32", **keywords)
    assert taken, "it was evaluated the other way"
    monkeypatch.setattr(large_system, "LEAST_ATOMS", len(atoms) + 1)
    return large, pot.predict(atoms, "cuda", "float32", **keywords), pot.predict(atoms, **keywords)


def assert_close(found, other):
    largest = max(abs(other.forces).max(), 1e-3)
    np.testing.assert_allclose(found.forces, other.forces, rtol=0, atol=WITHIN * largest)
    np.testing.assert_allclose(found.energies, other.energies, rtol=WITHIN, atol=WITHIN)
    np.testing.assert_allclose(found.energy, other.energy, rtol=WITHIN, atol=WITHIN * len(other.forces))
    np.testing.assert_allclose(found.stress, other.stress, rtol=0, atol=WITHIN * max(abs(other.stress).max(), 1e-4))


@pytest.mark.parametrize("atoms", [triclinic(), uneven()], ids=["triclinic", "uneven"])
@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_numbers_are_those_of_the_other_way(ledger, monkeypatch, atoms, network):
    pot = potential("gaussian moments", network)
    large, usual, exact = both(pot, atoms, monkeypatch)
    assert_close(large, usual)
    assert_close(large, exact)
    assert abs(large.forces.sum(0)).max() < 1e-12 * abs(large.forces).max() * len(atoms)
