"""Spline filters: what training asks of them beyond the maps."""

from typing import Any

from fastdesc.backend.arrays import to_host
from fastdesc.descriptors.spline_filters.penalty import penalty
from fastdesc.descriptors.training_hints import TrainingHints
from fastdesc.types import Array, Arrays


class SplineHints(TrainingHints):
    """Hints of SplineFilters."""

    @property
    def r_min(self) -> float:
        """First knot of the radial filters, Å; below it they go on as straight lines."""
        return self.descriptor.r_min

    def count_below_r_min(self, rij: Array) -> int:
        """Return how many distances lie on the straight line below `r_min`, where nothing was fitted.

        Parameters
        ----------
        rij : ((2,) 3, n_pairs) array, Å
            Pair vectors, of both directions as a rule.
        """
        r = rij if rij.ndim == 2 else rij[0]
        return int(to_host(((r * r).sum(0) < self.r_min**2).sum()))

    def penalty(self, theta: Arrays, curvature: float, magnitude: float) -> tuple[Any, Arrays]:
        """Return what the curvature and magnitude of all filters add to the loss, and its gradient."""
        return penalty(self.descriptor.spline, theta, curvature, magnitude)
