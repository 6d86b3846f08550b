"""However training ends, what is there is validated and kept, and reports speak of that."""

import signal

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training import trainer as module
from fastdesc.training import trainer_for
from fastdesc.training.batch_gradient import batch_gradient
from fastdesc.training.budget import step_frames
from fastdesc.training.checkpoint import read_checkpoint, write_checkpoint
from fastdesc.training.settings import Settings

FOR_TRAINERS = {"batch_atoms": 24, "dtype": "float64", "seed": 5}
QUICK = {**FOR_TRAINERS, "progress": False}


def errors(potential, frames):
    """Mean absolute errors of forces, as training reports them, from the potential itself."""
    forces = np.concatenate([a.get_forces() for a in frames])
    return abs(potential.predict(frames).forces - forces).mean()


def scripted(monkeypatch, losses):
    """Let validations find these losses, one after another; return the epochs at which they were asked for."""
    asked, left = [], iter(losses)

    def evaluate(*given):
        asked.append(given)
        return {"loss": next(left), "forces_mae": 1.0}

    monkeypatch.setattr(module, "evaluate_set", evaluate)
    return asked


def interrupted(monkeypatch, steps, error=KeyboardInterrupt):
    """Let the step after so many end in an error."""
    done = []

    def gradient(*arguments):
        if len(done) == steps:
            raise error
        done.append(1)
        return batch_gradient(*arguments)

    monkeypatch.setattr(module, "batch_gradient", gradient)


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [({"epochs": 3, "valid_every": 10}, 3), ({"epochs": 4, "valid_every": 3}, 4), ({"time_limit": 1e-9}, 1)],
)
def test_the_last_epoch_is_validated(tmp_path, settings, epochs):
    """Whether the number of epochs is a multiple of valid_every or not, and at the time limit.

    That of the last of all epochs is part of the run: the checkpoint has it.
    """
    frames, potential = alloy(8), small_potential()
    settings = {"epochs": 9, "valid_every": 5, **QUICK, **settings}
    history = fd.train(potential, frames[:6], frames[6:], checkpoint=tmp_path / "c.h5", **settings)
    kept = read_checkpoint(tmp_path / "c.h5")["history"][-1]
    assert ("valid_loss" in kept) == ("time_limit" not in settings)
    assert len(history) == epochs and "valid_loss" in history.rows[-1]
    assert [k for k, row in enumerate(history.rows, 1) if "valid_loss" in row] == sorted(
        {*range(settings.get("valid_every", 5), epochs, settings.get("valid_every", 5)), epochs}
    )
    assert errors(potential, frames[6:]) == pytest.approx(history.best()["valid_forces_mae"], rel=1e-10)


@pytest.mark.parametrize(
    ("losses", "patience", "valid_every", "ends"),
    [
        ([5, 4, 3, 3, 3, 3, 3, 3, 3], 2, 1, 5),    # best is 3; epochs 4 and 5 are not better
        ([5, 4, 3, 3, 3, 2, 3, 3, 3], 3, 1, 9),    # the third chance is used
        ([5, 6, 7, 8, 9], 3, 10, 20),    # judged at 10 (the best) and at 20, where 10 epochs were not better
        ([5, 4, 6, 7, 8], 3, 2, 8),    # best is 4; at epoch 6 only two epochs are over
        ([np.nan] * 9, 4, 1, 4),
    ],
)
def test_patience_to_the_epoch(monkeypatch, losses, patience, valid_every, ends):
    asked = scripted(monkeypatch, losses)
    settings = {"epochs": 30, "patience": patience, "valid_every": valid_every, "batch_atoms": 999}
    history = fd.train(small_potential(), alloy(2), alloy(1), **{**QUICK, **settings})
    assert len(history) == ends and len(asked) == ends // valid_every


def test_patience_and_time_are_those_of_a_run(tmp_path, monkeypatch):
    """A run that is resumed begins to wait anew, and to count seconds."""
    settings = {**QUICK, "epochs": 30, "checkpoint": tmp_path / "c.h5", "batch_atoms": 999}
    scripted(monkeypatch, [1, 2, 2, 2, 2, 2, 2, 2, 2])
    assert len(fd.train(small_potential(), alloy(2), alloy(1), patience=2, **settings)) == 3
    again = small_potential()
    history = fd.train(again, alloy(2), alloy(1), patience=2, resume=True, **settings)
    assert len(history) == 5 and history.best()["epoch"] == 1
    # The best epoch and its parameters came with the checkpoint.
    state = read_checkpoint(tmp_path / "c.h5")
    assert state["best_epoch"] == 1 and state["best_loss"] == 1
    for name, array in again.parameters.items():
        np.testing.assert_array_equal(array, state["best"][name], err_msg=name)
    state["seconds"] = 1e6    # of the runs before
    write_checkpoint(tmp_path / "c.h5", state)
    settings["epochs"] = 8
    history = fd.train(small_potential(), alloy(2), alloy(1), time_limit=1e3, resume=True, **settings)
    assert len(history) == 8 and 1e6 < history["seconds"][-1] < 1e6 + 1e3


def test_the_best_of_before_is_kept_by_a_resumed_run_that_finds_worse(tmp_path, monkeypatch):
    frames, settings = alloy(8), {**QUICK, "checkpoint": tmp_path / "c.h5"}
    first = small_potential()
    fd.train(first, frames[:6], frames[6:], epochs=3, **settings)
    again = small_potential()
    scripted(monkeypatch, [1e9] * 9)
    settings = {**FOR_TRAINERS, "checkpoint": tmp_path / "c.h5"}
    trainer = trainer_for(again, frames[:6], frames[6:], resume=True, epochs=6, **settings)
    trainer.run(progress=False)
    assert len(trainer.history) == 6 and trainer.kept is trainer.history.best()
    for name, array in first.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array, err_msg=name)


def test_the_plateau_goes_on_where_it_was(tmp_path, monkeypatch):
    """Rates after a resume are those of one run: the schedule remembers for how long nothing was better."""
    settings = {**QUICK, "schedule": "plateau", "warmup": 0, "batch_atoms": 999}
    losses = [1.0] + [2.0] * 90
    scripted(monkeypatch, losses)
    whole = fd.train(small_potential(), alloy(2), alloy(1), epochs=80, **settings)
    assert len(set(whole["learning_rate"])) > 2, "rates fell, more than once"
    fell = next(k for k, rate in enumerate(whole["learning_rate"]) if rate < whole["learning_rate"][0])
    part = {**settings, "checkpoint": tmp_path / "c.h5"}
    scripted(monkeypatch, losses)
    fd.train(small_potential(), alloy(2), alloy(1), epochs=fell + 2, **part)
    scripted(monkeypatch, losses[fell + 2 :])
    resumed = fd.train(small_potential(), alloy(2), alloy(1), epochs=80, resume=True, **part)
    assert resumed["learning_rate"] == whole["learning_rate"]


def test_the_loss_on_training_frames_is_a_mean_over_frames():
    """Where steps move nothing it is the loss on the same frames in validation, however they are cut."""
    frames = alloy(7)
    frames[2].info["weight"] = 5.0
    settings = {**QUICK, "late": 0.0, "batch_size": 3, "force_weight": 2.0}
    settings |= {"learning_rate": 1e-30, "descriptor_learning_rate": 0.0}
    (row,) = fd.train(small_potential(), frames, frames, epochs=1, **settings).rows
    for name in ("loss", "energy_mae", "energy_rmse", "forces_mae", "stress_rmse"):
        assert row[f"train_{name}"] == pytest.approx(row[f"valid_{name}"], rel=1e-12), name


@pytest.mark.parametrize("validated", [True, False])
def test_an_interruption_keeps_what_is_there(tmp_path, monkeypatch, validated):
    """After seven of eight steps, with and without validation frames; the checkpoint still goes on exactly."""
    frames, potential = alloy(8), small_potential()
    given = (frames[:6], frames[6:]) if validated else (frames[:6],)
    settings = {"epochs": 9, "valid_every": 10, "valid_fraction": 0.0, "checkpoint": tmp_path / "c.h5", "resume": False}
    trainer = trainer_for(potential, *given, **FOR_TRAINERS, **settings)
    per_epoch = len(step_frames(trainer.settings, trainer.data, np.arange(6)))
    interrupted(monkeypatch, 3 * per_epoch + 1 if validated else 1)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(tmp_path / "c.h5", progress=False)
    averaged = trainer.average.value()
    for name, array in potential.parameters.items():
        np.testing.assert_array_equal(array, averaged[name], err_msg=name)
    if validated:
        assert trainer.kept["epoch"] == 4 and trainer.kept["valid_loss"] < np.inf
        assert errors(potential, frames[6:]) == pytest.approx(trainer.kept["valid_forces_mae"], rel=1e-10)
        state = read_checkpoint(tmp_path / "c.h5")
        assert state["epoch"] == 3 and not state["best"]


def test_an_interruption_after_a_better_epoch_keeps_that(monkeypatch):
    frames, potential = alloy(6), small_potential()
    trainer = trainer_for(potential, frames[:4], frames[4:], epochs=9, **FOR_TRAINERS)
    scripted(monkeypatch, [3.0, 1.0, 2.0])
    interrupted(monkeypatch, 2 * len(step_frames(trainer.settings, trainer.data, np.arange(4))) + 1)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress=False)
    assert trainer.kept["epoch"] == 2 and trainer.kept["valid_loss"] == 1.0
    for name, array in potential.parameters.items():
        np.testing.assert_array_equal(array, trainer.best[name], err_msg=name)


def test_an_error_is_not_followed_by_a_validation(monkeypatch):
    trainer = trainer_for(small_potential(), alloy(3), alloy(1), epochs=9, batch_size=2)
    asked = scripted(monkeypatch, [])
    interrupted(monkeypatch, 1, InputError("no"))    # the second of two steps
    with pytest.raises(InputError, match="no"):
        trainer.run(progress=False)
    assert not asked and trainer.kept == {}


def test_a_run_that_ended_early_and_is_resumed_has_the_numbers_of_one(tmp_path):
    """The validation at the time limit leaves no trace in the run that goes on."""
    frames, settings = alloy(8), {**QUICK, "valid_every": 2, "schedule": "plateau"}
    whole, parts = small_potential(), small_potential()
    full = fd.train(whole, frames, epochs=4, **settings)
    settings["checkpoint"] = tmp_path / "c.h5"
    for _ in range(4):
        parts = small_potential()
        resumed = fd.train(parts, frames, epochs=4, time_limit=1e-9, resume=True, **settings)
    assert resumed["valid_loss"] == full["valid_loss"] and resumed["train_loss"] == full["train_loss"]
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(parts.parameters[name], array, err_msg=name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_keeps_and_reports_what_was_reached(trained, run, tmp_path, monkeypatch, number):
    """Ended by a signal before the first validation: the model is that of the report, not the untrained one."""
    import os

    from helpers.command_line import CONFIG

    config = CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 9\nvalid_every = 50")
    (tmp_path / "c.toml").write_text(config)
    done = []

    def gradient(*arguments):
        if len(done) == 5:
            os.kill(os.getpid(), number)
        done.append(1)
        return batch_gradient(*arguments)

    monkeypatch.setattr(module, "batch_gradient", gradient)
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 128 + number
    (line,) = [line for line in out.splitlines() if "holds what was reached" in line]
    assert "model.h5 holds what was reached: epoch 2, as far as it came, MAE on valid: energy" in line
    from fastdesc.training.data import opened

    frames = fd.read_frames(trained / "train.extxyz")
    valid = opened(frames, None, Settings(), np.random.default_rng(0))[1]
    mae = 1000 * errors(fd.load(tmp_path / "run" / "model.h5"), valid)
    assert float(line.split("forces ")[1].split()[0]) == pytest.approx(mae, rel=6e-3), "three digits, float32"


def test_the_command_reports_the_model_it_wrote_when_patience_ends_first(trained, run, tmp_path):
    """Patience shorter than valid_every: the run is judged at epoch 2 at the earliest, and ends at 4."""
    from helpers.command_line import CONFIG

    text = CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 30\npatience = 1\nvalid_every = 2\n")
    (tmp_path / "c.toml").write_text(text.replace("[training]", "[training]\nlearning_rate = 0.5\nwarmup = 0.0"))
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0
    from fastdesc.training.data import opened

    epoch = int(out.split("best epoch ")[1].split(",")[0])
    assert epoch % 2 == 0
    valid = opened(fd.read_frames(trained / "train.extxyz"), None, Settings(), np.random.default_rng(0))[1]
    mae = 1000 * errors(fd.load(tmp_path / "run" / "model.h5"), valid)
    said = float(out.split("MAE on valid")[1].split("forces ")[1].split()[0])
    assert said == pytest.approx(mae, rel=6e-3)
