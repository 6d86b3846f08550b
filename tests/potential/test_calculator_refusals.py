"""What dynamics must never go on with: atoms at one place, and numbers that are not finite, whatever the skin."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.pairs import Pairs
from fastdesc.potential.recorded import RecordedEvaluation
from fastdesc.structures import Structures

FAMILIES = {
    "gm": lambda: fd.GaussianMoments(species=["Cu"], cutoff=4.5, n_radial=2, n_basis=4),
    "ed": lambda: fd.EmbeddedDensity(species=["Cu"], cutoff=4.5, n_radial=4, l_max=1),
    "ed3": lambda: fd.EmbeddedDensity(species=["Cu"], cutoff=4.5, n_radial=4, l_max=1, iterations=3),
    "sf": lambda: fd.SplineFilters(species=["Cu"], cutoff=4.5, r_min=1.5, n_pair=2, n_triplet=0, n_knots=7),
}
MEETINGS = {
    "cluster": (Atoms("Cu3", [[0, 0, 0], [0.3, 0, 0], [2.5, 0, 0]]), [0.3, 0, 0]),
    "across a face": (Atoms("Cu2", [[0.1, 0, 0], [7.9, 0, 0]], cell=[8, 8, 8], pbc=True), [-0.2, 0, 0]),
}


@pytest.mark.parametrize("skin", [0, 1.0])
@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_atoms_that_meet_are_refused_at_that_step(family, meeting, skin):
    """Exactly, and to 5e-7 Å, where numbers are still finite; as without a skin, and the list holds all the while."""
    atoms, step = (x.copy() if isinstance(x, Atoms) else np.array(x) for x in MEETINGS[meeting])
    calc = atoms.calc = fd.FastdescCalculator(fd.Potential(FAMILIES[family](), hidden=(4,)), skin=skin)
    atoms.get_forces()
    here = atoms.positions[0].copy()
    for short in (0.0, 5e-7):
        atoms.positions[0] = here + step * (1 - short / np.linalg.norm(step))
        for _ in range(2):
            with pytest.raises(InputError, match=r"frame 0, atom 0 and atom 1 are .* Å apart; two atoms cannot share"):
                atoms.get_forces()
        assert "forces" not in calc.results and "energy" not in calc.results
        assert calc.searches == 1 or skin == 0
    atoms.positions[0] = here + step * 0.9
    want = calc.potential.predict(atoms)
    np.testing.assert_allclose(atoms.get_forces(), want.forces, rtol=1e-9, atol=1e-9 * abs(want.forces).max())


def test_what_is_refused_leaves_no_results_of_before():
    """Also of a calculator that is asked directly, where ASE clears nothing."""
    calc, atoms = fd.FastdescCalculator(fd.Potential(FAMILIES["gm"](), hidden=(4,))), bulk("Cu", cubic=True)
    calc.calculate(atoms)
    assert calc.results["forces"].shape == (4, 3)
    atoms.positions[0] = atoms.positions[1]
    with pytest.raises(InputError, match="two atoms cannot share"):
        calc.calculate(atoms)
    assert calc.results == {}


def test_distances_are_looked_at_only_where_the_rule_leaves_doubt(monkeypatch):
    from fastdesc import calculator

    looked = []
    monkeypatch.setattr(calculator, "check_distances", lambda *given: looked.append(given))
    atoms = bulk("Cu", cubic=True)
    atoms.calc = fd.FastdescCalculator(fd.Potential(FAMILIES["gm"](), hidden=(4,)), skin=0.5)
    rng = np.random.default_rng(0)
    for _ in range(5):
        atoms.positions += rng.normal(scale=0.01, size=(4, 3))
        atoms.get_forces()
    assert not looked and atoms.calc.searches == 1
    near = Atoms("Cu2", [[0, 0, 0], [0.3, 0, 0]], calculator=atoms.calc)
    near.get_forces()
    near.positions[1, 0] += 0.4    # both move by 0.2 from where their middle is: 0.3 - 2 x 0.2 is below zero
    near.get_forces()
    assert len(looked) == 1 and atoms.calc.searches == 2


def test_the_shortest_distance_is_that_of_the_list():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.2, seed=1)
    found = Pairs.find(Structures.from_ase(atoms), 4.0).shortest
    d = atoms.get_all_distances(mic=True)[np.triu_indices(4, 1)]
    assert found == pytest.approx(d.min(), rel=1e-12)
    assert Pairs.find(Structures.from_ase(Atoms("Cu")), 4.0).shortest == np.inf


@pytest.mark.parametrize("skin", [0, 0.5])
def test_numbers_that_are_not_finite_never_reach_dynamics(skin):
    """Weights that overflowed: the step ends in a sentence, and no momentum is touched."""
    p = fd.Potential(FAMILIES["gm"](), hidden=(4,))
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = fd.FastdescCalculator(p, skin=skin)
    atoms.set_momenta(np.ones((4, 3)))
    md = VelocityVerlet(atoms, 1 * units.fs)
    md.run(1)
    p.scale = np.full(1, np.inf)
    atoms.calc.reset()
    said = r"force on atom 0 is not finite \(energy .*; the closest atoms, frame 0, atom \d and atom \d, are .* step"
    with pytest.raises(InputError, match=said):
        md.run(1)
    assert np.isfinite(atoms.get_momenta()).all()


@pytest.mark.parametrize("spoilt", range(3))
def test_energy_forces_and_stress_are_each_judged(monkeypatch, spoilt):
    p = fd.Potential(FAMILIES["gm"](), hidden=(4,))
    replay = RecordedEvaluation.replay

    def spoil(self, structures):
        found = replay(self, structures)
        found[spoilt].flat[-1] = np.inf
        return found

    monkeypatch.setattr(RecordedEvaluation, "replay", spoil)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = fd.FastdescCalculator(p)
    said = "the force on atom 3 is not finite" if spoilt == 1 else "the energy or the stress is not finite"
    with pytest.raises(InputError, match=said):
        atoms.get_potential_energy()
