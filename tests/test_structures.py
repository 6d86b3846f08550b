"""Structures: frames concatenated, and every frame no kernel could use refused at the door."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from fastdesc.errors import InputError
from fastdesc.structures import SMALLEST_SINE, Structures, complete_cells

WATER, COPPER = molecule("H2O"), bulk("Cu", cubic=True)


def same(a, b):
    for name in ("numbers", "positions", "cells", "pbc", "first"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y, name)


def test_concatenation():
    s = Structures.from_ase([WATER, COPPER])
    assert (s.n_frames, s.n_atoms) == (2, 7)
    assert s.numbers.dtype == np.int32 and s.numbers.tolist() == [8, 1, 1, 29, 29, 29, 29]
    assert s.positions.dtype == np.float64 and s.first.dtype == np.int64 and s.first.tolist() == [0, 3, 7]
    np.testing.assert_array_equal(s.positions, np.concatenate([WATER.positions, COPPER.positions]))
    np.testing.assert_array_equal(s.cells, [np.zeros((3, 3)), COPPER.cell.array])
    np.testing.assert_array_equal(s.pbc, [[False] * 3, [True] * 3])
    np.testing.assert_allclose(s.volumes, [0, COPPER.get_volume()], rtol=1e-15)
    assert s.frame_of_atom.tolist() == [0, 0, 0, 1, 1, 1, 1] and s.frame_of_atom.dtype == np.int32


def test_one_atoms_is_a_frame():
    same(Structures.from_ase(WATER), Structures.from_ase([WATER]))
    same(Structures.from_ase(iter([WATER, COPPER])), Structures.from_ase((WATER, COPPER)))


def test_frames_are_copied():
    atoms = COPPER.copy()
    s = Structures.from_ase(atoms)
    atoms.positions += 1
    np.testing.assert_array_equal(s.positions, COPPER.positions)


def test_left_handed_cells_have_positive_volumes():
    mirrored = Atoms("Cu", cell=[[0, 3, 0], [2, 0, 0], [0, 0, 4]], pbc=True)
    assert Structures.from_ase(mirrored).volumes == pytest.approx(24, rel=1e-15)


def test_take_and_concatenate():
    frames = [WATER, COPPER, Atoms("H"), WATER]
    s = Structures.from_ase(frames)
    same(s.take([2, 1, 1]), Structures.from_ase([frames[k] for k in (2, 1, 1)]))
    same(s.take(1), Structures.from_ase(COPPER))
    same(Structures.concatenate([s.take([0, 1]), s.take([2, 3])]), s)
    assert s.to_device("cpu") is s


def test_moved_atoms():
    s = Structures.from_ase([WATER, COPPER])
    positions = s.positions + 0.1
    moved = s.moved(positions)
    elsewhere = [WATER.copy(), COPPER.copy()]
    for atoms in elsewhere:
        atoms.positions += 0.1
    same(moved, Structures.from_ase(elsewhere))
    np.testing.assert_array_equal(moved.volumes, s.volumes)
    positions[4, 1] = np.nan
    assert np.isfinite(moved.positions).all(), "they are copied"
    with pytest.raises(InputError, match=r"frame 1, atom 1 is at \[.*nan.*\]; positions must be finite"):
        s.moved(positions)


def test_species():
    s = Structures.from_ase([WATER, COPPER])
    species = s.species([29, 1, 8])
    assert species.dtype == np.int32 and species.tolist() == [2, 1, 1, 0, 0, 0, 0]
    with pytest.raises(InputError, match=r"frame 1, atom 0 is Cu, .* knows O, H"):
        s.species([8, 1])


@pytest.mark.parametrize("number", [-1, 0, 119, 10**6])
def test_numbers_of_no_element(number):
    """A negative number must not count from the end of the list of elements."""
    atoms = COPPER.copy()
    atoms.numbers[2] = number
    with pytest.raises(InputError, match=rf"frame 0, atom 2 is of atomic number {number}, .* knows Cu"):
        Structures.from_ase(atoms).species([29])


@pytest.mark.parametrize("dtype", ["complex", "object", "str"])
def test_positions_that_are_no_real_numbers(dtype):
    atoms = COPPER.copy()
    atoms.arrays["positions"] = atoms.positions.astype(dtype)
    with pytest.raises(InputError, match=r"positions of frame 1 are of the type .* give real numbers"):
        Structures.from_ase([WATER, atoms])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "empty list of frames"),
        ([WATER, "water.xyz"], "frame 1 is a str"),
        ([WATER, Atoms()], "frame 1 has no atoms"),
        ([WATER, Atoms("HO", [(0, 0, 0), (0, np.nan, 0)])], "frame 1, atom 1 is at .* finite"),
        ([Atoms("HO", [(0, 0, -np.inf), (0, 1, 0)])], "frame 0, atom 0"),
        ([WATER, Atoms("H", cell=[[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]])], "cell of frame 1 .* finite"),
        ([WATER, Atoms("H", pbc=True)], "frame 1 is periodic in .* dependent"),
        ([Atoms("H", cell=[[1, 0, 0], [0, 1, 0], [1, 1, 0]], pbc=True)], "frame 0 is periodic"),
        ([Atoms("H", cell=[[1, 2, 3], [2, 4, 6], [0, 0, 0]], pbc=(1, 1, 0))], "frame 0 is periodic"),
        ([Atoms("H", cell=[[0, 0, 0], [0, 1, 0], [0, 0, 1]], pbc=(1, 0, 0))], "frame 0 is periodic"),
    ],
)
def test_refused(frames, message):
    with pytest.raises(InputError, match=message):
        Structures.from_ase(frames)


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("H", cell=[[0, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=(0, 1, 0)),
        Atoms("H", cell=[[1, 0, 0], [1, 1, 0], [0, 0, 0]], pbc=(1, 1, 0)),
        Atoms("H", cell=[[2, 0, 0], [0, 2, 0], [1, 1, 0]], pbc=(1, 1, 0)),  # the loose vector does not count
        Atoms("H", cell=[[1, 0, 0], [1e4, 1, 0], [0, 0, 1]], pbc=True),
        Atoms("H", cell=np.eye(3) * 1e-3, pbc=True),
    ],
)
def test_accepted(atoms):
    assert Structures.from_ase(atoms).n_atoms == 1


def test_smallest_sine_is_the_border():
    def sheared(sine):
        return Atoms("H", cell=[[1, 0, 0], [1, sine, 0], [0, 0, 1]], pbc=True)

    Structures.from_ase(sheared(2 * SMALLEST_SINE))
    with pytest.raises(InputError):
        Structures.from_ase(sheared(SMALLEST_SINE / 2))


def test_completed_cells_keep_their_periodic_vectors():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(8, 3, 3))
    pbc = np.array([[k & 1, k & 2, k & 4] for k in range(8)], bool)
    full = complete_cells(cells, pbc)
    np.testing.assert_array_equal(full[pbc], cells[pbc])
    for h, periodic in zip(full, pbc, strict=True):
        loose = h[~periodic]
        np.testing.assert_allclose(loose @ loose.T, np.eye(len(loose)), atol=1e-15)
        np.testing.assert_allclose(h[periodic] @ loose.T, 0, atol=1e-15)
        assert abs(np.linalg.det(h)) > 1e-3
