"""Training a potential that has been trained before: never worse, slower, references kept or fitted, new elements."""

import copy

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.device_models import DESCRIPTORS
from helpers.ladder_models import rung
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.training.pull import Pull
from fastdesc.training.settings import FURTHER, RATES, Settings

TRAIN, VALID = alloy(8), alloy(4, 1)
QUICK = {"progress": False, "dtype": "float64", "uncertainty": False, "batch_atoms": 32}
pytestmark = pytest.mark.filterwarnings("ignore:the energies of the training frames do not tell")


@pytest.fixture(scope="module")
def trained():
    p = small_potential()
    fd.train(p, TRAIN, VALID, epochs=15, **QUICK)
    return p


def shifted(frames, per_atom):
    out = []
    for atoms in frames:
        e, f = atoms.get_potential_energy() + per_atom * len(atoms), atoms.get_forces()
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f)
        out.append(atoms)
    return out


def test_worse_weights_do_not_replace_those_of_before(trained, capsys):
    p = copy.deepcopy(trained)
    before = p.parameters
    history = fd.train(p, TRAIN, VALID, epochs=2, learning_rate=0.5, **{**QUICK, "progress": True})
    assert min(history["valid_loss"]) > p.training["errors"]["valid_loss"]
    assert p.training["errors"]["epoch"] == 0
    for name, array in p.parameters.items():
        np.testing.assert_array_equal(array, before[name])
    told = capsys.readouterr()
    assert "the weights to start from: loss" in told.out + told.err


def test_better_weights_do(trained):
    p = copy.deepcopy(trained)
    history = fd.train(p, TRAIN, VALID, epochs=10, **QUICK)
    assert p.training["errors"]["epoch"] > 0
    assert p.training["errors"]["valid_loss"] == min(history["valid_loss"])
    assert p.training["settings"]["learning_rate"] == pytest.approx(FURTHER * RATES["learning_rate"])
    assert trained.training["settings"]["learning_rate"] == RATES["learning_rate"]


def test_rates_that_are_set_stay():
    s = Settings(learning_rate=1e-4).with_rates(True)
    assert s.learning_rate == 1e-4 and s.descriptor_learning_rate == FURTHER * RATES["descriptor_learning_rate"]
    assert s.with_rates(False) == s


def test_a_run_that_goes_on_from_a_checkpoint_is_that_of_before(trained, tmp_path):
    whole, parts = copy.deepcopy(trained), copy.deepcopy(trained)
    fd.train(whole, TRAIN, VALID, epochs=4, **QUICK)
    given = {"checkpoint": tmp_path / "c.h5", "checkpoint_every": 1, **QUICK}
    fd.train(parts, TRAIN, VALID, epochs=4, callback=lambda epoch: epoch.row["epoch"] == 2, **given)
    fd.train(parts, TRAIN, VALID, epochs=4, resume=True, **given)
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(parts.parameters[name], array)
    assert parts.training["errors"].keys() == whole.training["errors"].keys()


def test_the_first_run_resumed_with_its_own_potential_keeps_its_rates(tmp_path):
    p = small_potential()
    given = {"checkpoint": tmp_path / "c.h5", "checkpoint_every": 1, "epochs": 3, **QUICK}
    fd.train(p, TRAIN, VALID, callback=lambda epoch: epoch.row["epoch"] == 1, **given)
    assert p.fitted
    history = fd.train(p, TRAIN, VALID, resume=True, **given)
    assert len(history) == 3 and p.training["settings"]["learning_rate"] == RATES["learning_rate"]


def test_references_are_kept_and_a_word_is_said_or_fitted(trained):
    other = shifted(TRAIN, 1.5), shifted(VALID, 1.5)
    p = copy.deepcopy(trained)
    with pytest.warns(FastdescWarning, match="refit_references"):
        fd.train(p, *other, epochs=1, **QUICK)
    np.testing.assert_array_equal(p.reference, trained.reference)
    p = copy.deepcopy(trained)
    fd.train(p, *other, epochs=1, refit_references=True, **QUICK)
    e = np.array([a.get_potential_energy() / len(a) for a in other[1]])
    assert abs((p.predict(other[1]).energy / 8 - e).mean()) < 0.05
    # Labels are shifted by 1.5 eV an atom; what the model errs by is fitted with them.
    np.testing.assert_allclose(p.reference - trained.reference, 1.5, atol=0.05)


def test_the_pull_is_that_of_its_formula():
    rng = np.random.default_rng(0)
    start = {"a": rng.normal(size=(3, 2)), "b": np.zeros(4)}
    pull, now = Pull(start, 0.7), {name: a + rng.normal(size=a.shape) for name, a in start.items()}

    def value(parameters):
        of_a = ((parameters["a"] - start["a"]) ** 2).sum() / (start["a"] ** 2).sum()
        return 0.7 * (of_a + (parameters["b"] ** 2).sum() / 4)

    found, gradient = pull(now)
    assert found == pytest.approx(value(now), rel=1e-14)
    for name, g in gradient.items():
        for k in np.ndindex(g.shape):
            moved = {n: a.astype(complex) for n, a in now.items()}
            moved[name][k] += 1e-30j
            assert g[k] == pytest.approx(value(moved).imag / 1e-30, rel=1e-13)


def test_the_more_pull_the_nearer_the_parameters_stay(trained):
    other = [a.copy() for a in TRAIN]
    for a, old in zip(other, TRAIN, strict=True):
        a.calc = SinglePointCalculator(a, energy=old.get_potential_energy(), forces=1.5 * old.get_forces())
    moved = []
    for strength in (0, 0.1, 10.0):
        p = copy.deepcopy(trained)
        history = fd.train(p, other, other, epochs=8, pull=strength, **QUICK)
        penalties = [row.get("train_penalty", 0) for row in history.rows]
        assert (max(penalties) > 0) == (strength > 0) and min(penalties) >= 0
        moved.append(sum(((a - trained.parameters[n]) ** 2).sum() / (a**2).sum() for n, a in p.parameters.items()))
    assert moved[0] > 1.5 * moved[1] > 15 * moved[2] > 0


def test_a_pull_goes_on_from_a_checkpoint(trained, tmp_path):
    whole, parts, given = copy.deepcopy(trained), copy.deepcopy(trained), {**QUICK, "pull": 0.5, "epochs": 3}
    fd.train(whole, TRAIN, VALID, **given)
    given |= {"checkpoint": tmp_path / "c.h5", "checkpoint_every": 1}
    fd.train(parts, TRAIN, VALID, callback=lambda epoch: epoch.row["epoch"] == 1, **given)
    fd.train(parts, TRAIN, VALID, resume=True, **given)    # the potential is no longer what it began with
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(parts.parameters[name], array)


def test_a_pull_to_nothing_is_refused(trained):
    with pytest.raises(InputError, match=r"pull came as 0\.1, and the potential has not been trained before"):
        fd.train(small_potential(), TRAIN, VALID, pull=0.1, **QUICK)
    with pytest.raises(InputError, match="the weights of Ag are new and mean nothing yet"):
        fd.train(fd.add_elements(trained, ["Ag"]), TRAIN, VALID, pull=0.1, **QUICK)
    with pytest.raises(InputError, match="pull came as -1; it must be a number of at least 0"):
        Settings(pull=-1)


KINDS = {
    **{name: lambda make=make: fd.Potential(make(), hidden=(6, 5)) for name, make in DESCRIPTORS.items()},
    "factorised": lambda: small_potential(species_mixing="factorised"),
    "shared": lambda: fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(6, 5), network="shared"),
    "s-MEAM": lambda: rung("s-MEAM"),
    "s-NNP": lambda: rung("s-NNP"),
    "pair": lambda: rung("pair"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_added_elements_leave_the_old_ones_as_they_are(kind):
    p = KINDS[kind]()
    rng = np.random.default_rng(0)
    p.set_parameters({k: a + 0.05 * rng.normal(size=a.shape) for k, a in p.parameters.items()})
    p.reference = np.array([-1.0, 2.0])
    wider = fd.add_elements(p, ["Ag", "Al"])
    assert list(wider.descriptor.species_numbers) == [13, 29, 47, 79]
    before, after = p.predict(VALID), wider.predict(VALID)
    np.testing.assert_allclose(after.energies, before.energies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(after.forces, before.forces, rtol=0, atol=1e-12)
    assert wider.reference[0] == 0 and set(wider.without_reference) == {"Ag", "Al"}
    assert p.n_parameters < wider.n_parameters or kind == "pair"


def test_added_elements_are_trained_with_the_old_references():
    p = small_potential()
    fd.train(p, TRAIN, VALID, epochs=10, **QUICK)
    silver = []
    for k in range(6):
        atoms = bulk("Cu", "fcc", a=3.9, cubic=True)
        atoms.numbers[: k % 3 + 1] = 47
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        e, f = atoms.get_potential_energy() + 7.0 * (k % 3 + 1), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f)
        silver.append(atoms)
    wider = fd.add_elements(p, ["Ag"])
    fd.train(wider, silver[:5], silver[5:], epochs=1, learning_rate=0.0, **QUICK)
    assert wider.without_reference == ()
    np.testing.assert_array_equal(wider.reference[[0, 2]], p.reference)
    e = np.array([a.get_potential_energy() for a in silver[:5]])
    found = wider.predict(silver[:5])
    assert abs((found.energy - e) / 4).mean() < 1.0 < 7 / 4    # 7 eV an atom of silver more than EMT says


def test_what_cannot_be_added_is_refused():
    p = small_potential()
    with pytest.raises(InputError, match="knows all of them already: Cu, Au"):
        fd.add_elements(p, ["Cu"])
    filters = fd.SplineFilters(species=["Cu"], cutoff=4.0, triplet_cutoff=4.0, n_pair=1, n_triplet=0, shared=True)
    shared = fd.Potential(filters)
    with pytest.raises(InputError, match="shared"):
        fd.add_elements(shared, ["Ag"])
    with pytest.raises(InputError, match="give a Potential"):
        fd.add_elements("model.h5", ["Ag"])
    with pytest.raises(InputError, match="refit_references came as 1"):
        fd.train(p, TRAIN, refit_references=1)
