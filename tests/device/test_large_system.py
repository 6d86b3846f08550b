"""The way of large systems gives the numbers of the other within float32; which cells take it, and what it keeps."""

from contextlib import nullcontext

import ase
import numpy as np
import pytest
from ase.build import bulk
from cuda_emulator import gcc_status
from helpers.backends import DOUBLE_AND_GPU
from helpers.device_models import potential

import fastdesc as fd
from fastdesc import calculator
from fastdesc import potential as potentials
from fastdesc.backend import cuda
from fastdesc.descriptors.gaussian_moments import large_list
from fastdesc.descriptors.gaussian_moments import large_system as kernels
from fastdesc.descriptors.gaussian_moments.radial_table import radial_tables
from fastdesc.errors import InputError
from fastdesc.geometry import stress_voigt
from fastdesc.numerics.radial import BASES
from fastdesc.potential import large_network, large_system
from fastdesc.potential.prediction import Prediction

pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles import cupy_double

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
WITHIN = 3e-6
"""Of the largest force: sums of some hundred terms in float32, each of them right to 6e-8 of the largest."""


@pytest.fixture
def few(monkeypatch):
    """Few atoms are many."""
    monkeypatch.setattr(large_system, "LEAST_ATOMS", 1)
    monkeypatch.setattr(large_system, "BLOCK", 64)


@pytest.fixture
def ledger(few):
    """A device that is not there."""
    with cupy_double.device_double() as found:
        yield found


@pytest.fixture(params=DOUBLE_AND_GPU)
def somewhere(request, few):
    """A device: the double, and a GPU where there is one."""
    with cupy_double.device_double() if request.param == "double" else nullcontext():
        yield


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
    with monkeypatch.context() as m:
        m.setattr(potentials, "find_on", None)    # no pairs are found
        large = pot.predict(atoms, "cuda", "float32", **keywords)
    monkeypatch.setattr(large_system, "LEAST_ATOMS", len(atoms) + 1)
    return large, pot.predict(atoms, "cuda", "float32", **keywords), pot.predict(atoms, **keywords)


def assert_close(found, other):
    largest = max(abs(other.forces).max(), 1e-3)
    np.testing.assert_allclose(found.forces, other.forces, rtol=0, atol=WITHIN * largest)
    np.testing.assert_allclose(found.energies, other.energies, rtol=WITHIN, atol=WITHIN)
    np.testing.assert_allclose(found.energy, other.energy, rtol=WITHIN, atol=WITHIN * len(other.forces))
    stress = max(np.nan_to_num(abs(other.stress)).max(), 1e-4)    # not a number where there is no volume
    np.testing.assert_allclose(found.stress, other.stress, rtol=0, atol=WITHIN * stress)


def slab():
    """A skew slab without a third vector of the cell, atoms of which are outside the other two."""
    atoms = triclinic()
    atoms.positions[:9] -= [0, 0, 40] @ atoms.cell.array
    atoms.pbc, atoms.cell[2] = [True, True, False], 0
    return atoms


def wire():
    """Periodic along one vector."""
    atoms = triclinic()
    atoms.positions[:9] -= [5, 0, 40] @ atoms.cell.array
    atoms.pbc = [False, True, False]
    return atoms


def cluster():
    """Without any cell."""
    atoms = uneven()
    atoms.pbc, atoms.cell = False, None
    return atoms


FRAMES = {f.__name__: f() for f in (triclinic, uneven, slab, wire, cluster)}


@pytest.mark.parametrize("atoms", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_numbers_are_those_of_the_other_way(somewhere, monkeypatch, atoms, network):
    """Over a list that is searched for, and over one that is made of pairs."""
    pot = potential("gaussian moments", network)
    large, usual, exact = both(pot, atoms, monkeypatch)
    assert_close(large, usual)
    assert_close(large, exact)
    assert abs(large.forces.sum(0)).max() < 1e-12 * abs(large.forces).max() * len(atoms)
    monkeypatch.setattr(large_system, "LEAST_ATOMS", 1)
    structures = fd.Structures.from_ase([atoms])
    pairs = fd.Pairs.find(structures, 4.3).to_device("cuda")
    _, forces, virials, energies = pot.evaluate(structures, pairs, pot.model("float32", "cuda"))
    with np.errstate(invalid="ignore"):
        stress = stress_voigt(virials, structures.volumes)
    assert pairs.sliced is not None
    assert_close(Prediction(energies.sum()[None], forces, stress, energies), exact)


@pytest.mark.parametrize("atoms", [triclinic(), uneven()], ids=["triclinic", "uneven"])
def test_the_search_finds_all_pairs(somewhere, atoms):
    """Neighbours, ascending, and mirrors, as the search of the host has them; two bins along a vector, and more."""
    structures = fd.Structures.from_ase([atoms])
    placed, species = structures.to_device("cuda"), np.zeros(len(atoms), np.int32)
    for cutoff in (5.2, 2.7):
        import cupy

        widths = large_system.widths(structures.host_cells[0])
        found = large_list.searched(placed.positions, placed.cells[0], cupy.asarray(species), widths, cutoff)
        pairs = fd.Pairs.find(structures, cutoff)
        order, count, start, neighbour, opposite = (
            getattr(found, name).get() for name in ("order", "count", "start", "neighbour", "opposite")
        )
        assert found.shortest == pytest.approx(pairs.shortest, rel=1e-6)
        for a, i in enumerate(order):
            slots = start[a // 32] + a % 32 + 32 * np.arange(count[a])
            row = neighbour[slots]
            assert (np.diff(row) > 0).all()
            assert sorted(order[row]) == sorted(pairs.j[pairs.row[i] : pairs.row[i + 1]])
            assert (neighbour[opposite[slots]] == a).all() and (opposite[slots] % 32 == row % 32).all()
            assert (opposite[opposite[slots]] == slots).all()


def test_bins_are_not_more_than_atoms():
    """Whatever the cell, so that a thin gas takes no more memory than a crystal; none is thinner than the cutoff."""
    for widths, n_atoms in (((2000.0, 2000.0, 2000.0), 50_000), ((20.0, 20.0, 2000.0), 900), ((9.0, 9.0, 9.0), 1)):
        bins = large_list.bins_of(widths, 4.0, n_atoms)
        assert 1 <= np.prod(bins) <= n_atoms and (np.array(widths) / bins >= 4.0).all()
    assert large_list.bins_of((20.0, 20.0, 2000.0), 4.0, 50_000) == [5, 5, 500]


def test_atoms_at_one_place_are_named(somewhere):
    atoms = triclinic()
    atoms.positions[7] = atoms.positions[3]
    with pytest.raises(InputError, match=r"atom 3 and .*atom 7 are .* apart"):
        potential("gaussian moments").predict(atoms, "cuda", "float32")


def test_tables_in_shared_memory_and_blocks_of_elements(somewhere, monkeypatch):
    """The same bits as from memory; of a block that lacks an element, too."""
    pot, atoms = potential("gaussian moments"), triclinic()
    atoms.numbers[:] = 29
    atoms.numbers[0] = 79
    found = []
    for most in (0, 100_000):
        monkeypatch.setattr(kernels, "STAGED", most)
        found.append(pot.predict(atoms, "cuda", "float32"))
    for name in ("energies", "forces", "stress"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_more_channels_than_registers_and_lower_ranks(somewhere, monkeypatch):
    """Two slabs of channels of rank 2 with repulsion: what existing kernels know is known here too."""
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=6, n_basis=4, max_rank=2, basis="gaussian")
    pot = fd.Potential(d, hidden=(6, 5), repulsion="zbl", direct=True)
    atoms = uneven()
    assert_close(pot.predict(atoms, "cuda", "float32"), pot.predict(atoms))


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_features_are_not_copied(ledger, monkeypatch, network):
    """Of the atoms of a network together, contiguous, into products and out of them: networks without a kernel."""
    pot, seen, contracted = potential("gaussian moments", network), [], []
    monkeypatch.setattr(large_system, "packed", lambda model: None)
    head = type(pot.model("float32", "cuda").networks[0])
    forward, pull_back, contract = head.forward, head.pullback, large_system.cuda.Kernels.gm_contract_pullback

    def of_contraction(self, moments, dq, dmoments):
        assert dq is seen.pop() and np.shares_memory(dmoments._host, self._even(dmoments)._host)
        contracted.append(dq)
        contract(self, moments, dq, dmoments)

    def forward_of(self, x):
        assert x.flags.c_contiguous
        return forward(self, x)

    def pullback_of(self, saved, dy):
        dx, chain = pull_back(self, saved, dy)
        seen.append(dx)
        return dx, chain

    monkeypatch.setattr(head, "forward", forward_of)
    monkeypatch.setattr(head, "pullback", pullback_of)
    monkeypatch.setattr(large_system.cuda.Kernels, "gm_contract_pullback", of_contraction)
    pot.predict(triclinic(), "cuda", "float32")
    assert contracted and not seen


def test_energies_alone(somewhere, monkeypatch):
    pot = potential("gaussian moments")
    large, usual, _ = both(pot, triclinic(), monkeypatch, forces=False, stress=False)
    assert large.forces is None and large.stress is None
    np.testing.assert_allclose(large.energies, usual.energies, rtol=WITHIN, atol=WITHIN)


def test_a_step_waits_once(ledger):
    """The list is kept with the pairs it was made of, and serves atoms that have moved."""
    pot, atoms = potential("gaussian moments"), triclinic()
    model, structures = pot.model("float32", "cuda"), fd.Structures.from_ase([atoms])
    pairs = fd.Pairs.find(structures, 4.5).to_device("cuda")
    pot.evaluate(structures.to_device("cuda"), pairs, model)
    listed = pairs.sliced[0]
    atoms.rattle(0.05, seed=5)
    moved = fd.Structures.from_ase([atoms]).to_device("cuda")
    ledger.clear()
    _, forces, _, _ = pot.evaluate(moved, pairs, model)
    assert pairs.sliced[0] is listed and len(ledger.waits) == 1, ledger.waits
    assert abs(forces - pot.predict(atoms).forces).max() < WITHIN * abs(forces).max()


def test_dynamics_keep_a_list_without_pairs(ledger, monkeypatch):
    """Through ASE's calculator: a wait a step, a new list where atoms moved far or the cell suits no more."""
    pot, atoms = potential("gaussian moments"), triclinic()
    atoms.calc = fd.FastdescCalculator(pot, device="cuda", dtype="float32", skin=0.6, graph=False)
    with monkeypatch.context() as m:
        m.setattr(calculator, "find_on", None)    # no pairs are found
        atoms.get_forces()
        for k in range(2):
            atoms.rattle(0.02, seed=k)
            ledger.clear()
            forces = atoms.get_forces()
            assert len(ledger.waits) == 1, ledger.waits
            assert len(ledger.uploads) == 3, ledger.uploads    # positions, cell, reference energies
        assert atoms.calc.searches == 1
        exact = pot.predict(atoms)
        assert_close(Prediction(np.array([atoms.get_potential_energy()]), forces, atoms.get_stress()[None],
                                atoms.get_potential_energies()), exact)    # fmt: skip
        atoms.rattle(0.4, seed=9)
        assert abs(atoms.get_forces() - pot.predict(atoms).forces).max() < WITHIN * abs(atoms.get_forces()).max()
        assert atoms.calc.searches == 2
    atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)
    assert abs(atoms.get_forces() - pot.predict(atoms).forces).max() < WITHIN * abs(atoms.get_forces()).max()
    assert atoms.calc.searches == 3


def test_a_list_of_other_frames_is_refused(ledger):
    pot, one = potential("gaussian moments"), fd.Structures.from_ase([triclinic()])
    model, other = pot.model("float32", "cuda"), fd.Structures.from_ase([uneven()])
    listed = large_system.list_for(model, one, 4.2)
    assert abs(pot.evaluate(one, listed, model)[1] - pot.predict(triclinic()).forces).max() < 1e-6
    for structures, suits in ((other, model), (one, pot.model("float64", "cuda")), (one, pot.model())):
        with pytest.raises(InputError, match=r"one large system of 108 atoms .* leave pairs out"):
            pot.evaluate(structures, listed, suits)


def test_dynamics_name_atoms_that_came_to_one_place(ledger):
    atoms, pot = triclinic(), potential("gaussian moments")
    atoms.calc = fd.FastdescCalculator(pot, device="cuda", dtype="float32", skin=1.3, graph=False)
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]
    atoms.get_forces()
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(InputError, match=r"atom 0 and .*atom 1 are .* apart"):
        atoms.get_forces()


def test_who_goes_which_way(ledger, monkeypatch):
    pot, atoms = potential("gaussian moments"), triclinic()
    model, other = pot.model("float32", "cuda"), potential("recursive moments").model("float32", "cuda")

    def suits(atoms, model=model, cutoff=4.0):
        structures = fd.Structures.from_ase(atoms)
        return large_system.suited(model, structures, fd.Pairs.find(structures, cutoff)) is not None

    assert suits([atoms])
    thin, long = bulk("Cu", "fcc", a=3.9, cubic=True) * (2, 3, 3), atoms.copy()
    long.cell[2] *= 300
    assert not suits([thin]) and not suits([long]) and not suits([atoms, atoms])
    assert not suits([atoms], cutoff=5.9)
    assert not suits([atoms], other) and not suits([atoms], pot.model("float64", "cuda"))
    assert not suits([atoms], pot.model("float32"))
    monkeypatch.setattr(large_system, "MOST_TABLE", 1000)
    assert not suits([atoms])
    monkeypatch.undo()
    with cupy_double.device_double():
        assert not suits([atoms])    # too few


def test_a_list_of_too_many_slots_goes_the_other_way(somewhere, monkeypatch):
    """Nothing is dropped: slots are counted before any is filled."""
    pot, atoms = potential("gaussian moments"), triclinic()
    usual = pot.predict(atoms, "cuda", "float32")    # as a large system
    monkeypatch.setattr(large_list, "MOST_SLOTS", 1000)
    found = pot.predict(atoms, "cuda", "float32")
    assert_close(found, usual)
    assert abs(found.forces - usual.forces).max() > 0


def test_memory_of_pairs(ledger, monkeypatch):
    """24 bytes a slot, neighbour, mirror and gradient, and nothing else as long as the list."""
    import cupy

    asked, empty, atoms = [], cupy.empty, triclinic()
    n_pairs = fd.Pairs.find(fd.Structures.from_ase([atoms]), 4.0).n_pairs

    def noted(shape, dtype=float):
        asked.append((np.atleast_1d(shape), np.dtype(dtype)))
        return empty(shape, dtype)

    monkeypatch.setattr(cupy, "empty", noted)
    potential("gaussian moments").predict(atoms, "cuda", "float32")
    ((n_slots, *_),) = (shape for shape, dtype in asked if dtype == np.uint32)
    long = [shape.prod() * dtype.itemsize // n_slots for shape, dtype in asked if shape[0] == n_slots]
    assert sorted(long) == [4, 4, 16] and n_pairs <= n_slots < 1.5 * n_pairs, asked
    most = max(shape.prod() * dtype.itemsize for shape, dtype in asked if len(shape) == 3 or shape[0] != n_slots)
    assert most <= 64 * 4 * potential("gaussian moments").descriptor.n_features, "features of more than a block"


@pytest.mark.parametrize("basis", BASES)
def test_radial_tables_are_the_channels(basis):
    """Cubics at any distance: values to 1e-7 and slopes to 2e-6 of the largest, by the formulas of the reference."""
    from references.gaussian_moments_kernels import CUTOFF
    from references.gaussian_moments_kernels import basis as functions

    beta = np.random.default_rng(0).uniform(-1, 1, (2, 2, 6, 8))
    tables, knots = radial_tables(beta, BASES.index(basis), CUTOFF, 5)
    assert tables.shape == (2, 2, 2, knots + 1, 5, 4)
    assert not tables[:, :, :, -1].any() and not tables[1, ..., 1:, :].any()
    d = np.random.default_rng(1).uniform(0.4, CUTOFF, 4000)
    g, dg = functions(d, basis, 8)
    k, h = (d * knots / CUTOFF).astype(int), CUTOFF / knots
    t = d / h - k
    c = np.moveaxis(tables.astype(np.float64)[:, :, :, k], (0, -2), (-3, -2))    # (2, 2, 4000, slabs, 5, 4)
    c = c.reshape(2, 2, len(d), 10, 4)[..., :6, :]
    powers = np.stack([np.ones_like(t), t, t**2, t**3], -1)[:, None]
    slopes = np.stack([np.zeros_like(t), np.ones_like(t), 2 * t, 3 * t**2], -1)[:, None] / h
    for weights, of_basis, within in ((powers, g, 1e-7), (slopes, dg, 2e-6)):
        wanted = np.einsum("yzsb,bp->yzps", beta, of_basis)
        np.testing.assert_allclose((c * weights).sum(-1), wanted, rtol=0, atol=within * abs(wanted).max())


NETWORKS = [((64, 64), "silu", True), ((6, 5), "tanh", False), ((64, 17), "celu", True), ((1, 33), "softplus", True)]


@pytest.mark.parametrize(("hidden", "activation", "bias"), NETWORKS)
def test_networks_in_one_kernel(somewhere, monkeypatch, hidden, activation, bias):
    """Energies and gradients are those of features in memory, for tiles that are full, and one that is not.

    A block of the double, which has two multiprocessors, takes several of them.
    """
    import cupy

    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_basis=4)
    pot = fd.Potential(d, hidden=hidden, activation=activation, bias=bias, seed=4)
    model, n = pot.model("float32", "cuda"), 150
    rng = np.random.default_rng(3)
    moments = cupy.asarray(rng.normal(0, 0.5, (d.n_radial, d.n_moments, n)).astype(np.float32))
    species = cupy.asarray(rng.integers(0, 2, n + 10).astype(np.int32))
    owner = cupy.asarray(rng.permutation(n + 10)[:n].astype(np.int32))
    networks = large_network.packed(model)
    for z, network in enumerate(networks):
        energies, dmoments = cupy.full(n + 10, 7.0), cupy.full(moments.shape, np.nan, np.float32)
        large_network.gm_large_network(d, *network, moments, owner, species, model.scale, energies, dmoments)
        expected = cupy.empty(moments.shape, np.float32)
        known = large_system._of_network(model, z, moments, expected, species[owner])
        np.testing.assert_allclose(energies[owner].get(), known.get(), rtol=WITHIN, atol=WITHIN)
        largest = abs(expected.get()).max()
        np.testing.assert_allclose(dmoments.get(), expected.get(), rtol=0, atol=WITHIN * largest)
        assert np.count_nonzero(energies.get() == 7.0) == 10
        alone = cupy.zeros(n + 10)
        large_network.gm_large_network(d, *network, moments, owner, species, model.scale, alone)
        np.testing.assert_array_equal(alone[owner].get(), energies[owner].get())


def test_networks_that_do_not_fit(ledger, monkeypatch):
    """One or three hidden layers, more units, a direct term, or too little shared memory: the other way."""

    def packed(d=None, **keywords):
        d = d or fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_basis=4)
        return large_network.packed(fd.Potential(d, **keywords).model("float32", "cuda"))

    others = [
        {"hidden": (64,)}, {"hidden": (8, 8, 8)}, {"hidden": (65, 64)}, {"hidden": (8, 8), "direct": True},
        {"hidden": (8, 8), "activation": "trained_silu", "blocks": 1},
    ]  # fmt: skip
    assert packed(hidden=(64, 64)) is not None
    assert all(packed(**other) is None for other in others)
    assert packed(fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_basis=4, n_radial=6), hidden=(8, 8)) is None
    monkeypatch.setattr(cuda, "limits", lambda: cuda.Limits(40, 99 << 10))
    assert packed(hidden=(64, 64)) is None
