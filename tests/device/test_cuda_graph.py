"""Captured evaluations: the numbers of the evaluation they repeat, over steps, lists, cells and atoms that change.

On the device that is not there (device_double.py, stream_capture.py), and on a GPU where there is one.
"""

from contextlib import nullcontext

import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.ladder_models import RUNGS
from helpers.training import alloy

import fastdesc as fd
from fastdesc.errors import DeviceError, InputError
from fastdesc.potential import cuda_graph

real = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles.cupy_double import device_double  # noqa: E402
from helpers.backends import DOUBLE_AND_GPU  # noqa: E402
from helpers.device_models import DESCRIPTORS, potential  # noqa: E402


@pytest.fixture
def ledger():
    """A device that is not there, and what was asked of it."""
    usable, reason = gcc_status()
    if not usable:
        pytest.skip(reason)
    with device_double() as found:
        yield found


@pytest.fixture(params=DOUBLE_AND_GPU)
def somewhere(request):
    """A device: the double, and a GPU where there is one."""
    usable, reason = gcc_status()
    if request.param == "double" and not usable:
        pytest.skip(reason)
    with device_double() if request.param == "double" else nullcontext():
        yield


def pair_of(p, **keywords):
    """The same atoms twice: with a captured calculator and with one that launches kernel by kernel."""
    found = []
    for graph_or_not in (True, False):
        atoms = alloy(1)[0]
        atoms.calc = fd.FastdescCalculator(p, device="cuda", graph=graph_or_not, **keywords)
        found.append(atoms)
    return found


def moved(atoms, seed, size):
    atoms.positions += size * np.random.default_rng(seed).normal(size=atoms.positions.shape)


def same(a, b):
    """Both calculators give the same bits."""
    for read in ("get_potential_energy", "get_forces", "get_stress", "get_potential_energies"):
        np.testing.assert_array_equal(getattr(a, read)(), getattr(b, read)(), err_msg=read)


CASES = [(family, network) for family in DESCRIPTORS for network in ("per_species", "shared")]
CASES += [(name, "per_species") for name in (*RUNGS, "repelled")]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("family", "network"), CASES)
def test_captured_steps_are_the_steps(family, network, dtype, somewhere):
    """Bit for bit: small moves, moves that need a new list with another number of pairs, another cell."""
    p = potential(family, network)
    one, other = pair_of(p, dtype=dtype)
    counts = set()
    for k, size in enumerate([0.0, 0.01, 0.01, 0.3, 0.01, 0.4]):
        for atoms in (one, other):
            moved(atoms, k, size)
            if k == 4:
                atoms.set_cell(1.03 * atoms.cell[:], scale_atoms=True)
        same(one, other)
        counts.add(one.calc._pairs.n_pairs)
    assert one.calc.captures == 1 and one.calc.searches >= 3 and len(counts) >= 3
    assert other.calc.captures == 0
    expected = p.predict(one, dtype=dtype)
    tolerance = 1e-11 if dtype == "float64" else 2e-4
    largest = max(1, abs(expected.forces).max())
    np.testing.assert_allclose(one.get_forces(), expected.forces, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("family", DESCRIPTORS)
def test_a_step_is_one_copy_one_launch_and_one_wait(family, ledger):
    one, other = pair_of(potential(family))
    for atoms in (one, other):
        atoms.get_forces()
        moved(atoms, 0, 0.01)
    ledger.clear()
    one.get_forces()
    assert len(ledger.waits) == len(ledger.uploads) == len(ledger.launches) == 1, vars(ledger)
    assert "graph.py" in ledger.waits[0] and "graph.py" in ledger.uploads[0]
    moved(one, 1, 0.3)
    ledger.clear()
    one.get_forces()
    assert one.calc.searches == 2 and len(ledger.waits) == len(ledger.launches) == 1
    assert len(ledger.uploads) == 5, "positions, and row, j, shift and mirror of the new list"
    ledger.clear()
    other.get_forces()
    assert len(ledger.launches) > 20


def test_more_pairs_than_fit_are_captured_anew(ledger, monkeypatch):
    monkeypatch.setattr(cuda_graph, "LEAST", 1)
    one, other = pair_of(potential("gaussian moments"))
    same(one, other)
    before = one.calc.captured
    for atoms in (one, other):
        atoms.set_cell(0.8 * atoms.cell[:], scale_atoms=True)
    same(one, other)
    assert one.calc.captures == 2 and one.calc.captured.capacity > before.capacity
    assert one.calc._pairs.n_pairs > before.capacity


def test_other_atoms_are_captured_anew(ledger):
    """Another number of atoms, another element, another order of elements."""
    p = potential("spline filters")
    one, other = pair_of(p)
    same(one, other)
    for change in (lambda a: a.__delitem__(3), lambda a: a.set_chemical_symbols(a.get_chemical_symbols()[::-1])):
        for atoms in (one, other):
            change(atoms)
        same(one, other)
    assert one.calc.captures == 3


def test_frames_and_no_neighbours(ledger):
    """Several frames, one without a cell, an atom without neighbours."""
    frames, p = alloy(2), potential("embedded density")
    lone = frames[1][:1]
    lone.set_cell(None)
    lone.pbc = False
    structures = fd.Structures.from_ase([frames[0], lone])
    pairs, model = fd.Pairs.find(structures, 4.0), p.model("float64", "cuda")
    species = structures.species(p.descriptor.species_numbers)
    captured = cuda_graph.CapturedEvaluation(model, species, pairs, structures)
    atomic, forces, virials = captured.replay(structures)
    energy, wanted_forces, wanted_virials, _ = p.evaluate(structures, pairs)
    np.testing.assert_allclose(p.totals(atomic, species, structures.first)[0], energy, rtol=1e-11)
    np.testing.assert_allclose(forces, wanted_forces, rtol=0, atol=1e-11)
    np.testing.assert_allclose(virials, wanted_virials, rtol=0, atol=1e-10)


def test_results_are_the_callers_own(ledger):
    one, _ = pair_of(potential("gaussian moments"))
    first = one.get_forces()
    kept = first.copy()
    moved(one, 0, 0.1)
    assert not np.array_equal(one.get_forces(), kept)
    np.testing.assert_array_equal(first, kept)


def test_changed_parameters_after_reset(ledger):
    p = potential("spline filters")
    one, other = pair_of(p)
    same(one, other)
    p.set_parameters({name: 1.1 * array for name, array in p.parameters.items()})
    for atoms in (one, other):
        atoms.calc.reset()
    same(one, other)
    np.testing.assert_allclose(one.get_forces(), p.predict(one).forces, rtol=0, atol=1e-11)


# Where capturing does not work.


def uncapturable(monkeypatch, problem):
    """Make the evaluation do while it is captured what `problem` does."""
    original = cuda_graph.energies_forces_virials

    def evaluation(model, *args):
        problem(model, *args)
        return original(model, *args)

    monkeypatch.setattr(cuda_graph, "energies_forces_virials", evaluation)


def out_of_memory():
    raise real.cuda.memory.OutOfMemoryError(10, 20, 30)


PROBLEMS = {
    "cuBLAS": lambda model, positions, *_: positions.T @ positions,
    "wait": lambda model, positions, *_: float(positions.sum()),
    "upload": lambda model, positions, *_: positions[[0, 1]],
    "no room": lambda model, positions, *_: out_of_memory(),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_cannot_be_captured_is_evaluated_as_usual(problem, ledger, monkeypatch):
    uncapturable(monkeypatch, PROBLEMS[problem])
    p, atoms = potential("spline filters"), alloy(1)[0]
    atoms.calc = fd.FastdescCalculator(p, device="cuda")
    np.testing.assert_allclose(atoms.get_forces(), p.predict(atoms).forces, rtol=0, atol=1e-11)
    assert atoms.calc.captures == 0 and "could not be captured" in atoms.calc.not_captured
    atoms.calc = fd.FastdescCalculator(p, device="cuda", graph=True)
    with pytest.raises(DeviceError, match="could not be captured as a CUDA graph"):
        atoms.get_forces()


def test_what_is_done_on_the_host_while_capturing_is_seen(ledger, monkeypatch):
    """The first replay must give what the evaluation gave: here each evaluation is another."""
    calls = []
    original = cuda_graph.energies_forces_virials

    def evaluation(*args):
        calls.append(1)
        energies, *others = original(*args)
        return energies * float(len(calls)), *others

    monkeypatch.setattr(cuda_graph, "energies_forces_virials", evaluation)
    one, _ = pair_of(potential("spline filters"))
    with pytest.raises(DeviceError, match="gave other results"):
        one.get_forces()


def test_large_systems_are_not_captured(ledger, monkeypatch):
    monkeypatch.setattr(cuda_graph, "MOST_ATOMS", 7)
    p = potential("spline filters")
    one, _ = pair_of(p)
    with pytest.raises(DeviceError, match="8 atoms came, and up to 7 are captured"):
        one.get_forces()
    one.calc = fd.FastdescCalculator(p, device="cuda")
    one.get_forces()
    assert one.calc.captures == 0 and "up to 7" in one.calc.not_captured
    del one[0]
    one.get_forces()
    assert one.calc.captures == 1 and one.calc.not_captured is None


def test_the_option_is_checked():
    p = potential("spline filters")
    with pytest.raises(InputError, match="graph came as 'yes'; it must be 'auto', True or False"):
        fd.FastdescCalculator(p, graph="yes")
    with pytest.raises(DeviceError, match="CUDA graphs need device 'cuda'"):
        fd.FastdescCalculator(p, graph=True)
    atoms = alloy(1)[0]
    atoms.calc = fd.FastdescCalculator(p)
    atoms.get_forces()
    assert atoms.calc.captures == 0
