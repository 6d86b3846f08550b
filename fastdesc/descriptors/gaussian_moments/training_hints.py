"""Gaussian moments: what training asks of them beyond the maps."""

from typing import ClassVar

import numpy as np

from fastdesc.descriptors.gaussian_moments.elements import BETA, NAMES
from fastdesc.descriptors.gaussian_moments.recursion import calibrated
from fastdesc.descriptors.training_hints import TrainingHints
from fastdesc.pairs import Pairs
from fastdesc.types import Array, Arrays


class GaussianMomentsHints(TrainingHints):
    """Hints of GaussianMoments: the rows of its coefficients are radial functions, or elements; networks learn as such.

    What networks of the recursion see at first is scaled.
    """

    matrices: ClassVar[tuple[str, ...]] = (BETA, *NAMES)
    trained_like_networks: ClassVar[tuple[str, ...]] = ("network.",)

    def adapt_initial(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> None:
        """Scale what networks see, unless parameters were changed since they were made."""
        descriptor = self.descriptor
        if descriptor.iterations == 0:
            return
        initial = type(descriptor)(**descriptor.get_params()).parameters
        if all(np.array_equal(array, initial[name]) for name, array in descriptor.parameters.items()):
            descriptor.parameters = calibrated(descriptor, rij, pairs, species, theta)
