"""Training: the gradient is exact, resuming is exact, and what can go wrong says so."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.families import FAMILIES
from helpers.training import alloy, five_point, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training.batch_gradient import batch_gradient, predict_batch
from fastdesc.training.checkpoint import read_checkpoint
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise, response
from fastdesc.training.loss import LossWeights, residuals
from fastdesc.training.settings import Settings


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_responses_are_lengths_of_derivatives(family):
    """Against the derivatives feature by feature, within the noise of an estimate that has a fixed seed."""
    d = family.make(next(iter(family.variants)), ["Cu", "Au"], cutoff=4.5)
    data = TrainingSet(alloy(4, size=(2, 2, 2)), d, np.float64)
    batch, theta = data.batch(np.arange(4), np.zeros(2)), d.theta(np.float64)
    q, saved = d.forward(batch.rij, batch.pairs, batch.species, theta)
    exact = np.empty(len(q))
    for f in range(len(q)):
        dq = np.zeros_like(q)
        dq[f] = 1
        drij = d.pullback(batch.rij, batch.pairs, batch.species, theta, saved, dq)
        exact[f] = np.sqrt((drij**2).sum() / batch.n_atoms)
    off = response(d, batch, theta) / exact - 1
    assert np.abs(off).max() < 0.2 and np.median(np.abs(off)) < 0.05


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_gradient_of_the_loss_is_exact_for_every_parameter(network):
    """Energies, forces and stresses at once; one frame without forces, one without stress, one with weight 3."""
    frames = alloy(4)
    del frames[1].calc.results["forces"]
    del frames[2].calc.results["stress"]
    frames[3].info["weight"] = 3.0
    potential = small_potential(network)
    data = TrainingSet(frames, potential.descriptor, np.float64)
    initialise(potential, data)
    weights = LossWeights(2.0, 1.0, 0.7)
    batch = data.batch([2, 0, 3, 1], potential.reference)
    parameters = potential.parameters
    _, gradient = batch_gradient(potential, potential.model(parameters=parameters), batch, weights)
    assert list(gradient) == list(parameters)
    rng = np.random.default_rng(1)
    for name, array in parameters.items():
        direction = rng.standard_normal(array.shape)

        def loss(h, name=name, array=array, direction=direction):
            model = potential.model(parameters={**parameters, name: array + h * direction})
            return residuals(batch.targets, *predict_batch(model, batch)[:3], weights).loss

        expected = five_point(loss, 1e-4)
        assert (gradient[name] * direction).sum() == pytest.approx(expected, rel=1e-8), name


def test_float32_gradient_is_near_float64():
    frames = alloy(3)
    potential = small_potential()
    weights = LossWeights(1.0, 1.0, 1.0)
    gradients = {}
    for dtype in (np.float64, np.float32):
        data = TrainingSet(frames, potential.descriptor, dtype)
        if not potential.fitted:
            initialise(potential, data)
        batch = data.batch([0, 1, 2], potential.reference)
        gradients[dtype] = batch_gradient(potential, potential.model(dtype), batch, weights)[1]
    for name, exact in gradients[np.float64].items():
        # Round-off of float32 (6e-8) grows through about 1e3 terms of both signs in each sum.
        np.testing.assert_allclose(gradients[np.float32][name], exact, atol=2e-4 * abs(exact).max())


def test_training_reduces_errors_and_keeps_the_best():
    frames = alloy(24)
    potential = small_potential()
    settings = {"epochs": 60, "batch_atoms": 40, "learning_rate": 1e-2, "progress": False}
    history = fd.train(potential, frames[:20], frames[20:], **settings)
    first, last = history.rows[0], history.rows[-1]
    assert last["valid_forces_mae"] < 0.5 * first["valid_forces_mae"]
    assert len(history) == 60
    forces = np.concatenate([a.get_forces() for a in frames[20:]])
    mae = abs(potential.predict(frames[20:], dtype="float32").forces - forces).mean()
    assert mae == pytest.approx(history.best()["valid_forces_mae"], rel=1e-3)


@pytest.mark.parametrize("steps", [9, 11])
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_resumed_training_gives_the_numbers_of_an_uninterrupted_run(tmp_path, monkeypatch, schedule, steps):
    """Interrupted between two epochs, of three steps each, and in the middle of one."""
    frames = alloy(8)
    settings = {"epochs": 6, "batch_atoms": 24, "schedule": schedule, "dtype": "float64", "progress": False, "seed": 5}
    whole = small_potential()
    full = fd.train(whole, frames, **settings)

    from fastdesc.training import trainer

    part, done = small_potential(), []

    def interrupted(*arguments):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return batch_gradient(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "batch_gradient", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fd.train(part, frames, checkpoint=tmp_path / "c.h5", **settings)
    again = small_potential()
    resumed = fd.train(again, frames, checkpoint=tmp_path / "c.h5", resume=True, **settings)
    assert read_checkpoint(tmp_path / "c.h5")["step"] == 18 and len(done) == steps
    assert len(resumed) == 6
    for name in full.columns():
        if name != "seconds":
            assert resumed[name] == full[name], name
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array, err_msg=name)


def test_resume_refuses_other_settings_and_names_the_difference(tmp_path):
    frames = alloy(6)
    settings = {"epochs": 1, "progress": False, "checkpoint": tmp_path / "c.h5"}
    fd.train(small_potential(), frames, force_weight=1.0, **settings)
    with pytest.raises(InputError, match="force_weight"):
        fd.train(small_potential(), frames, force_weight=2.0, resume=True, **settings)
    with pytest.raises(InputError, match="other training frames"):
        fd.train(small_potential(), frames[:5], resume=True, **settings)


def test_seeds_reproduce_and_differ():
    frames = alloy(6)
    runs = [
        fd.train(small_potential(), frames, epochs=2, batch_atoms=16, seed=seed, progress=False) for seed in (1, 1, 2)
    ]
    assert runs[0]["train_loss"] == runs[1]["train_loss"]
    assert runs[0]["train_loss"] != runs[2]["train_loss"]


def test_single_composition_with_large_energies():
    """All-electron-like totals of one composition: the reference energies take them without loss."""
    frames = alloy(6)
    for atoms in frames:
        atoms.calc.results["energy"] -= 123456.0
    potential = small_potential()
    fd.train(potential, frames, epochs=2, progress=False)
    energies = np.array([a.get_potential_energy() for a in frames])
    assert abs(potential.predict(frames).energy - energies).max() < 50.0


def test_early_stopping_and_time_limit():
    frames = alloy(6)
    stopped = fd.train(small_potential(), frames, epochs=50, patience=1, learning_rate=0.5, progress=False)
    assert len(stopped) < 50
    limited = fd.train(small_potential(), frames, epochs=50, time_limit=1e-9, progress=False)
    assert len(limited) == 1


def test_frozen_descriptor_does_not_move():
    potential = small_potential()
    before = potential.descriptor.parameters["beta"].copy()
    fd.train(potential, alloy(4), epochs=2, descriptor_learning_rate=0.0, progress=False)
    np.testing.assert_array_equal(potential.descriptor.parameters["beta"], before)


def test_frames_without_some_labels_are_allowed():
    frames = alloy(6)
    for atoms in frames[::2]:
        del atoms.calc.results["forces"], atoms.calc.results["stress"]
    history = fd.train(small_potential(), frames, epochs=1, progress=False)
    assert np.isfinite(history.rows[-1]["train_loss"])


def test_potentials_of_one_descriptor_are_independent():
    """A committee: training one member must not move the others."""
    descriptor = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.5, n_radial=2)
    one, two = (fd.Potential(descriptor, hidden=(4,), seed=seed) for seed in (0, 1))
    frames, before = alloy(4), descriptor.parameters["beta"].copy()
    energy = two.predict(frames).energy
    fd.train(one, frames, epochs=1, progress=False)
    assert not np.array_equal(one.descriptor.parameters["beta"], before)
    np.testing.assert_array_equal(two.predict(frames).energy, energy)
    np.testing.assert_array_equal(descriptor.parameters["beta"], before)


def test_labels_elsewhere_are_pointed_at():
    frames, moved = alloy(3), alloy(3)
    for atoms, other in zip(frames, moved, strict=True):
        atoms.info["REF_energy"], atoms.arrays["dft_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        other.positions += 0.1
    keys = r"read_frames\(frames, energy_key='REF_energy', forces_key='dft_forces'\) takes these"
    with pytest.raises(InputError, match=f"none of the 3 training frames .* {keys}"):
        fd.train(small_potential(), frames, alloy(2), epochs=1, progress=False)
    with pytest.raises(InputError, match=r"none of the 3 validation frames .* results of other positions"):
        fd.train(small_potential(), alloy(2), moved, epochs=1, progress=False)
    frames = fd.read_frames(frames, energy_key="REF_energy", forces_key="dft_forces")
    assert len(fd.train(small_potential(), frames, epochs=1, progress=False)) == 1


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "x", None, [1, 2], True])
def test_weights_of_frames_are_checked(weight):
    frames = alloy(3)
    frames[1].info["weight"] = weight
    with pytest.raises(InputError, match=r"info\['weight'\] of frame 1 is .* at least 0"):
        fd.train(small_potential(), frames, epochs=1, progress=False, valid_fraction=0)


def test_what_is_no_potential():
    with pytest.raises(InputError, match="potential is a GaussianMoments; give a Potential"):
        fd.train(small_potential().descriptor, alloy(2))


def test_history_shows_what_matters():
    history = fd.train(small_potential(), alloy(4), epochs=2, progress=False)
    best = history.best()
    assert repr(history) == f"<History: 2 epochs, best valid_loss {best['valid_loss']:.4g} in epoch {best['epoch']}>"
    history.rows.insert(0, {"epoch": 0, "valid_loss": float("nan")})
    assert history.best() is best


def test_frames_without_any_label_are_refused():
    frames = [atoms.copy() for atoms in alloy(4)]
    with pytest.raises(InputError, match="carries an energy or forces"):
        fd.train(small_potential(), frames, epochs=1, progress=False)


def test_unknown_element_is_named():
    frames = alloy(4)
    bad = Atoms("Al2", positions=[[0, 0, 0], [2.5, 0, 0]])
    bad.calc = SinglePointCalculator(bad, energy=0.0)
    with pytest.raises(InputError, match="Al"):
        fd.train(small_potential(), [*frames, bad], epochs=1, progress=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"ema": 1.0}, "ema"),
        ({"energy_weight": 0, "force_weight": 0, "stress_weight": 0}, "all 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"device": "gpu"}, "device"),
        ({"dtype": "float16"}, "dtype"),
        ({"clip": 0}, "clip came as 0"),
        ({"seed": -1}, "seed came as -1"),
    ],
)
def test_bad_settings_say_what_is_allowed(setting, message):
    with pytest.raises(InputError, match=message):
        fd.train(small_potential(), alloy(4), progress=False, **{"epochs": 1, **setting})


def test_settings_are_listed_once():
    assert Settings.named(epochs=3).as_dict()["epochs"] == 3
