"""Pairs: our cell list against the textbook loop and against vesin, for cells of every kind."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from helpers.pair_lists import assert_same_set, check_form
from references import neighbours as reference
from vesin import NeighborList

from fastdesc.backend import threads
from fastdesc.errors import InputError
from fastdesc.pairs import Pairs, cell_list
from fastdesc.structures import Structures, complete_cells

KINDS = ("molecule", "wire", "slab", "brick", "triclinic", "skewed", "left-handed", "tiny", "flat")


def random_frame(kind, seed):
    """Atoms of one kind and a cutoff: unwrapped, no two at one place, some 2000 pairs at most."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    cutoff = rng.uniform(1.5, 6.0)
    n = 1 if kind == "tiny" else int(rng.integers(1, 14))
    edge = 2.5 if kind == "tiny" else rng.uniform(1.5, 9.0)
    cell = np.diag(rng.uniform(0.8, 1.6, 3)) * edge
    pbc = np.ones(3, bool)
    if kind in ("triclinic", "left-handed", "wire", "slab", "tiny"):
        cell += rng.uniform(-0.4, 0.4, (3, 3)) * edge
    if kind == "left-handed":
        cell = cell[[1, 0, 2]] * np.sign(np.linalg.det(cell))
    if kind == "skewed":
        shear = np.eye(3, dtype=int)
        shear[1, 0], shear[2, 0], shear[2, 1] = rng.integers(-6, 7, 3)
        cell = shear @ cell
    if kind == "flat":
        cell[0] *= 0.3
    if kind in ("molecule", "wire", "slab"):
        loose = rng.permutation(3)[: {"molecule": 3, "wire": 2, "slab": 1}[kind]]
        pbc[loose] = False
        if rng.random() < 0.5:
            cell[loose] = 0
    space = np.where(cell.any(1)[:, None], cell, np.eye(3) * edge)
    spread = np.where(pbc, 2.5, 0.5)  # in a periodic direction an atom may be anywhere
    positions = rng.uniform(-spread, spread, (n, 3)) @ space
    return Atoms("H" * n, positions=positions, cell=cell, pbc=pbc), cutoff


def same(a, b):
    for name in ("row", "j", "shift", "mirror", "first"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


def by_vesin(structures, cutoff):
    """(i, j, S) of one frame."""
    cell = complete_cells(structures.cells, structures.pbc)[0]
    search = NeighborList(cutoff=cutoff, full_list=True)
    return search.compute(structures.positions, cell, structures.pbc[0], "ijS")


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_textbook(kind):
    counts = []
    for seed in range(40):
        atoms, cutoff = random_frame(kind, seed)
        pairs = Pairs.find(Structures.from_ase(atoms), cutoff)
        check_form(pairs)
        expected = reference.neighbours(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
        assert_same_set((pairs.i, pairs.j, pairs.shift), expected, f"seed {seed}")
        counts.append(pairs.n_pairs)
    assert np.mean(counts) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_equals_vesin(kind):
    for seed in range(100, 150):
        atoms, cutoff = random_frame(kind, seed)
        structures = Structures.from_ase(atoms)
        ours, theirs = Pairs.find(structures, cutoff), by_vesin(structures, cutoff)
        assert_same_set((ours.i, ours.j, ours.shift), theirs, f"seed {seed}")


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("cutoff", [2.0, 3.3, 7.0])
def test_large_frames_equal_vesin(pbc, cutoff):
    """Many bins, several tasks; thin and long cells; unwrapped atoms."""
    rng = np.random.default_rng(5)
    for cell in (np.diag([16.0, 17, 18]), np.array([[60.0, 0, 0], [25, 9, 0], [3, -2, 9]]), np.diag([140.0, 8, 4.1])):
        positions = rng.uniform(0, 1, (1300, 3)) @ cell
        positions += np.array(pbc) * rng.integers(-2, 3, (1300, 3)) @ cell
        structures = Structures.from_ase(Atoms(np.ones(1300), positions, cell=cell, pbc=pbc))
        ours, theirs = Pairs.find(structures, cutoff), by_vesin(structures, cutoff)
        check_form(ours)
        assert_same_set((ours.i, ours.j, ours.shift), theirs)


@pytest.mark.parametrize("pbc", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_turned_cells_equal_vesin(pbc):
    """Many bins in cells that no axis is along: a basis that is not normal to its periodic vectors would miss pairs."""
    rng = np.random.default_rng(7)
    for _ in range(5):
        turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        cell = np.diag(rng.uniform(18, 26, 3)) @ turned
        positions = rng.uniform(0, 1, (900, 3)) @ cell
        structures = Structures.from_ase(Atoms(np.ones(900), positions, cell=cell, pbc=pbc))
        cutoff = rng.uniform(2.0, 5.0)
        ours, theirs = Pairs.find(structures, cutoff), by_vesin(structures, cutoff)
        assert_same_set((ours.i, ours.j, ours.shift), theirs)


def test_threads_change_nothing():
    structures = Structures.from_ase([bulk("Cu", cubic=True).repeat(7), *[molecule("CH3CH2OH")] * 300])
    try:
        threads.set_threads(1)
        one = Pairs.find(structures, 5.0)
        threads.set_threads(3)
        same(one, Pairs.find(structures, 5.0))
    finally:
        threads.set_threads(None)


def test_frames_do_not_see_each_other():
    frames = [random_frame(kind, seed)[0] for kind in KINDS for seed in range(3)]
    structures = Structures.from_ase(frames)
    together = Pairs.find(structures, 4.0)
    check_form(together)
    apart = [Pairs.find(Structures.from_ase(atoms), 4.0) for atoms in frames]
    same(together, Pairs.concatenate(apart))
    chosen = [4, 0, 7, 7, 26]
    same(together.take(chosen), Pairs.find(structures.take(chosen), 4.0))
    same(together.take(3), apart[3])
    np.testing.assert_array_equal(together.frame, structures.frame_of_atom)


def test_known_counts():
    """Shells of fcc within 6 Å: 12 + 6 + 24 + 12 + 24; a lone atom has none, one atom of a lattice its own images."""
    copper = bulk("Cu", "fcc", a=3.6)
    assert Pairs.find(Structures.from_ase(copper.repeat((5, 4, 3))), 6.0).n_pairs == 60 * 78
    images = Pairs.find(Structures.from_ase(copper), 6.0)
    assert images.n_pairs == 78 and not images.j.any() and images.shift.any(1).all()
    lone = Pairs.find(Structures.from_ase(Atoms("Cu")), 6.0)
    assert lone.n_pairs == 0 and lone.row.tolist() == [0, 0] and lone.i.shape == (0,)
    check_form(lone)


def test_distance_of_the_cutoff_is_outside():
    dimer = Structures.from_ase(Atoms("H2", [(0, 0, 0), (0, 0, 2.0)]))
    assert Pairs.find(dimer, 2.0).n_pairs == 0
    assert Pairs.find(dimer, np.nextafter(2.0, 3)).n_pairs == 2


def test_atoms_on_the_faces_of_the_cell():
    """Fractional coordinates of 0, 1 and just below 0 are in some bin, and in one only."""
    for x in (0.0, 1.0, -1e-17, -1.0, np.nextafter(1, 0), 0.25, 0.5):
        atoms = Atoms("H2", cell=[8, 8, 8], pbc=True, scaled_positions=[(x, x, x), (0.2, x, 0.9)])
        expected = reference.neighbours(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)
        pairs = Pairs.find(Structures.from_ase(atoms), 5.0)
        assert_same_set((pairs.i, pairs.j, pairs.shift), expected)


def test_two_atoms_at_one_place():
    good = molecule("H2O")
    twins = Atoms("H3", [(0, 0, 0), (1, 1, 1), (0, 0, 4e-7)], cell=[5, 5, 5], pbc=True)
    with pytest.raises(InputError, match=r"frame 1, atom [02] and atom [02] are 4.0e-07 Å apart"):
        Pairs.find(Structures.from_ase([good, twins]), 3.0)
    twins.positions[2] += (5, -10, 1e-5)  # not the same place any more, though in another cell
    assert Pairs.find(Structures.from_ase(twins), 3.0).n_pairs > 0
    twins.positions[2] = (5, -10, 0)
    with pytest.raises(InputError, match="one place"):
        Pairs.find(Structures.from_ase(twins), 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf, "3", None, True])
def test_cutoffs_that_are_none(cutoff):
    with pytest.raises(InputError, match="cutoff"):
        Pairs.find(Structures.from_ase(molecule("H2O")), cutoff)


def test_atoms_are_no_structures():
    with pytest.raises(InputError, match=r"structures is a Atoms; give Structures\.from_ase"):
        Pairs.find(molecule("H2O"), 3.0)


def test_what_a_notebook_shows():
    structures = Structures.from_ase([molecule("H2O"), molecule("CO")])
    assert repr(structures) == "<Structures: 2 frames, 5 atoms>"
    assert repr(Pairs.find(structures, 1.2)) == "<Pairs: 6 of 5 atoms in 2 frames, cutoff 1.2 Å>"


def test_indices_that_would_overflow(monkeypatch):
    grain = Atoms("H", cell=np.eye(3) * 0.01, pbc=True)
    with pytest.raises(InputError, match=r"frame 1 has more than .* periodic images"):
        Pairs.find(Structures.from_ase([molecule("H2O"), grain]), 6.0)
    lost = Atoms("H2", [(0, 0, 0), (1e10, 0, 0)], cell=np.eye(3), pbc=True)
    with pytest.raises(InputError, match=r"frame 0 is over 1e.09 cells away"):
        Pairs.find(Structures.from_ase(lost), 1.0)
    # Evenly spread atoms would make 77.6 pairs.
    monkeypatch.setattr(cell_list, "MOST_PAIRS", 77.9)
    with pytest.raises(InputError, match=r"78 pairs in one list, 77.9 are allowed"):
        Pairs.find(Structures.from_ase(bulk("Cu", "fcc", a=3.6)), 6.0)


def test_atoms_infinitely_apart():
    far = Atoms("H3", [(-1e300, 0, 0), (1e300, 0, 0), (1e300, 0.5, 0)])
    assert Pairs.find(Structures.from_ase(far), 1.0).n_pairs == 2


def test_arrays_of_any_layout():
    structures = Structures.from_ase(bulk("Cu", cubic=True))
    expected = Pairs.find(structures, 4.0)
    structures.positions = np.asfortranarray(structures.positions)
    same(Pairs.find(structures, 4.0), expected)


def test_more_pairs_than_memory_are_refused_before_the_search(monkeypatch):
    crystal = Structures.from_ase(bulk("Cu", cubic=True) * 3)
    with pytest.raises(InputError, match=r"about 2.5e\+09 pairs .* cutoff 400.0 .* 2.1e\+09 can be had; check"):
        Pairs.find(crystal, 400.0)

    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(cell_list, "find", no_memory)
    with pytest.raises(InputError, match=r"about 3.8e\+04 pairs .* more than fit into memory"):
        Pairs.find(crystal, 10.0)
