"""What the features of every family must not notice, and what they must."""

import ase
import numpy as np
import pytest
from helpers.battery import close, descriptor_of
from helpers.families import variants
from helpers.structures import ZOO

TOLERANCE = 1e-12

pytestmark = pytest.mark.parametrize(("family", "variant"), variants())
everywhere = pytest.mark.parametrize("structure", ZOO)
periodic = pytest.mark.parametrize("structure", [name for name in ZOO if ZOO[name]().pbc.any()])


def rotation(rng):
    """Return a random proper rotation."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def turned(atoms, matrix):
    """Return `atoms` with positions and cell multiplied by a matrix from the right."""
    new = atoms.copy()
    new.set_cell(atoms.cell.array @ matrix)
    new.positions = atoms.positions @ matrix
    return new


@pytest.fixture
def d(family, variant):
    return descriptor_of(family, variant)


@pytest.fixture
def atoms(structure):
    return ZOO[structure]()


@everywhere
def test_translation(d, atoms):
    moved = atoms.copy()
    moved.positions += (0.7, -3.1, 2.2)
    close(d.compute(moved), d.compute(atoms), TOLERANCE)


@everywhere
def test_rotation(d, atoms):
    new = turned(atoms, rotation(np.random.default_rng(5)))
    close(d.compute(new), d.compute(atoms), TOLERANCE)


@everywhere
def test_mirror_image(d, atoms):
    close(d.compute(turned(atoms, np.diag([1.0, 1.0, -1.0]))), d.compute(atoms), TOLERANCE)


@everywhere
def test_permutation(d, atoms):
    order = np.random.default_rng(6).permutation(len(atoms))
    close(d.compute(atoms[order]), d.compute(atoms)[order], TOLERANCE)


@periodic
@pytest.mark.parametrize("axis", range(3))
def test_supercell(d, atoms, axis):
    if not atoms.pbc[axis]:
        return
    repeats = [1, 1, 1]
    repeats[axis] = 2
    close(d.compute(atoms.repeat(repeats)), np.tile(d.compute(atoms), (2, 1)), TOLERANCE)


@periodic
def test_the_lattice_matters_not_its_vectors(d, atoms):
    """Another basis of the same lattice: left-handed, sheared by whole vectors, atoms in other cells."""
    new = atoms.copy()
    a, b = np.flatnonzero(atoms.pbc)[[0, -1]]
    vectors = atoms.cell.array.copy()
    vectors[a] *= -1
    if a != b:
        vectors[b] += 2 * vectors[a]
    new.set_cell(vectors)
    new.positions += np.outer(np.arange(len(atoms)) - 1, vectors[a])
    close(d.compute(new), d.compute(atoms), TOLERANCE)


def test_same_crystal_left_handed_or_outside_the_cell(d):
    reference = d.compute(ZOO["triclinic"]())
    close(d.compute(ZOO["left_handed"]()), reference, TOLERANCE)
    close(d.compute(ZOO["outside_the_cell"]()), reference, TOLERANCE)


def test_elements_matter(d):
    """Exchanging the elements of a dimer's neighbours changes features: the invariances above are not trivial."""
    q = d.compute(ZOO["three_elements"]())
    assert abs(q).max() > 1e-3
    other = ZOO["three_elements"]()
    other.numbers[other.numbers == 6] = 29
    assert abs(d.compute(other)[2:] - q[2:]).max() > 1e-6
    moved = ZOO["three_elements"]()
    moved.positions[0, 0] += 0.01
    assert abs(d.compute(moved) - q).max() > 1e-6


def test_no_neighbours_no_features(d):
    assert not d.compute(ZOO["lone_atom"]()).any()
    q = d.compute(ZOO["cluster_and_far_atom"]())
    assert not q[-1].any()
    assert q[:-1].any(axis=1).all()


def test_features_vanish_smoothly_at_the_cutoff(family, variant, d):
    """A neighbour h inside the cutoff changes features as h**order, and not at all from the cutoff on."""
    molecule = ZOO["three_elements"]()
    outward = molecule.positions - molecule.positions.mean(0)
    far = int(np.argmax((outward**2).sum(1)))
    outward = outward[far] / np.sqrt((outward[far] ** 2).sum())
    q = d.compute(molecule)

    def change(h):
        # Longer by what rounding takes away, or h = 0 would be inside now and then.
        at = molecule.positions[far] + (d.cutoff - h) * (1 + 1e-15) * outward
        new = d.compute(molecule + ase.Atoms("Cu", positions=[at]))
        assert not new[-1].any() or h > 0
        return abs(new[:-1] - q).max()

    assert change(0.0) == 0
    assert change(-1e-9) == 0
    one, two = change(0.02), change(0.01)
    assert np.log2(one / two) == pytest.approx(family.variants[variant].order_at_cutoff, abs=0.1)
