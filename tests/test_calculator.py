"""The ASE calculator: derivatives, the skin, conservation of energy."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet

import fastdesc as fd
from fastdesc.errors import FileFormatError, InputError

CUTOFF = 4.5


def potential(species=("Cu", "Au"), typical=None, seed=1):
    """A potential with random but smooth weights, about an eV per atom, features scaled by those of a typical frame."""
    d = fd.GaussianMoments(species=species, cutoff=CUTOFF, n_radial=2, n_basis=5, contractions=(1, 2, 3, 5), seed=seed)
    p = fd.Potential(d, hidden=(8, 8), seed=seed)
    q = d.compute(crystal() if typical is None else typical)
    p.scaler = type(p.scaler)(q.mean(0), q.std(0) + 0.1)
    p.reference = np.arange(1.0, 1 + len(species))
    return p


def crystal(seed=0):
    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.numbers[::3] = 79
    atoms.rattle(0.15, seed=seed)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * np.random.default_rng(seed).normal(size=(3, 3))), scale_atoms=True)
    return atoms


P = potential()


@pytest.fixture
def calc():
    return fd.FastdescCalculator(P)


def test_equals_predict(calc):
    atoms = crystal()
    want = P.predict(atoms)
    atoms.calc = calc
    assert abs(atoms.get_potential_energy() - want.energy[0]) < 1e-10
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), want.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(), want.stress[0], atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), want.energies, atol=1e-12)
    assert abs(atoms.get_potential_energies().sum() - want.energy[0]) < 1e-10
    assert np.abs(want.forces).max() > 0.01 and np.abs(want.stress).max() > 1e-4


def test_forces_and_stress_are_derivatives(calc):
    """Central differences of ASE: error eps²/6 times the third derivative, round-off over eps."""
    atoms = crystal()
    atoms.calc = calc
    forces, stress = atoms.get_forces(), atoms.get_stress()
    some = [0, 5, 15]
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4, iatoms=some), forces[some], atol=2e-7)
    np.testing.assert_allclose(calculate_numerical_stress(atoms, eps=1e-5), stress, atol=1e-8)


# --- the skin


def test_skin_gives_what_fresh_lists_give():
    """A random walk with strains; a neighbour list that missed a pair, or kept a stale shift, would show."""
    rng = np.random.default_rng(0)
    atoms = crystal()
    skinned, fresh = fd.FastdescCalculator(P, skin=0.6), fd.FastdescCalculator(P, skin=0)
    for step in range(60):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        if step % 5 == 0:
            atoms.set_cell(atoms.cell @ (np.eye(3) + 0.004 * rng.normal(size=(3, 3))), scale_atoms=True)
        if step % 20 == 19:
            atoms.wrap()
        for name in ("energy", "forces", "stress"):
            a, b = (c.get_property(name, atoms) for c in (skinned, fresh))
            np.testing.assert_allclose(a, b, atol=1e-10)
    assert fresh.searches == 60
    assert 2 <= skinned.searches < 30


@pytest.mark.parametrize("make", [lambda: molecule("H2O"), lambda: fcc111("Cu", (2, 2, 3), vacuum=5.0)])
def test_skin_without_a_full_cell(make):
    rng = np.random.default_rng(0)
    atoms = make()
    p = potential(sorted(set(atoms.symbols)), atoms)
    skinned, fresh = fd.FastdescCalculator(p, skin=1.0), fd.FastdescCalculator(p, skin=0)
    for _ in range(10):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        atoms.set_cell(atoms.cell.array * (1 + 0.001 * rng.normal()), scale_atoms=True)
        for name in ("energy", "forces"):
            np.testing.assert_allclose(skinned.get_property(name, atoms), fresh.get_property(name, atoms), atol=1e-10)
    assert skinned.searches < 5


@pytest.mark.parametrize("axis", range(3))
def test_a_cell_that_is_compressed_along_one_axis_and_stretched_along_others(axis):
    """Of the deformation it is the smallest singular value that counts: along one axis pairs come within the cutoff."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    calc = atoms.calc = fd.FastdescCalculator(P, skin=0.3)
    atoms.get_forces()
    factors = np.full(3, 1.05)
    factors[axis] = 0.92    # 0.92 x 4.8 Å is below the cutoff of 4.5 Å, 0.95 x 4.8 Å is not
    for factor, searches in ((0.95, 1), (0.92, 2)):
        factors[axis] = factor
        strained = atoms.copy()
        strained.set_cell(atoms.cell * factors, scale_atoms=True)
        np.testing.assert_allclose(calc.get_property("forces", strained), P.predict(strained).forces, atol=1e-10)
        assert calc.searches == searches


def test_when_the_list_is_found_anew():
    atoms = crystal()
    calc = fd.FastdescCalculator(P, skin=0.4)
    atoms.calc = calc

    def searches():
        atoms.get_potential_energy()
        return calc.searches

    assert searches() == 1
    atoms.positions[0, 0] += 0.15
    assert searches() == 1, "less than half of the skin"
    atoms.positions += [50.0, 0, 0]
    assert searches() == 1, "a common translation"
    atoms.positions[0, 0] += 0.1
    assert searches() == 2, "more than half of the skin"
    atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    assert searches() == 2, "a small strain"
    atoms.set_cell(atoms.cell * 0.9, scale_atoms=True)
    assert searches() == 3, "a strain that brings pairs within the cutoff"
    atoms.set_cell(atoms.cell * 1.4, scale_atoms=False)
    assert searches() == 4, "images move although atoms do not"
    atoms.numbers[1] = 79 if atoms.numbers[1] == 29 else 29
    assert searches() == 5, "another element"
    atoms.pbc = [True, True, False]
    assert searches() == 6, "another periodicity"
    del atoms[0]
    assert searches() == 7, "another number of atoms"


CHANGES = {
    "a last bit": lambda a: a.positions.__setitem__((2, 1), np.nextafter(a.positions[2, 1], 9)),
    "a position": lambda a: a.positions.__setitem__((2, 1), a.positions[2, 1] + 0.1),
    "an element": lambda a: a.numbers.__setitem__(1, 79),
    "the cell": lambda a: a.set_cell(1.01 * a.cell[:]),
    "a boundary": lambda a: a.pbc.__setitem__(2, False),
    "an atom more": lambda a: a.extend(Atoms("Cu", [(0.15 * len(a), 1.3, 0.9)])),
    "atoms elsewhere after a refusal": lambda a: refused(a),
}


def refused(atoms):
    kept = atoms.positions[0].copy()
    atoms.positions[0] = np.nan
    with pytest.raises(InputError, match="positions must be finite"):
        atoms.get_forces()
    atoms.positions[0] = kept + 0.1


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_seen(what, calc):
    atoms = crystal()
    atoms.calc = calc
    atoms.get_forces()
    for _ in range(2):
        CHANGES[what](atoms)
        assert calc.calculation_required(atoms, ["forces"])
        want = P.predict(atoms)
        np.testing.assert_allclose(atoms.get_forces(), want.forces, atol=1e-11)
        if atoms.cell.rank == 3:
            np.testing.assert_allclose(atoms.get_stress(), want.stress[0], atol=1e-11)
        assert not calc.calculation_required(atoms, ["forces"])
        atoms.positions[3] += 0.01


def test_what_energies_do_not_depend_on_is_no_change(calc):
    atoms = crystal()
    atoms.calc = calc
    atoms.get_forces()
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    atoms.set_tags(1)
    assert not calc.calculation_required(atoms, ["forces"])


def test_changed_potential_is_seen_after_reset():
    p = potential()
    atoms = crystal()
    atoms.calc = fd.FastdescCalculator(p)
    before = atoms.get_potential_energy()
    p.reference = p.reference + 1.0
    atoms.calc.reset()
    assert abs(atoms.get_potential_energy() - before - len(atoms)) < 1e-9


# --- what users meet


def test_results_are_copies(calc):
    atoms = crystal()
    atoms.calc = calc
    forces = atoms.get_forces()
    want = forces.copy()
    forces += 1
    np.testing.assert_array_equal(atoms.get_forces(), want)
    atoms.positions[0, 0] += 0.1
    first = calc.results["forces"]
    assert np.abs(atoms.get_forces() - want).max() > 0
    np.testing.assert_array_equal(first, want)


def test_no_stress_without_a_cell():
    atoms = molecule("H2O")
    atoms.calc = fd.FastdescCalculator(potential(("H", "O"), atoms))
    assert atoms.get_forces().shape == (3, 3)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_float32(calc):
    atoms = crystal()
    single = fd.FastdescCalculator(P, dtype="float32")
    assert abs(single.get_property("energy", atoms) - calc.get_property("energy", atoms)) < 1e-4
    assert np.abs(single.get_property("forces", atoms) - calc.get_property("forces", atoms)).max() < 1e-4


def test_from_a_file(tmp_path, calc):
    path = tmp_path / "model.h5"
    P.save(path)
    atoms = crystal()
    for source in (path, str(path)):
        energy = fd.FastdescCalculator(source).get_property("energy", atoms)
        assert abs(energy - calc.get_property("energy", atoms)) < 1e-10
    with pytest.raises(InputError, match="does not exist"):
        fd.FastdescCalculator(tmp_path / "nowhere.h5")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"model.h5"):
        fd.FastdescCalculator(path)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"potential": 3}, "potential is a int; give a Potential"),
        ({"skin": -0.1}, "skin came as -0.1"),
        ({"skin": float("nan")}, "skin came as nan"),
        ({"skin": "wide"}, "skin came as 'wide'"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"dtype": "float16"}, "dtype 'float16'"),
        ({"dtype": "f16"}, "dtype 'f16'"),
        ({"skinn": 0.3}, "no argument 'skinn' .did you mean 'skin'"),
    ],
)
def test_arguments_are_checked(keywords, message):
    with pytest.raises(InputError, match=message):
        fd.FastdescCalculator(**{"potential": P, **keywords})


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Xe"), "Xe, which the model does not know"),
        (Atoms("Cu", [[0, np.nan, 0]]), "positions must be finite"),
        (Atoms("Cu2", [[0, 0, 0]] * 2), "apart"),
    ],
)
def test_structures_are_checked(calc, atoms, message):
    with pytest.raises(InputError, match=message):
        calc.get_property("energy", atoms)


# --- dynamics


def test_energy_is_conserved():
    """NVE: the total energy neither drifts nor jumps when the list is found anew.

    A symplectic integrator's energy error is bounded and falls as the square of the time step; a gap between energy and
    forces shows as drift of the order of the fluctuation of the potential energy, and does not fall.
    """
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.02, seed=0)
    spread = []
    for dt, steps in ((2.0, 150), (1.0, 300)):
        run = atoms.copy()
        run.calc = fd.FastdescCalculator(P, skin=0.3)
        thermal = np.sqrt(run.get_masses() * 600 * units.kB)[:, None]
        run.set_momenta(thermal * np.random.default_rng(0).normal(size=run.positions.shape))
        md = VelocityVerlet(run, dt * units.fs)
        total, kinetic = [], []
        for _ in md.irun(steps):
            total.append(run.get_total_energy())
            kinetic.append(run.get_kinetic_energy())
        total = np.array(total)
        drift = np.polyfit(np.linspace(0, 1, len(total)), total, 1)[0]
        assert run.calc.searches > 1 or dt == 1.0
        assert np.std(kinetic) > 0.05, "energy was exchanged"
        assert abs(drift) < 0.02 * np.std(kinetic)
        spread.append(np.std(total))
    assert spread[1] < 0.4 * spread[0], "second order in the time step"
