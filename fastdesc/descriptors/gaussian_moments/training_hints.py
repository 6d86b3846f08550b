"""Gaussian moments: what training asks of them beyond the maps."""

from typing import ClassVar

from fastdesc.descriptors.gaussian_moments.elements import BETA, NAMES
from fastdesc.descriptors.training_hints import TrainingHints


class GaussianMomentsHints(TrainingHints):
    """Hints of GaussianMoments: the rows of its coefficients are radial functions, or elements."""

    matrices: ClassVar[tuple[str, ...]] = (BETA, *NAMES)
