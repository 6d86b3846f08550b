"""Second derivatives: symmetric, blind to translations, and what differences of forces approach; ASE's vibrations."""

from fractions import Fraction

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.vibrations import VibrationsData
from helpers import device_models
from helpers.families import variants
from helpers.ladder_models import placed
from helpers.potentials import cell, potential
from helpers.training import five_point

import fastdesc as fd
from fastdesc.backend import memory
from fastdesc.errors import InputError
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential.hessian import HessianProducts


def crystal():
    atoms = bulk("Cu", "fcc", a=3.2, cubic=True)
    rng = np.random.default_rng(2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.04, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.numbers[1] = 79
    return atoms


def check(p, atoms):
    H = p.hessian(atoms)
    n, size = len(atoms), abs(H).max()
    assert H.shape == (n, 3, n, 3) and size > 0
    assert abs(H - H.transpose(2, 3, 0, 1)).max() <= 1e-12 * size
    assert abs(H.sum(2)).max() <= 1e-11 * size
    v = np.random.default_rng(0).normal(size=(n, 3))
    product = HessianProducts(p, atoms)(v)
    assert abs(product - np.einsum("iajb,jb->ia", H, v)).max() <= 1e-12 * size

    def force(h):
        moved = atoms.copy()
        moved.positions += h * v
        return p.predict(moved).forces

    # A short step: filters that are cut off jump where a pair crosses the cutoff.
    assert abs(product + five_point(force, h=1e-5)).max() <= 1e-7 * abs(product).max()


@pytest.mark.parametrize(("family", "variant"), variants())
def test_families(family, variant):
    descriptor = family.make(variant, ["Cu", "Au"])
    descriptor.set_parameters(**family.randomised(descriptor.parameters, np.random.default_rng(1)))
    p = fd.Potential(descriptor, hidden=(5,), seed=3)
    p.scale = np.array([0.5, 1.5])
    q = descriptor.compute(crystal())
    p.scaler = FeatureScaler(q.mean(0), q.std(0) + 1e-3 * abs(q).max())
    check(p, crystal())


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_networks_and_scalers(network):
    check(potential(network), cell())


def test_residual_blocks():
    p = device_models.potential("residual recursion")
    rng = np.random.default_rng(4)
    p.set_parameters({name: a + 0.1 * rng.normal(size=a.shape) for name, a in p.parameters.items()})
    check(p, crystal())


def test_spline_networks_and_direct_terms():
    atoms = molecule("CH3OH")
    atoms.positions *= 1.4
    check(placed("s-MEAM"), atoms)


def test_some_atoms_alone():
    p, atoms = potential(), cell()
    H = p.hessian(atoms)
    assert np.array_equal(p.hessian(atoms, indices=[4, 1]), H[[4, 1]][:, :, [4, 1]])


def test_vibrations_of_a_molecule_have_six_zero_modes():
    """At a minimum translations and rotations cost nothing, which differences of forces only approach."""
    p = fd.Potential(fd.SplineFilters(species=["Cu"], cutoff=5.0, r_min=1.0, n_pair=1, n_triplet=0, n_knots=6),
                     network="none", direct=True)    # fmt: skip
    p.descriptor.set_parameters(pair=np.array([[[2.0, 0.0, -0.8, -0.4, -0.1, 0.0, -3.0, 0.0]]]))
    from ase.optimize import BFGS

    atoms = Atoms("Cu4", [(0, 0, 0), (2.5, 0, 0), (1.2, 2.2, 0), (1.3, 0.7, 2.0)])
    atoms.calc = fd.FastdescCalculator(p)
    BFGS(atoms, logfile=None).run(fmax=1e-10, steps=300)
    energies = VibrationsData(atoms, p.hessian(atoms)).get_energies()
    assert abs(energies[:6]).max() < 1e-6 and energies[6:].real.min() > 1e-3


def test_one_sentence_for_what_cannot_be():
    p, atoms = potential(), cell()
    with pytest.raises(InputError, match="2 frames came"):
        p.hessian([atoms, atoms])
    with pytest.raises(InputError, match="numbers of atoms from 0 to"):
        p.hessian(atoms, indices=[99])
    with pytest.raises(InputError, match="a direction of shape"):
        HessianProducts(p, atoms)(np.zeros(3))
    with pytest.raises(InputError, match="potential is a str; give a Potential"):
        HessianProducts("cu.h5", atoms)


ODD = {
    "text": "x", "None": None, "dict": {"a": 1}, "object": object(), "ragged": [[1, [2]]], "class": int,
    "complex": np.ones((8, 3)) * 1j, "huge": [[10**400] * 3] * 8, "NaN": np.full((8, 3), np.nan),
    "texts": np.full((8, 3), "a"), "no axes": np.array(3.0), "fewer": np.zeros((7, 3)),
    "transposed": np.zeros((3, 8)), "booleans": np.ones((8, 3), bool), "generator": (x for x in ()),
    "infinite": np.full((8, 3), np.inf),
}  # fmt: skip


@pytest.fixture(scope="module")
def product():
    return HessianProducts(potential(), cell())


@pytest.mark.parametrize("odd", ODD)
def test_odd_directions(product, odd):
    with pytest.raises(InputError, match=r"a direction .*came.*; give finite numbers of shape \(8, 3\)$"):
        product(ODD[odd])


def test_a_direction_of_whole_numbers_or_fractions(product):
    v = np.eye(8)[:, :3]
    np.testing.assert_array_equal(product(v.astype(int)), product(v))
    np.testing.assert_array_equal(product([[Fraction(int(x)) for x in row] for row in v]), product(v))


def test_more_than_memory_holds(monkeypatch):
    """24 x 24 numbers of 8 bytes."""

    def less_is_free(needed, *words):
        assert needed == 24 * 24 * 8
        monkeypatch.setattr(memory, "UNASKED", 0)
        monkeypatch.setattr(memory, "free", lambda: needed - 1)
        memory.check_memory(needed, *words)

    monkeypatch.setattr("fastdesc.potential.hessian.check_memory", less_is_free)
    with pytest.raises(InputError, match=r"second derivatives of 8 atoms take about .*; name fewer atoms by indices"):
        potential().hessian(cell())
