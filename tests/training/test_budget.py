"""How long a run is: by epochs, steps, minutes or none of them; and energies that count more late."""

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training import trainer_for
from fastdesc.training.budget import MOST_EPOCHS, STEPS, step_frames, with_budget
from fastdesc.training.checkpoint import read_checkpoint
from fastdesc.training.schedules import is_late
from fastdesc.training.settings import Settings


class Frames:
    """As much of a training set as a budget looks at."""

    def __init__(self, n_frames, atoms):
        self.n_frames, self.n_atoms = n_frames, np.full(n_frames, atoms)

    def batches(self, batch_atoms, order):
        size = max(1, batch_atoms // int(self.n_atoms[0]))
        return [order[k : k + size] for k in range(0, len(order), size)]


@pytest.mark.parametrize(
    ("given", "epochs", "per_epoch"),
    [
        ({}, round(STEPS / 25), 25),
        ({"batch_atoms": 128}, round(STEPS / 100), 100),
        ({"batch_size": 7}, round(STEPS / 229), 229),
        ({"steps": 60}, 2, 25),
        ({"steps": 1}, 1, 25),
        ({"minutes": 2.0}, 48, 25),
        ({"epochs": 7}, 7, 25),
        ({"batch_size": 1600}, MOST_EPOCHS, 1),
        ({"batch_size": 1600, "steps": 5000}, 5000, 1),
    ],
)
def test_epochs_follow_from_a_budget(given, epochs, per_epoch):
    data = Frames(1600, 8)
    found, text = with_budget(Settings(**given), data, lambda s: 0.1)
    assert (found.epochs, found.steps, found.minutes) == (epochs, None, None)
    assert len(step_frames(found, data, np.arange(1600))) == per_epoch
    assert ("epochs" in given) == (text == "")
    assert text == "" or f"{epochs} epochs of {per_epoch} step" in text
    assert ("100 ms per step" in text) == ("minutes" in given)


@pytest.mark.parametrize(("n_frames", "atoms", "batch_atoms"), [(10, 5, 32), (100, 40, 250), (1000, 40, 512)])
def test_small_sets_make_small_steps(n_frames, atoms, batch_atoms):
    found, text = with_budget(Settings(), Frames(n_frames, atoms))
    assert found.batch_atoms == batch_atoms
    assert f"{batch_atoms // atoms} frames, " in text or n_frames % (batch_atoms // atoms)


def test_two_budgets_are_one_too_many():
    with pytest.raises(InputError, match="steps and minutes came together"):
        Settings(steps=3, minutes=1)
    with pytest.raises(InputError, match="minutes came as 0"):
        Settings(minutes=0)
    with pytest.raises(InputError, match="late_energy_factor came as 0"):
        Settings(late_energy_factor=0)
    with pytest.raises(InputError, match="late came as 1"):
        Settings(late=1)


def test_a_run_of_minutes_goes_on_with_the_epochs_it_began_with(tmp_path):
    frames, given = alloy(6), {"batch_atoms": 24, "progress": False, "checkpoint": tmp_path / "c.h5"}
    fd.train(small_potential(), frames, minutes=0.004, time_limit=0.0, **given)
    epochs = read_checkpoint(tmp_path / "c.h5")["settings"]["epochs"]
    again = trainer_for(
        small_potential(), frames, minutes=500, resume=True, batch_atoms=24, checkpoint=tmp_path / "c.h5"
    )
    assert again.settings.epochs == epochs and again.epoch == 1


def test_the_time_of_a_step_changes_nothing():
    frames, runs = alloy(6), []
    for given in ({"epochs": 2}, {"minutes": 1.0}):
        trainer = trainer_for(small_potential(), frames, batch_atoms=24, **given)
        runs.append([trainer.rng.bit_generator.state, *(a.copy() for a in trainer.parameters.values())])
        assert trainer.optimizer.n_steps == 0
    for one, other in zip(*runs, strict=True):
        np.testing.assert_equal(one, other)


def test_the_last_quarter_is_late():
    assert [is_late(k, 8, 0.25) for k in range(8)] == [False] * 6 + [True] * 2
    assert [is_late(k, 3, 0.25) for k in range(3)] == [False, False, True]
    assert not any(is_late(k, 8, 0.0) for k in range(8))


def weights_of(monkeypatch, frames, **settings):
    """Energy weights of the steps of a run, and of its validations."""
    from fastdesc.training import trainer

    seen = {"batch_gradient": [], "evaluate_set": []}
    for name in seen:
        plain = getattr(trainer, name)

        def noted(*given, name=name, plain=plain, **named):
            seen[name] += [x.energy for x in given if type(x).__name__ == "LossWeights"]
            return plain(*given, **named)

        monkeypatch.setattr(trainer, name, noted)
    history = fd.train(small_potential(), frames, progress=False, **settings)
    return *seen.values(), history


def test_energies_count_more_late_and_in_every_validation(monkeypatch):
    settings = {"epochs": 4, "batch_atoms": 1000, "energy_weight": 2.0, "late_energy_factor": 5.0}
    train, valid, _ = weights_of(monkeypatch, alloy(8), **settings)
    assert train == [2.0, 2.0, 2.0, 10.0] and set(valid) == {10.0}


def test_without_late_steps_nothing_rises(monkeypatch):
    train, valid, _ = weights_of(monkeypatch, alloy(8), epochs=4, energy_weight=2.0, late=0)
    assert set(train) == {2.0} and set(valid) == {2.0}


def test_without_validation_frames_the_best_is_one_of_the_late_epochs():
    """Losses of early epochs weigh energies less and would win."""
    settings = {"epochs": 8, "valid_fraction": 0, "late_energy_factor": 1e6}
    trainer = trainer_for(small_potential(), alloy(8), **settings)
    history = trainer.run(progress=False)
    assert history["train_loss"][6] > 10 * history["train_loss"][5]
    assert trainer.best_epoch > 6


def test_energies_alone_need_no_weight_against_forces(monkeypatch):
    settings = {"epochs": 4, "force_weight": 0.0, "stress_weight": 0.0, "energy_weight": 2.0}
    train, valid, _ = weights_of(monkeypatch, alloy(8), **settings)
    assert set(train) == set(valid) == {2.0}
