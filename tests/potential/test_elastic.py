"""Elastic constants against differences of stresses, and sparse second derivatives against dense ones."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from helpers.device_models import DESCRIPTORS
from helpers.potentials import cell, potential
from test_hessian import crystal

import fastdesc as fd
from fastdesc.errors import FastdescError, InputError
from fastdesc.potential import elastic
from fastdesc.potential.repulsion import Repulsion


def strained(atoms, strain):
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return out


def slopes(p, atoms, h=1e-4):
    """d stress / d strain by differences of fourth order, positions scaled with the cell: (6, 6)."""
    out = np.empty((6, 6))
    for b, (i, j) in enumerate(elastic.AXES):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1.0 if i == j else 0.5
        s = {k: p.predict(strained(atoms, k * h * strain)).stress[0] for k in (-2, -1, 1, 2)}
        out[:, b] = (8 * (s[1] - s[-1]) - (s[2] - s[-2])) / (12 * h)
    return out


@pytest.mark.parametrize("repulsion", [False, True])
def test_clamped_constants_are_slopes_of_the_stress(monkeypatch, repulsion):
    monkeypatch.setattr(elastic, "AT_REST", np.inf)
    monkeypatch.setattr(elastic, "_at_rest", lambda h, forces: np.zeros_like(forces))
    p, atoms = potential(), cell()
    if repulsion:
        p.repulsion = Repulsion(p.descriptor.species_numbers, 4.0, np.full(3, 1.1))    # so far that bonds are within
        assert abs(p.predict(atoms).forces - potential().predict(atoms).forces).max() > 0.1
    found = fd.elastic_constants(p, atoms)
    expected = slopes(p, atoms)
    np.testing.assert_allclose(found.clamped, expected, rtol=0, atol=1e-7 * abs(expected).max())
    np.testing.assert_array_equal(found.relaxed, found.clamped)


def test_relaxed_constants_are_slopes_along_which_no_forces_arise(monkeypatch):
    """Displacements from a Hessian of differences of forces; modes that are no minimum count as others do here."""
    monkeypatch.setattr(elastic, "AT_REST", np.inf)
    monkeypatch.setattr(elastic, "SOFT", -np.inf)
    p, atoms, h = potential(), cell(), 1e-4
    n = len(atoms)

    def moved(k, sign):
        out = atoms.copy()
        out.positions.flat[k] += sign * h
        return p.predict(out)

    both = [(moved(k, 1), moved(k, -1)) for k in range(3 * n)]
    hessian = np.stack([-(a.forces - b.forces).reshape(-1) / (2 * h) for a, b in both], 1)
    by_x = np.stack([(a.stress[0] - b.stress[0]) / (2 * h) for a, b in both], 1)
    expected = slopes(p, atoms)
    for b, (i, j) in enumerate(elastic.AXES):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1.0 if i == j else 0.5
        f = [p.predict(strained(atoms, s * h * strain)).forces.reshape(-1) for s in (1, -1)]
        u = np.linalg.lstsq((hessian + hessian.T) / 2, (f[0] - f[1]) / (2 * h), rcond=1e-6)[0]
        expected[:, b] += by_x @ u
    found = fd.elastic_constants(p, atoms).relaxed
    # Differences over h = 1e-4, through a least-squares solution: 1.4e-7 of the largest.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * abs(expected).max())


def test_what_is_no_crystal_at_rest_is_refused():
    p = potential()
    with pytest.raises(InputError, match=r"a force of .* is left"):
        fd.elastic_constants(p, cell())
    alone = Atoms("C", cell=np.eye(3) * 20)
    with pytest.raises(InputError, match="periodic in all directions"):
        fd.elastic_constants(p, alone)
    for wrong in (3, [cell(), cell()], bulk("Al")):
        with pytest.raises(FastdescError):
            fd.elastic_constants(p, wrong)
    with pytest.raises(InputError, match="give a Potential"):
        fd.elastic_constants("model.h5", cell())
    with pytest.raises(InputError, match="at no minimum"):
        elastic._at_rest(np.diag([1.0, 1, 1, 1, 1, -1]), np.zeros((1, 2, 3)))


@pytest.mark.parametrize("kind", ["moments", "recursion", "molecule"])
def test_sparse_second_derivatives_are_the_dense_ones(kind):
    """Of a cell much smaller than the reach, so that an atom meets its images many times."""
    if kind == "recursion":
        p, atoms = fd.Potential(DESCRIPTORS["recursion"](), hidden=(4,)), crystal()
    else:
        p, atoms = potential(), cell()
        atoms.pbc = kind == "moments"
    expected = p.hessian(atoms).reshape(3 * len(atoms), -1)
    found = fd.sparse_hessian(p, atoms)
    size = abs(expected).max()
    assert size > 0 and abs(found.toarray() - expected).max() <= 1e-11 * size
    some = fd.sparse_hessian(p, atoms, [2, 0])
    columns = [6, 7, 8, 0, 1, 2]
    assert some.shape == (3 * len(atoms), 6) and abs(some.toarray() - expected[:, columns]).max() <= 1e-11 * size


def test_far_atoms_do_not_meet():
    p, atoms = potential(), cell()
    far = atoms.copy()
    far.pbc = False
    far.positions += [60.0, 0, 0]
    both = atoms.copy()
    both.pbc = False
    both += far
    found = fd.sparse_hessian(p, both)
    n = 3 * len(atoms)
    assert found.nnz == found[:n, :n].nnz + found[n:, n:].nnz > 0
    for wrong in ([99], "x", [0.5], [[0], [1, 2]], []):
        with pytest.raises(InputError, match="indices came as"):
            fd.sparse_hessian(p, both, wrong)
    with pytest.raises(InputError, match="give a Potential"):
        fd.sparse_hessian(3, both)
    with pytest.raises(InputError, match="2 frames came"):
        fd.sparse_hessian(p, [both, both])
