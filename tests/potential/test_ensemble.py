"""Ensembles: mean and spread of their members, pairs found once, calibration, refusals."""

import numpy as np
import pytest
from helpers.backends import DOUBLE_AND_GPU
from helpers.device_models import DESCRIPTORS
from helpers.ladder_models import rung
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.potential import ensemble as module

FRAMES = alloy(3)


def members():
    """Three of different families and cutoffs."""
    d = DESCRIPTORS["gaussian moments"]()
    return [fd.Potential(d, hidden=(6,), seed=1), rung("s-NNP"), fd.Potential(DESCRIPTORS["embedded density"]())]


def test_mean_and_spread_are_those_of_the_members(tmp_path):
    three = members()
    three[1].save(tmp_path / "p.h5")
    found = fd.Ensemble([three[0], tmp_path / "p.h5", three[2]]).predict(FRAMES)
    each = [p.predict(FRAMES) for p in three]
    for name in ("energy", "forces", "stress", "energies"):
        values = np.stack([getattr(one, name) for one in each])
        np.testing.assert_allclose(getattr(found, name), values.mean(0), rtol=1e-12, atol=1e-12)
        if name != "stress":
            wanted = np.sqrt(((values - values.mean(0)) ** 2).sum(0) / 2)
            np.testing.assert_allclose(getattr(found, f"{name}_uncertainty"), wanted, rtol=1e-9, atol=1e-11)
    alone = fd.Ensemble(three).predict(FRAMES, forces=False, stress=False)
    np.testing.assert_allclose(alone.energy_uncertainty, found.energy_uncertainty, rtol=1e-9)
    assert alone.forces is None and alone.stress is None and alone.forces_uncertainty is None


def test_pairs_are_found_once(monkeypatch):
    found = []
    real = module.find_on
    monkeypatch.setattr(module, "find_on", lambda *given: found.append(given[1]) or real(*given))
    fd.Ensemble(members()).predict(FRAMES)
    assert found == [4.5]


@pytest.mark.parametrize("device", DOUBLE_AND_GPU)
def test_a_device_finds_the_same(device):
    pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
    from contextlib import nullcontext

    from cuda_emulator import gcc_status
    from doubles.cupy_double import device_double

    if not gcc_status()[0]:
        pytest.skip(gcc_status()[1])
    several = fd.Ensemble(members())
    expected = several.predict(FRAMES)
    with device_double() if device == "double" else nullcontext():
        found = several.predict(FRAMES, device="cuda")
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.forces_uncertainty, expected.forces_uncertainty, rtol=0, atol=1e-10)


def test_calibrated_spreads_are_as_large_as_errors():
    several = fd.Ensemble(members())
    several.calibrate(FRAMES, dtype="float64")
    found = several.predict(FRAMES)
    energy = np.array([a.get_potential_energy() for a in FRAMES])
    forces = np.concatenate([a.get_forces() for a in FRAMES])
    assert np.sqrt((((found.energy - energy) / found.energy_uncertainty) ** 2).mean()) == pytest.approx(1)
    assert np.sqrt((((found.forces - forces) / found.forces_uncertainty) ** 2).mean()) == pytest.approx(1)
    with pytest.raises(InputError, match="say the same"):
        fd.Ensemble([several.members[0]] * 2).calibrate(FRAMES)
    bare = [atoms.copy() for atoms in FRAMES]
    with pytest.raises(InputError, match="none of the 3 frames"):
        several.calibrate(bare)


def test_what_is_no_ensemble_is_refused():
    p = small_potential()
    for wrong, words in (
        ([p], "1 members came"),
        ([p, 3], "member 1 is a int"),
        (p, "members came as a Potential"),
        ([p, rung("pair", ("H", "C"))], "member 1 knows"),
    ):
        with pytest.raises(InputError, match=words):
            fd.Ensemble(wrong)


def test_the_calculator_has_the_mean_and_the_spread_at_every_step():
    several, atoms = fd.Ensemble(members()), FRAMES[0].copy()
    several.calibrate(FRAMES)
    atoms.calc = fd.EnsembleCalculator(several)
    for k in range(3):
        atoms.rattle(0.01, seed=k)
        expected = several.predict(atoms)
        np.testing.assert_allclose(atoms.get_potential_energy(), expected.energy[0], rtol=1e-11)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-10)
        np.testing.assert_allclose(atoms.get_stress(), expected.stress[0], rtol=0, atol=1e-11)
        for name in ("energies", "energy_uncertainty", "energies_uncertainty", "forces_uncertainty"):
            wanted = np.squeeze(getattr(expected, name))
            np.testing.assert_allclose(atoms.calc.get_property(name, atoms), wanted, rtol=1e-8, atol=1e-9)
    assert [member.searches for member in atoms.calc.members] == [1, 1, 1]
    with pytest.raises(InputError, match="ensemble is a Potential"):
        fd.EnsembleCalculator(several.members[0])
