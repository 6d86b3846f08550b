"""Embedded density: what training asks of it beyond the maps."""

import numpy as np

from fastdesc.descriptors.embedded_density.initial import initial_parameters
from fastdesc.descriptors.training_hints import TrainingHints
from fastdesc.pairs import Pairs
from fastdesc.types import Array, Arrays


class EmbeddedDensityHints(TrainingHints):
    """Hints of EmbeddedDensity: its networks learn as a potential's do, and its initial features are scaled."""

    trained_like_networks = ("network.", "hyper")

    def adapt_initial(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> None:
        """Calibrate, unless parameters were changed since they were made."""
        initial = initial_parameters(self.descriptor)
        if all(np.array_equal(array, initial[name]) for name, array in self.descriptor.parameters.items()):
            self.descriptor.calibrate_to(rij, pairs, species, theta)
