"""What tests of training from a features file share."""

import numpy as np
from helpers.training import small_potential

from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise

ENERGIES = {"force_weight": 0.0, "stress_weight": 0.0, "descriptor_learning_rate": 0.0}


def settings(**more):
    return {"epochs": 4, "batch_atoms": 24, "seed": 5, "dtype": "float64", "progress": False, **more}


def fitted(frames):
    """A potential whose reference, scaler and scale are set: what is fitted differs without positions."""
    potential = small_potential()
    initialise(potential, TrainingSet(frames, potential.descriptor, np.float64))
    return potential


def assert_same(one, two):
    for name, a in one.parameters.items():
        np.testing.assert_array_equal(two.parameters[name], a, err_msg=name)
