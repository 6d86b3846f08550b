"""What a checkpoint holds is what a resumed run goes on with, and what cooling down leaves behind is left behind."""

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.training import trainer_for
from fastdesc.training.checkpoint import read_checkpoint, write_checkpoint

SETTINGS = {"epochs": 8, "batch_atoms": 24, "late": 0.5, "learning_rate": 0.02, "seed": 3}
SMALL = {"n_radial": 2, "n_basis": 3, "max_rank": 1}


@pytest.fixture(scope="module")
def frames():
    return alloy(6)


def test_the_mean_of_late_parameters_goes_on(tmp_path, frames):
    path = tmp_path / "c.h5"
    potential = small_potential(**SMALL)
    trainer = trainer_for(potential, frames[:4], frames[4:], checkpoint=path, **SETTINGS)
    trainer.run(path, progress=False, callback=lambda epoch: epoch.row["epoch"] == 6)    # two late ones are over
    again = trainer_for(small_potential(**SMALL), frames[:4], frames[4:], checkpoint=path, resume=True, **SETTINGS)
    assert trainer.mean.n_steps == again.mean.n_steps == 2
    for name, array in trainer.mean.value().items():
        np.testing.assert_array_equal(again.mean.value()[name], array, err_msg=name)


def test_reference_energies_are_those_of_the_checkpoint(tmp_path, frames):
    """Not fitted anew: those of the run may have been given, or come from an earlier training."""
    path = tmp_path / "c.h5"
    potential = small_potential(**SMALL)
    fd.train(potential, frames[:4], frames[4:], checkpoint=path, progress=False, **{**SETTINGS, "epochs": 1})
    state = read_checkpoint(path)
    np.testing.assert_array_equal(state["reference"], potential.reference)
    state["reference"] = state["reference"] + [0.5, -0.25]
    write_checkpoint(path, state)
    again = small_potential(**SMALL)
    trainer_for(again, frames[:4], frames[4:], checkpoint=path, resume=True, **{**SETTINGS, "epochs": 1})
    np.testing.assert_array_equal(again.reference, state["reference"])


def test_the_average_begins_anew_where_late_epochs_begin_early(frames):
    """From the best parameters; that of before would bring the others back."""
    trainer = trainer_for(small_potential(**SMALL), frames[:4], frames[4:], **SETTINGS)
    trainer.run(progress=False, callback=lambda epoch: epoch.row["epoch"] == 2)
    trainer.best = {name: array + 1.0 for name, array in trainer.best.items()}
    assert trainer._cool_down() == 2 and trainer.position == 4
    trainer.average.update(trainer.parameters)
    for name, array in trainer.best.items():
        np.testing.assert_array_equal(trainer.parameters[name], array, err_msg=name)
        np.testing.assert_array_equal(trainer.average.value()[name], array, err_msg=name)
