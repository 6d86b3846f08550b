"""Uncertainties among the results of the ASE calculator: those of predict, with a list of pairs that is kept."""

import numpy as np
import pytest
from helpers.ladder_models import rung
from helpers.potentials import cell, potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.uncertainty import Uncertainty

NAMES = ("energy_uncertainty", "energies_uncertainty", "grade", "forces_uncertainty")


def sure(p):
    n, rng = LastLayer.of(p.model(), p.direct_columns).n, np.random.default_rng(0)
    largest = rng.uniform(1, 2, len(p.reference))
    p.uncertainty = Uncertainty(rng.normal(size=(n, n)) / n, largest, 1.3, 0.7)
    return p


@pytest.mark.parametrize("make", [potential, lambda: rung("s-NNP", ("H", "C", "O"))], ids=["networks", "direct"])
def test_results_are_those_of_predict_at_every_step(make):
    p, atoms = sure(make()), cell()
    atoms.calc = fd.FastdescCalculator(p, uncertainty=True)
    for k in range(3):
        atoms.rattle(0.01, seed=k)
        atoms.get_forces()
        expected = p.predict(atoms, uncertainty=True)
        for name in NAMES:
            wanted = np.squeeze(getattr(expected, name))
            np.testing.assert_allclose(atoms.calc.results[name], wanted, rtol=1e-9, atol=1e-11, err_msg=name)
    assert atoms.calc.searches == 1
    assert isinstance(atoms.calc.results["energy_uncertainty"], float)


def test_they_are_found_when_asked_for_and_only_then():
    p, atoms = sure(potential()), cell()
    atoms.calc = fd.FastdescCalculator(p)
    atoms.get_forces()
    assert not set(NAMES) & set(atoms.calc.results)
    grade = atoms.calc.get_property("grade", atoms)
    np.testing.assert_allclose(grade, p.predict(atoms, uncertainty="energy").grade, rtol=1e-10)
    assert "forces_uncertainty" not in atoms.calc.results
    found = atoms.calc.get_property("forces_uncertainty", atoms)
    np.testing.assert_allclose(found, p.predict(atoms, uncertainty=True).forces_uncertainty, rtol=1e-9)
    atoms.calc = fd.FastdescCalculator(p, uncertainty="energy")
    atoms.get_potential_energy()
    assert set(NAMES) - set(atoms.calc.results) == {"forces_uncertainty"}


def test_models_without_and_wrong_words_are_refused():
    atoms = cell()
    with pytest.raises(InputError, match=r"fd\.fit_uncertainty"):
        fd.FastdescCalculator(potential(), uncertainty=True)
    atoms.calc = fd.FastdescCalculator(potential())
    with pytest.raises(InputError, match=r"fd\.fit_uncertainty"):
        atoms.calc.get_property("grade", atoms)
    with pytest.raises(InputError, match="uncertainty came as 'all'"):
        fd.FastdescCalculator(sure(potential()), uncertainty="all")
