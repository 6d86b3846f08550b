"""How long a run is: by epochs, steps, minutes or none of them; and energies that count more late."""

import shutil

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
        ({}, STEPS // 100, 100),
        ({"batch_atoms": 512}, STEPS // 25, 25),
        ({"batch_size": 7}, round(STEPS / 229), 229),
        ({"steps": 60, "batch_atoms": 512}, 2, 25),
        ({"steps": 1, "batch_atoms": 512}, 1, 25),
        ({"minutes": 2.0, "batch_atoms": 512}, 48, 25),
        ({"epochs": 7, "batch_atoms": 512}, 7, 25),
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


@pytest.mark.parametrize(("n_frames", "atoms", "batch_atoms"), [(10, 5, 32), (40, 40, 100), (1000, 40, 128)])
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


# the end of the schedule


def stalling(monkeypatch, best):
    """Validation losses that fall up to an epoch and then rise, whatever the potential does."""
    from fastdesc.training import trainer

    plain, seen = trainer.evaluate_set, []

    def found(*given):
        seen.append(len(seen) + 1)
        return {**plain(*given), "loss": abs(seen[-1] - best) + 1.0}

    monkeypatch.setattr(trainer, "evaluate_set", found)


def test_when_validation_stalls_the_late_epochs_begin_from_the_best(monkeypatch):
    frames = alloy(8)
    settings = {"epochs": 80, "batch_atoms": 1000, "stall": 0.1, "ema": 0, "stress_weight": 0.1}
    trainer = trainer_for(small_potential(), frames, **settings)
    stalling(monkeypatch, best=3)
    kept = {}

    def look(epoch):
        if epoch.row["epoch"] == 3:
            kept.update({name: a.copy() for name, a in trainer.parameters.items()})
        if epoch.row["epoch"] == 12:    # one step after the fall back: not far from the best
            for name, a in trainer.parameters.items():
                assert abs(a - kept[name]).max() < 3e-3, name

    history = trainer.run(progress=False, callback=look)
    # Eight epochs after the third the first 60 of 80 are over: twenty are left.
    assert len(history) == 11 + 20 and trainer.best_epoch == 3
    rates = history["learning_rate"]
    assert rates[11] < 0.2 * rates[10] and rates[-1] == 0
    whole = fd.train(small_potential(), frames, epochs=80, batch_atoms=1000, stall=0, progress=False)
    np.testing.assert_allclose(rates[11:], whole["learning_rate"][60:], rtol=1e-12)


@pytest.mark.parametrize(
    "given", [{"stall": 0}, {"stall": 0.6}, {"schedule": "constant"}, {"late": 0}, {"late": 0.001}]
)
def test_runs_that_do_not_cool_down_early(monkeypatch, given):
    stalling(monkeypatch, best=1)
    assert len(fd.train(small_potential(), alloy(6), epochs=10, progress=False, **{"stall": 0.1, **given})) == 10


def test_a_run_goes_on_exactly_when_and_after_it_cools_down_early(tmp_path):
    """From the checkpoints of the epoch in which it does, of the one before, and of a late one."""
    settings = {"epochs": 30, "batch_atoms": 24, "stall": 0.05, "learning_rate": 0.05, "progress": False}
    settings["checkpoint_every"] = 1
    frames, whole, path = alloy(8), small_potential(), tmp_path / "c.h5"

    def keep(epoch):
        shutil.copy(path, tmp_path / f"{epoch.row['epoch']}.h5")

    full = fd.train(whole, frames, checkpoint=path, callback=keep, **settings)
    n = len(full)
    states = {k: read_checkpoint(tmp_path / f"{k}.h5") for k in range(1, n + 1)}
    cooled = [k for k, state in states.items() if state["skipped"]]
    assert n < 30 and cooled[-1] == n and states[cooled[0]]["skipped"] == 30 - n, "it cools down early"
    assert states[n - 2]["mean"]
    for k in (cooled[0] - 1, cooled[0], n - 2):
        again = small_potential()
        resumed = fd.train(again, frames, checkpoint=tmp_path / f"{k}.h5", resume=True, **settings)
        for name in full.columns():
            if name != "seconds":
                assert resumed[name] == full[name], (k, name)
        for name, array in whole.parameters.items():
            np.testing.assert_array_equal(again.parameters[name], array, err_msg=f"{k} {name}")


@pytest.mark.parametrize("better", [True, False])
def test_the_mean_of_late_parameters_is_kept_where_it_validates_best(monkeypatch, better):
    from fastdesc.training import trainer

    plain, calls = trainer.evaluate_set, []

    def found(*given):
        calls.append(1)
        mean = len(calls) == 9
        return {**plain(*given), "loss": (0.5 if better else 2.0) if mean else 1.0}

    monkeypatch.setattr(trainer, "evaluate_set", found)
    settings = {"epochs": 8, "batch_atoms": 1000, "late": 0.5, "ema": 0.0, "stall": 0}
    run, late = trainer_for(small_potential(), alloy(8), **settings), []

    def look(epoch):
        if epoch.row["epoch"] > 4:
            late.append({name: a.copy() for name, a in run.parameters.items()})

    history = run.run(progress=False, callback=look)
    assert len(calls) == 9 and history["valid_loss"][-1] == (0.5 if better else 1.0)
    assert run.best_epoch == (8 if better else 1)
    if better:
        for name, array in run.potential.parameters.items():
            expected = np.mean([parameters[name] for parameters in late], axis=0)
            np.testing.assert_allclose(array, expected, rtol=1e-13, atol=1e-15)
