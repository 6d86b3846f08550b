"""Fitting the covariance of the last layer: the matrix, the ridge, calibration; what train leaves in a potential."""

import warnings

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.ladder_models import RUNGS, rung
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.potential.last_layer import LastLayer
from fastdesc.training import uncertainty as module
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.last_layer_metric import frame_features, metric
from fastdesc.training.loss import LossWeights

TRAIN, VALID = alloy(10), alloy(6, 1, (1, 1, 1))
QUICK = {"epochs": 2, "progress": False, "dtype": "float64"}
pytestmark = pytest.mark.filterwarnings("ignore:the energies of the training frames do not tell")


@pytest.fixture(scope="module")
def trained():
    p = small_potential()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastdescWarning)
        fd.train(p, TRAIN, VALID, **QUICK)
    return p


def forces_by_weights(p, frames):
    """Derivatives of forces by the last layers' weights and biases, weights last; exact, for they are linear."""
    names = [f"network/{k}/2/{kind}" for k in range(2) for kind in ("weight", "bias")]
    before, out = p.parameters, []
    for name in names:
        for k in range(before[name].size):
            array = before[name].copy()
            array.flat[k] += 1
            p.set_parameters({name: array})
            moved = p.predict(frames)
            p.set_parameters({name: before[name]})
            plain = p.predict(frames)
            out.append((moved.energy - plain.energy, moved.forces - plain.forces))
    return np.stack([e for e, _ in out], -1), np.stack([f for _, f in out], -1)


def test_the_matrix_is_that_of_dense_algebra(trained):
    p = fd.Potential(trained.descriptor, **trained.arguments)
    p.set_parameters(trained.parameters)
    p.scaler = trained.scaler
    data, weights = TrainingSet(TRAIN, p.descriptor, np.float64), LossWeights(3.0, 2.0, 0.0)
    data.energies[0], data._forces[:8] = np.nan, np.nan    # the first frame has neither
    by_energy, by_force = forces_by_weights(p, TRAIN)
    model = p.model()
    layer = LastLayer.of(model, p.direct_columns)
    found = metric(layer, model, data, weights, p.reference, probes=3, seed=5)
    wanted, rng = np.zeros_like(found), np.random.default_rng(5)
    n = np.array([len(a) for a in TRAIN])
    for f in range(1, len(TRAIN)):
        wanted += 3.0 / n[f] ** 2 * np.outer(by_energy[f], by_energy[f])
    signs = [2.0 * rng.integers(0, 2, by_force.shape[:2]) - 1 for _ in range(3)]    # all frames are one batch
    first = np.cumsum([0, *n])
    for t in signs:
        for f in range(1, len(TRAIN)):
            own = slice(first[f], first[f + 1])
            along = np.einsum("ac,acw->w", t[own], by_force[own])
            wanted += 2.0 / (3 * n[f] * 3) * np.outer(along, along)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * wanted.max())


def test_probes_give_the_sum_over_coordinates_in_the_mean(trained):
    data, weights = TrainingSet(TRAIN, trained.descriptor, np.float64), LossWeights(0.0, 1.0, 0.0)
    model = trained.model()
    layer = LastLayer.of(model, trained.direct_columns)
    found = metric(layer, model, data, weights, trained.reference, probes=100)
    wanted, batch = np.zeros_like(found), data.batch(np.arange(len(TRAIN)), trained.reference)
    for a in range(8):    # the same coordinate of all frames, which have 8 atoms
        for c in range(3):
            one = np.zeros((len(TRAIN), 8, 3))
            one[:, a, c] = 1
            _, rows = frame_features(layer, model, batch, one.reshape(-1, 3))
            wanted += rows.T @ rows / 24
    # 1000 tangents: traces within some percent.
    assert abs(np.trace(found) / np.trace(wanted) - 1) < 0.1


@pytest.mark.parametrize("name", ["per_species", "shared", *RUNGS])
def test_training_leaves_an_uncertainty_that_is_calibrated(name):
    """By validation frames, the mean square of error over standard deviation is one, of energies and of forces."""
    p = rung(name) if name in RUNGS else small_potential(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastdescWarning)
        fd.train(p, TRAIN, VALID, **QUICK)
    found = p.predict(VALID, uncertainty=True)
    energy = np.array([a.get_potential_energy() for a in VALID])
    forces = np.concatenate([a.get_forces() for a in VALID])
    ratio = (found.energy - energy) / found.energy_uncertainty
    assert np.sqrt((ratio**2).mean()) == pytest.approx(1, rel=1e-12)
    seen = found.forces_uncertainty > 1e-9    # by symmetry some components are zero, and known to be
    ratio = ((found.forces - forces) / found.forces_uncertainty)[seen]
    assert np.sqrt((ratio**2).mean()) == pytest.approx(1, rel=1e-12)
    grade = p.predict(TRAIN, uncertainty="energy").grade
    for z in (29, 79):
        own = np.concatenate([a.numbers for a in TRAIN]) == z
        assert grade[own].max() == pytest.approx(1, rel=1e-9)
    forces_of = p.predict(VALID, uncertainty="local").forces_uncertainty
    ratio = ((found.forces - forces) / forces_of)[seen]
    assert np.sqrt((ratio**2).mean()) == pytest.approx(1, rel=0.2), "elements drawn to one factor"
    told = p.uncertainty.told
    assert told["n_energies"] == 6 and told["n_forces"] <= 72 and "24 atoms" in told["calibrated_on"]


def test_forces_have_a_factor_for_each_element(trained):
    """Labels of gold as they are and those of copper far off: their widths must be told apart."""
    frames = [a.copy() for a in VALID]
    for a, old in zip(frames, VALID, strict=True):
        forces = old.get_forces()
        forces[a.numbers == 29] += 3.0
        a.calc = SinglePointCalculator(a, energy=old.get_potential_energy(), forces=forces)
    p = fd.Potential(trained.descriptor, **trained.arguments)
    p.set_parameters(trained.parameters)
    p.scaler, p.reference, p.training = trained.scaler, trained.reference, trained.training
    fd.fit_uncertainty(p, TRAIN, frames, dtype="float64")
    found, u = p.predict(frames, uncertainty=True), p.uncertainty
    forces, numbers = (np.concatenate(x) for x in zip(*((a.get_forces(), a.numbers) for a in frames), strict=True))
    seen = found.forces_uncertainty > 1e-9
    ratio = np.where(seen, found.forces - forces, 0) / np.where(seen, found.forces_uncertainty, 1)
    assert np.sqrt((ratio[seen] ** 2).mean()) == pytest.approx(1, rel=1e-12)
    without = ratio * u.by_element[(numbers == 79).astype(int)][:, None]
    spread = [[np.sqrt((r[numbers == z][seen[numbers == z]] ** 2).mean()) for z in (29, 79)] for r in (ratio, without)]
    assert u.by_element[0] > 1 > u.by_element[1] and spread[1][0] > 2 * spread[1][1]
    assert spread[0][0] / spread[0][1] < 0.7 * spread[1][0] / spread[1][1], "few components: drawn to one"
    for n in (1, 100, 10**4):    # FEW components more count as usual ones; 4.625 is the mean square of 3 and 0.5
        found = module._by_element(np.repeat([3.0, 0.5], n), np.repeat([0, 2], n), 3)
        few = module.FEW
        expected = np.sqrt([(n * 9 / 4.625 + few) / (n + few), 1, (n * 0.25 / 4.625 + few) / (n + few)])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_least_width_of_forces_is_the_likeliest():
    """Errors drawn with a least width, elements with factors and frames that are far."""
    rng, n = np.random.default_rng(3), 40_000
    element, far = np.repeat([0, 2], n // 2), rng.uniform(1, 3, n)
    width = rng.chisquare(1, n) * np.where(element == 2, 5.0, 1.0)
    usual = np.sqrt([(width[element == z] ** 2).mean() if z != 1 else 0 for z in range(3)])
    factor = np.array([0.5, 0, 2.0])[element]
    for share in (0.1, 0.7):
        error = factor * far**1.5 * np.hypot(width, share * usual[element]) * rng.normal(size=n)
        found = module._of_forces(module._Errors(error, width, far, np.ones(n), element), 3)
        np.testing.assert_allclose(found["least"], share * usual, rtol=1e-12)
        wanted = np.array([0.5, 2.0])
        np.testing.assert_allclose(found["forces_factor"] * found["by_element"][[0, 2]], wanted, rtol=0.02)
        assert found["by_element"][1] == 1
        assert found["local_forces"][2] == pytest.approx(np.sqrt(((error / far)[element == 2] ** 2).mean()), rel=0.01)
    width[: n // 4] = 0    # by symmetry: no width, no error, and nothing said of the others
    again = module._of_forces(module._Errors(np.where(width > 0, error, 0), width, far, np.ones(n), element), 3)
    assert again["forces_factor"] == pytest.approx(found["forces_factor"], rel=0.2)


def test_half_of_the_validation_frames_are_within_reach(trained):
    u, n = trained.uncertainty, np.array([len(a) for a in VALID])
    species = (np.concatenate([a.numbers for a in VALID]) == 79).astype(int)
    grade = trained.predict(VALID, uncertainty="energy").grade
    far = np.sqrt(np.add.reduceat((grade / u.reach[species]) ** 2, np.cumsum([0, *n[:-1]])) / n)
    assert np.median(far) == pytest.approx(1, rel=1e-6)
    of_train = trained.predict(TRAIN, uncertainty="energy").grade
    gold = np.concatenate([a.numbers for a in TRAIN]) == 79
    usual = [np.sqrt((of_train[gold == z] ** 2).mean()) for z in (False, True)]
    assert u.reach[1] / u.reach[0] == pytest.approx(usual[1] / usual[0], rel=1e-9)


def test_grades_tell_far_from_near_where_all_frames_have_one_composition():
    """Labels leave open what an atom of each element has, and with it how unsure single energies are; not the grade."""
    base = bulk("CuAu", "rocksalt", a=5.2, cubic=True)
    calculator, rng, frames = EMT(), np.random.default_rng(2), []
    for k in range(16):
        atoms = base.copy()
        atoms.positions += rng.normal(0, 0.05 if k < 14 else 0.5, atoms.positions.shape)
        atoms.calc = calculator
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        frames.append(atoms)
    p = small_potential()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastdescWarning)
        fd.train(p, frames[:10], frames[10:14], **QUICK)
    near, far = (p.predict(some, uncertainty="energy").grade for some in (frames[10:14], frames[14:]))
    assert np.median(near) < 1.5 and far.max() > 3 * near.max(), (near, far)


def test_the_covariance_is_the_inverse_and_the_ridge_the_likeliest():
    """Errors drawn with a ridge of a thousandth, along directions of which the matrix knows little."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)) * [1, 1, 0.1, 0.01, 1e-4] @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    a = x.T @ x
    spread = np.linalg.inv(a + 1e-3 * np.diag(np.diag(a)))
    rows = rng.normal(size=(3000, 5))
    errors = np.sqrt(np.einsum("fi,ij,fj->f", rows, spread, rows)) * rng.normal(size=3000)
    ridge, factor = module._factor(a, rows, errors, rows[:0], errors[:0])
    assert ridge == pytest.approx(1e-3)
    np.testing.assert_allclose(factor @ factor.T, spread, rtol=1e-9)


def test_fitting_again_gives_what_training_gave(trained, tmp_path):
    trained.save(tmp_path / "p.h5")
    p = fd.load(tmp_path / "p.h5")
    p.uncertainty = None
    found = fd.fit_uncertainty(p, TRAIN, VALID, dtype="float64")
    assert p.uncertainty is found
    np.testing.assert_allclose(found.factor, trained.uncertainty.factor, rtol=1e-12)
    assert found.energy_factor == pytest.approx(trained.uncertainty.energy_factor)
    assert found.told == trained.uncertainty.told


def test_without_validation_frames_those_of_training_are_named():
    p = small_potential()
    fd.train(p, TRAIN, valid_fraction=0, **QUICK)
    assert p.uncertainty.told["calibrated_on"].startswith("the training frames")


def test_energies_alone_calibrate_energies_alone(tmp_path):
    p = small_potential()
    fd.featurize(TRAIN, tmp_path / "q.h5", p.descriptor, progress=False, dtype="float64")
    fd.train(p, str(tmp_path / "q.h5"), valid_fraction=0.3, **QUICK)
    found = p.predict(VALID, uncertainty=True)
    assert np.isfinite(found.energy_uncertainty).all() and np.isnan(found.forces_uncertainty).all()
    assert p.uncertainty.told["n_forces"] == 0
    local = p.predict(VALID, uncertainty="local")
    assert np.isnan(local.forces_uncertainty).all() and np.isfinite(local.grade).all()
    p.save(tmp_path / "p.h5")
    assert fd.load(tmp_path / "p.h5").uncertainty.local_forces is None


def test_it_can_be_left_out_and_a_wide_layer_is_told(monkeypatch):
    p = small_potential()
    fd.train(p, TRAIN, VALID, uncertainty=False, **QUICK)
    assert p.uncertainty is None
    monkeypatch.setattr(module, "MOST", 17)
    with pytest.warns(FastdescWarning, match="18 weights"):
        fd.train(small_potential(), TRAIN, VALID, **QUICK)
    with pytest.raises(InputError, match="18 weights"):
        fd.fit_uncertainty(p, TRAIN, VALID)
    with pytest.raises(InputError, match="uncertainty came as 'no'"):
        fd.train(p, TRAIN, uncertainty="no")


def test_absurd_labels_are_refused(trained):
    frames = [a.copy() for a in VALID]
    for a in frames:
        a.calc = SinglePointCalculator(a, energy=1e300)
    with pytest.raises(InputError, match="squares are infinite"):
        fd.fit_uncertainty(trained, TRAIN, frames)


def test_what_has_no_uncertainty_is_refused():
    with pytest.raises(InputError, match="not been trained"):
        fd.fit_uncertainty(small_potential(), TRAIN, VALID)
    with pytest.raises(InputError, match="give a Potential"):
        fd.fit_uncertainty("model.h5", TRAIN, VALID)
