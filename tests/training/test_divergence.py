"""A potential that diverges says so, and is not what training leaves."""

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescError, FastdescWarning
from fastdesc.training.batch_gradient import predict_batch
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.loss import LossWeights, residuals


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_divergence_is_one_sentence_without_warnings():
    with pytest.raises(FastdescError, match=r"not finite|became"):
        fd.train(small_potential(), alloy(4), epochs=20, learning_rate=1e6, progress=False)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_potential_that_diverged_is_not_the_best():
    """The one step of the one epoch goes too far: energies overflow, and that is no loss of zero."""
    frames, potential = alloy(4), small_potential()
    with pytest.warns(FastdescWarning, match="never finite, and the potential is what it was before"):
        history = fd.train(potential, frames[:3], frames[3:], epochs=1, learning_rate=1e30, warmup=0, progress=False)
    row = history.rows[0]
    assert not np.isfinite([row["valid_loss"], row["valid_energy_mae"], row["valid_forces_rmse"]]).any()
    assert np.isfinite(potential.predict(frames).forces).all()
    assert history.best() is None


def test_predictions_that_are_not_finite_are_not_frames_without_labels():
    potential = small_potential()
    data = TrainingSet(alloy(2), potential.descriptor, np.float64)
    batch = data.batch(np.arange(2), potential.reference)
    energy, forces, virial, _ = predict_batch(potential.model(), batch)
    for spoilt in range(3):
        given = [energy.copy(), forces.copy(), virial.copy()]
        given[spoilt][0] = np.nan
        assert np.isnan(residuals(batch.targets, *given, LossWeights(1, 1, 1)).loss)
