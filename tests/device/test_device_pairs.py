"""Pairs found on a device: the list of the host, one copy of positions, and what is left to the host."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from cuda_emulator import gcc_status
from helpers.pair_lists import assert_same_set, check_form
from helpers.training import alloy

import fastdesc as fd
from fastdesc import pairs
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.pairs import cell_list, cuda
from fastdesc.potential import cuda_graph

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
import vesin  # noqa: E402
from doubles.cupy_double import DeviceArray, device_double  # noqa: E402
from helpers.device_models import DESCRIPTORS, potential  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1]),
    pytest.mark.filterwarnings("error::fastdesc.errors.FastdescWarning"),
]


@pytest.fixture
def ledger():
    """A device that is not there, and what was asked of it."""
    with device_double() as found:
        yield found


@pytest.fixture
def searches(ledger, monkeypatch):
    """Atoms of every search on the device; frames of more than 16 atoms count as large."""
    found, original = [], cuda.find

    def find(structures, cutoff):
        found.append(structures.n_atoms)
        return original(structures, cutoff)

    monkeypatch.setattr(cuda, "find", find)
    monkeypatch.setattr(cuda, "MOST_ATOMS_ON_HOST", 16)
    return found


def large():
    return alloy(1)[0].repeat((2, 2, 2))


def on_device(frames):
    return fd.Structures.from_ase(frames).to_device("cuda")


def same_as_host(frames, cutoff):
    """Find the pairs of frames on the device and compare with the host's."""
    found = fd.Pairs.find(on_device(frames), cutoff)
    assert all(isinstance(x, DeviceArray) for x in (found.row, found.j, found.shift, found.mirror))
    host = fd.Pairs.find(fd.Structures.from_ase(frames), cutoff)
    found = found.to_device("cpu")
    check_form(found)
    assert_same_set(*((x.i, x.j, x.shift) for x in (found, host)))
    np.testing.assert_array_equal(found.first, host.first)
    return found


def vesin_gives(monkeypatch, change):
    """Change what vesin finds, a list of i, j, S and d."""
    original = vesin.NeighborList.compute

    def compute(self, *args, **keywords):
        return [DeviceArray(x) for x in change([y._host for y in original(self, *args, **keywords)])]

    monkeypatch.setattr(vesin.NeighborList, "compute", compute)


# The list.


@pytest.mark.parametrize("kind", ["brick", "sheared", "turned", "left-handed", "perfect", "unwrapped", "gas"])
def test_the_list_of_the_host(kind, searches):
    rng = np.random.default_rng(3)
    for _ in range(5):
        cell = np.diag(rng.uniform(9, 13, 3))
        if kind in ("sheared", "left-handed"):
            cell += rng.uniform(-2, 2, (3, 3))
        if kind == "left-handed":
            cell = cell[[1, 0, 2]]
        if kind == "turned":
            cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        positions = rng.uniform(0, 1, (90, 3)) @ cell
        if kind == "unwrapped":
            positions += rng.integers(-40, 40, (90, 3)) @ cell
        if kind == "gas":
            cell = 100 * cell
        atoms = Atoms(np.ones(90), positions, cell=cell, pbc=True)
        if kind == "perfect":    # atoms on the faces, distances equal to the cutoff
            atoms = bulk("Cu", cubic=True, a=4.0).repeat(3)
        same_as_host(atoms, 4.0)
    assert len(searches) == 5


def test_several_frames_and_no_pairs(searches):
    lone = Atoms("Cu", cell=9 * np.eye(3), pbc=True)
    frames = [lone, large(), lone, *alloy(2)[:1]]
    found = same_as_host(frames[:3], 4.0)
    assert found.row[1] == 0 and found.row[-1] == found.row[-2] > 0
    assert same_as_host(lone, 4.0).n_pairs == 0
    assert len(searches) == 2


def test_waits(searches, ledger):
    """Once for what was asked for before, once in vesin for each frame, once for what judges the list."""
    placed = on_device([large(), large()])
    ledger.clear()
    fd.Pairs.find(placed, 4.0)
    assert [w.split(": ")[1] for w in ledger.waits] == ["synchronize", "vesin", "vesin", "get"]
    assert len(ledger.uploads) == 1, "inverse cells"


# Front doors.


@pytest.mark.parametrize("family", DESCRIPTORS)
def test_large_cells_are_moved_first(family, searches):
    atoms, p = large(), potential(family)
    expected, features = p.predict(atoms), p.descriptor.compute(atoms)
    found = p.predict(atoms, device="cuda")
    for name in ("energy", "forces", "stress", "energies"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(p.descriptor.compute(atoms, device="cuda"), features, rtol=0, atol=1e-11)
    assert searches == [64, 64]


def test_large_cells_of_a_file(searches, tmp_path):
    atoms, d = large(), DESCRIPTORS["gaussian moments"]()
    fd.featurize([atoms, atoms], tmp_path / "q.h5", d, device="cuda", progress=False)
    np.testing.assert_allclose(fd.read_features(tmp_path / "q.h5").features, d.compute([atoms] * 2), atol=1e-12)
    assert searches == [128]


def test_a_large_cell_is_copied_once(searches, ledger, monkeypatch):
    """Nothing of its pairs travels, its positions do once; the host waits as often as vesin wants, and for results."""
    p = potential("gaussian moments")
    model, structures = p.model("float64", "cuda"), fd.Structures.from_ase(large())
    copied, asarray = [], cupy_double().asarray

    def watched(x, *args, **keywords):
        copied.extend([x.size] * isinstance(x, np.ndarray))
        return asarray(x, *args, **keywords)

    monkeypatch.setattr(cupy_double(), "asarray", watched, raising=False)
    ledger.clear()
    p.evaluate(structures, model=model)
    n = structures.n_atoms
    assert copied.count(3 * n) == 1 and max(copied) == 3 * n
    assert [w.split(": ")[1] for w in ledger.waits] == ["synchronize", "vesin", "get", "get"]


def cupy_double():
    import cupy

    return cupy


def test_small_frames_stay_on_the_host(searches):
    frames, p = [*alloy(5), large()], potential("gaussian moments")
    expected = p.predict(frames)
    np.testing.assert_allclose(p.predict(frames, device="cuda").forces, expected.forces, rtol=0, atol=1e-11)
    p.descriptor.compute(alloy(3), device="cuda")
    p.predict(large(), device="cpu")
    assert searches == []


@pytest.mark.parametrize("many", [False, True])
def test_dynamics_of_a_large_cell(many, searches, monkeypatch):
    """Pairs of what is captured are found on the host, those of more atoms on the device, at every search."""
    p, atoms = potential("gaussian moments"), large()
    monkeypatch.setattr(cuda_graph, "MOST_ATOMS", 63 if many else 64)
    on_host, original = [], cell_list.find
    monkeypatch.setattr(cell_list, "find", lambda *args: on_host.append(1) or original(*args))
    atoms.calc = fd.FastdescCalculator(p, device="cuda")
    for size in (0.0, 0.01, 0.5):
        atoms.positions += size * np.random.default_rng(0).normal(size=atoms.positions.shape)
        np.testing.assert_allclose(atoms.get_forces(), p.predict(atoms).forces, rtol=0, atol=1e-10)
    assert atoms.calc.searches == 2 and searches == [64] * 2 * many
    assert len(on_host) == 3 + 2 * (not many), "three of predict"
    assert (atoms.calc.captured is None) == many


def test_an_error_leaves_no_list_that_seems_to_hold():
    p, atoms = potential("gaussian moments"), large()
    atoms.calc = fd.FastdescCalculator(p)
    atoms.get_forces()
    atoms.positions[1] = atoms.positions[0]
    for _ in range(2):
        with pytest.raises(InputError, match="one place"):
            atoms.get_forces()


def test_what_a_graph_captures_comes_from_the_host():
    assert cuda.MOST_ATOMS_ON_HOST >= cuda_graph.MOST_ATOMS


# What is left to the host.


def thin():
    return bulk("Cu", cubic=True).repeat((1, 5, 5))


def slab():
    atoms = large()
    atoms.pbc[2] = False
    return atoms


def empty():
    return Atoms("Cu40", np.random.default_rng(0).uniform(0, 20, (40, 3)), cell=6e3 * np.eye(3), pbc=True)


@pytest.mark.parametrize("frame", [thin, slab, empty])
def test_cells_that_vesin_is_not_asked_for(frame, searches, ledger):
    same_as_host(frame(), 4.0)
    structures = fd.Structures.from_ase(frame())
    ledger.clear()
    pairs.find_on(structures, 4.0, "cuda")
    assert searches == [] and ledger.waits == [], "what the host searches is not moved first"


def test_without_cuda_libraries(searches, monkeypatch):
    def fail(found):
        raise RuntimeError("Failed to load libnvrtc.so(.*)")

    vesin_gives(monkeypatch, fail)
    with pytest.warns(FastdescWarning, match=r"found on the host, not on the device: Failed to load libnvrtc\.so"):
        same_as_host(large(), 4.0)


def test_libraries_of_pip_are_loaded(monkeypatch):
    """Each by itself: one that is missing does not keep the other away."""
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-pathfinder comes with CuPy 14")
    asked = []

    def load(name):
        asked.append(name)
        raise pathfinder.DynamicLibNotFoundError(name)

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    cuda._load_libraries.__wrapped__()
    assert asked == ["cudart", "nvrtc"]


def test_more_pairs_than_vesin_has_room_for(searches):
    dense = bulk("Cu", cubic=True, a=2.2).repeat(3)
    with pytest.warns(FastdescWarning, match="exceeds the maximum capacity of 13824"):
        same_as_host(dense, 5.0)


@pytest.mark.parametrize("lost", [[0], [-1], slice(3, 40), slice(1, None)])
def test_a_list_cut_short(lost, searches, monkeypatch):
    vesin_gives(monkeypatch, lambda found: [np.delete(x, lost, axis=0) for x in found])
    with pytest.warns(FastdescWarning, match=r"of \d+ pairs have no mirror or come twice"):
        same_as_host(large(), 4.0)


def test_a_list_that_says_things_twice(searches, monkeypatch):
    vesin_gives(monkeypatch, lambda found: [np.concatenate([x, x]) for x in found])
    with pytest.warns(FastdescWarning, match="have no mirror or come twice"):
        same_as_host(large(), 4.0)


def test_a_shift_that_was_lost(searches, monkeypatch):
    vesin_gives(monkeypatch, lambda found: [x if x.ndim == 1 else x + (np.arange(len(x)) == 5)[:, None] for x in found])
    with pytest.warns(FastdescWarning, match="have no mirror or come twice"):
        same_as_host(large(), 4.0)


def test_atoms_far_from_their_cell(searches):
    atoms = large()
    atoms.positions[3] += 150 * atoms.cell[0]
    with pytest.warns(FastdescWarning, match="atoms are 15[01] cells away from their own; wrap their positions"):
        same_as_host(atoms, 4.0)


def test_shifts_that_are_no_digits(searches, monkeypatch):
    monkeypatch.setattr(cuda, "FARTHEST", np.inf)
    atoms = large()
    atoms.positions[3] += 1e6 * atoms.cell[0]
    with pytest.warns(FastdescWarning, match="cells away from their own; wrap"):
        same_as_host(atoms, 4.0)


@pytest.mark.parametrize("away", [0.0, 4e-7, 1.0, -2.0])
def test_two_atoms_at_one_place(away, searches):
    """Exactly, nearly, and exactly in the next cell but one: vesin on CUDA drops pairs of no distance."""
    atoms = large()
    atoms.cell = 10 * np.eye(3)
    atoms.positions[:] = np.stack(np.meshgrid(*3 * [np.arange(4.0)]), -1).reshape(-1, 3) * 2.5
    cells = away if away == int(away) else 0
    atoms.positions[7] = atoms.positions[20] + cells * atoms.cell[1] + [0, away - cells, 0]
    for find in (lambda s: fd.Pairs.find(s.to_device("cuda"), 4.0), lambda s: pairs.find_on(s, 4.0, "cuda")):
        with pytest.raises(InputError, match=r"frame 0, atom (7|20) and atom (7|20) are \d\.\de.* one place"):
            find(fd.Structures.from_ase(atoms))
    assert searches == [64, 64]


def test_groups_of_atoms_that_may_coincide():
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(*3 * [np.arange(5) / 5]), -1).reshape(-1, 3)
    rounded = (lattice + 1e-13 * rng.normal(size=lattice.shape)) % 1
    for parts in (lattice, rounded, rng.uniform(size=(1000, 3))):
        assert not cuda._may_coincide(np, parts)
        for c in range(3):
            other = parts[31:32].copy()
            other[0, c] = (other[0, c] + 3e-13) % 1
            assert cuda._may_coincide(np, np.concatenate([parts, other]))
    assert cuda._may_coincide(np, np.array([[0.0, 0.5, 0.2], [1 - 1e-14, 0.5, 0.2]]))
    assert not cuda._may_coincide(np, np.array([[0.1, 0.5, 0.2]]))


def test_too_many_pairs(searches, monkeypatch):
    atoms = large()
    n_pairs = same_as_host(atoms, 4.0).n_pairs
    monkeypatch.setattr(pairs, "_expected", lambda *_: 0)
    monkeypatch.setattr(cell_list, "MOST_PAIRS", n_pairs - 1)
    with pytest.raises(InputError, match=f"{n_pairs} pairs in one list"):
        fd.Pairs.find(on_device(atoms), 4.0)


def test_a_device_without_memory(searches, monkeypatch):
    def fail(found):
        raise MemoryError("out of memory")

    vesin_gives(monkeypatch, fail)
    with pytest.warns(FastdescWarning, match="out of memory"):
        same_as_host(large(), 4.0)
