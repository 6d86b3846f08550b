"""Geometry: definitions, adjoints, finite strain, and the CUDA twins on the emulator."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from helpers.backends import BACKENDS, HERE
from references import neighbours as reference

from fastdesc import geometry
from fastdesc.backend import cuda, threads
from fastdesc.backend.arrays import to_device, to_host
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures

SKEWED = Atoms(
    "Cu3", cell=[[4, 0, 0], [9, 3, 0], [-2, 1, 5]], pbc=True, positions=np.random.default_rng(3).normal(size=(3, 3)) * 4
)
FRAMES = [molecule("CH3OH"), bulk("Cu", "fcc", a=3.6), Atoms("H"), SKEWED, bulk("NaCl", "rocksalt", a=5.6, cubic=True)]
EPS = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture(scope="module")
def frames():
    for atoms in FRAMES:
        atoms.rattle(0.1, seed=1)
    structures = Structures.from_ase(FRAMES)
    return structures, Pairs.find(structures, 4.5)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(params=HERE)
def device(request):
    """Where to run: the device, with the emulator switched on while the test runs."""
    context, name = BACKENDS[request.param]
    with context():
        yield name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_backend_equals_the_formulas(frames, device, dtype):
    s, pairs = frames
    there = pairs.to_device(device)
    i, j, f = pairs.i, pairs.j, s.frame_of_atom

    def close(x, y, scale=1):
        np.testing.assert_allclose(to_host(x), y, rtol=0, atol=EPS[dtype] * scale * max(1, np.abs(y).max()))

    def put(x):
        return to_device(x, device)

    rij = geometry.pair_vectors(put(s.positions), put(s.cells), there, dtype)
    assert rij.shape == (3, pairs.n_pairs) and rij.dtype == dtype
    r = (s.positions[j] - s.positions[i] + np.einsum("pc,pcd->pd", pairs.shift, s.cells[f[i]])).T
    close(rij, r)
    assert np.linalg.norm(r, axis=0).max() < pairs.cutoff

    rho, strain, dr = random(1, s.n_atoms, 3), random(2, s.n_frames, 3, 3), random(3, 3, pairs.n_pairs)
    dr = dr.astype(dtype)
    expected = rho[j].T - rho[i].T
    trij = geometry.pair_tangents(put(rho), None, rij, there)
    assert trij.dtype == dtype
    close(trij, expected)
    expected = expected + np.einsum("ap,pab->bp", to_host(rij).astype(float), strain[f[i]])
    close(geometry.pair_tangents(put(rho), put(strain), rij, there), expected)

    expected = np.zeros((s.n_atoms, 3))
    np.add.at(expected, i, dr.T.astype(float))
    np.add.at(expected, j, -dr.T.astype(float))
    found = geometry.forces(put(dr), there)
    assert found.dtype == np.float64 and found.shape == (s.n_atoms, 3)
    close(found, expected, 1e-14 / EPS[dtype] * 10)  # sums in float64 whatever comes in

    expected = np.zeros((s.n_frames, 3, 3))
    np.add.at(expected, f[i], np.einsum("ap,bp->pab", to_host(rij).astype(float), dr.astype(float)))
    found = geometry.virials(rij, put(dr), there)
    assert found.dtype == np.float64
    close(found, (expected + expected.transpose(0, 2, 1)) / 2, 1e-14 / EPS[dtype] * 10)


def test_adjoint_identity(frames, device):
    """<dr, tr(rho, strain)> = <dE/dx, rho> + <W, strain> with dE/dx = -F, for symmetric strain."""
    s, pairs = frames
    there = pairs.to_device(device)
    rho, strain, dr = random(4, s.n_atoms, 3), random(5, s.n_frames, 3, 3), random(6, 3, pairs.n_pairs)
    strain = strain + strain.transpose(0, 2, 1)
    rho, strain, dr, x, h = (to_device(a, device) for a in (rho, strain, dr, s.positions, s.cells))
    rij = geometry.pair_vectors(x, h, there, "float64")
    left = float((dr * geometry.pair_tangents(rho, strain, rij, there)).sum())
    right = float((geometry.virials(rij, dr, there) * strain).sum() - (geometry.forces(dr, there) * rho).sum())
    size = float(abs(dr).sum())
    assert abs(left - right) < 1e-12 * size
    assert abs(left) > 1e-3 * size**0.5


def test_results_repeat_bit_for_bit():
    big = Structures.from_ase(bulk("Cu", cubic=True).repeat(8))
    many = Pairs.find(big, 4.0)
    dr = random(7, 3, many.n_pairs)

    def compute():
        rij = geometry.pair_vectors(big.positions, big.cells, many, "float32")
        return rij, geometry.forces(dr, many), geometry.virials(rij, dr.astype("float32"), many)

    try:
        threads.set_threads(1)
        one = compute()
        threads.set_threads(3)
        for a, b in zip(one, compute(), strict=True):
            np.testing.assert_array_equal(a, b)
    finally:
        threads.set_threads(None)


def test_differences_are_taken_before_the_cast():
    """A molecule 1e6 Å from the origin keeps its float32 pair vectors."""
    near = molecule("H2O")
    far = near.copy()
    far.positions += 2.0**20
    vectors = []
    for atoms in (near, far):
        s = Structures.from_ase(atoms)
        vectors.append(geometry.pair_vectors(s.positions, s.cells, Pairs.find(s, 3.0), "float32"))
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_forces_and_stress_of_a_pair_potential():
    """E = sum_p phi(d_p) / 2 with phi = exp(-d): forces and stress against the complex step in positions and strain."""
    atoms = SKEWED
    s = Structures.from_ase(atoms)
    pairs = Pairs.find(s, 5.0)
    rij = geometry.pair_vectors(s.positions, s.cells, pairs, "float64")
    d = np.sqrt((rij**2).sum(0))
    dr = -0.5 * np.exp(-d) * rij / d
    i, j, shift = reference.neighbours(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)

    def energy(positions, cell):
        r = reference.pair_vectors(positions, cell, i, j, shift)
        return 0.5 * np.exp(-np.sqrt((r**2).sum(1))).sum()

    h = 1e-30
    gradient, strained = np.zeros_like(s.positions), np.zeros((3, 3))
    for k in np.ndindex(s.positions.shape):
        step = np.zeros(s.positions.shape, complex)
        step[k] = 1j * h
        gradient[k] = energy(s.positions + step, s.cells[0]).imag / h
    for a, b in np.ndindex(3, 3):
        strain = np.eye(3, dtype=complex)
        strain[a, b] += 0.5j * h
        strain[b, a] += 0.5j * h
        strained[a, b] = energy(s.positions @ strain, s.cells[0] @ strain).imag / h
    np.testing.assert_allclose(geometry.forces(dr, pairs), -gradient, atol=1e-13)
    virials = geometry.virials(rij, dr, pairs)
    np.testing.assert_allclose(virials, strained[None], atol=1e-13)
    stress = geometry.stress_voigt(virials, s.volumes)
    assert stress.shape == (1, 6)
    voigt = strained[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / atoms.get_volume()
    np.testing.assert_allclose(stress[0], voigt, atol=1e-14)


def test_stress_without_volume():
    w = np.arange(18.0).reshape(2, 3, 3)
    stress = geometry.stress_voigt(w + w.transpose(0, 2, 1), np.array([0.0, 2.0]))
    assert np.isnan(stress[0]).all()
    np.testing.assert_array_equal(stress[1], [9, 13, 17, 15, 13, 11])


def test_frame_sums(frames, device):
    s, pairs = frames
    x = random(8, 2, s.n_atoms)
    expected = [[c[a:b].sum() for c in x] for a, b in zip(s.first[:-1], s.first[1:], strict=True)]
    found = to_host(geometry.frame_sums(to_device(x, device), pairs.to_device(device)))
    np.testing.assert_allclose(found, expected, atol=1e-13)
    none = np.empty(0, np.int32)
    many = Pairs(np.zeros(3001, np.int64), none, none.reshape(0, 3), none, 1.0, np.array([0, 2900, 3000]))
    x = random(9, 1, 3000)
    found = to_host(geometry.frame_sums(to_device(x, device), many.to_device(device)))
    np.testing.assert_allclose(found[:, 0], [x[0, :2900].sum(), x[0, 2900:].sum()], atol=1e-12)


def test_without_pairs(device):
    s = Structures.from_ase(Atoms("H"))
    pairs = Pairs.find(s, 3.0).to_device(device)
    x, h = to_device(s.positions, device), to_device(s.cells, device)
    rij = geometry.pair_vectors(x, h, pairs, "float32")
    assert rij.shape == (3, 0)
    assert not to_host(geometry.forces(rij, pairs)).any() and not to_host(geometry.virials(rij, rij, pairs)).any()


def test_every_kernel_has_a_twin():
    """That twins take the same arrays is judged in tests/test_floors.py."""
    names = {re.match(r"\w+", name)[0] for name in cuda.specialisations(geometry.FILE)}
    assert names == {name for name in vars(geometry) if name.startswith("geometry_")}
