"""What training asks of a descriptor beyond its maps; a family overrides what does not suit it."""

from typing import Any, ClassVar

from fastdesc.errors import InputError
from fastdesc.pairs import Pairs
from fastdesc.types import Array, Arrays


class TrainingHints:
    """Hints for training a descriptor, by default those of a family without splines and without networks.

    Attributes
    ----------
    trained_like_networks : tuple of str
        Beginnings of the names of parameters that want the learning rate and decay of networks.
    matrices : tuple of str
        Parameters that SOAP sees as matrices, all axes but the last as rows; others it steps number by number.
    r_min : float or None
        Å; below it a family goes on as a straight line, of which users are told
        (fastdesc/descriptors/short_distances.py).
    """

    trained_like_networks: ClassVar[tuple[str, ...]] = ()
    matrices: ClassVar[tuple[str, ...]] = ()
    r_min: float | None = None

    def __init__(self, descriptor: Any) -> None:
        self.descriptor = descriptor

    def count_below_r_min(self, rij: Array) -> int:
        """Return how many distances of pair vectors lie below `r_min`, where nothing was fitted."""
        return 0

    def adapt_initial(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> None:
        """Fit initial parameters to a batch before training; parameters that were changed since stay as they are.

        Does nothing where initial parameters suit any structures.
        """

    def penalty(self, theta: Arrays, curvature: float, magnitude: float) -> tuple[Any, Arrays]:
        """Return what the loss gets for parameters alone, and its gradient, a dict like theta.

        Raises
        ------
        InputError
            For a family without splines.
        """
        raise InputError(
            f"{type(self.descriptor).__name__} has no splines, which curvature={curvature:g} and "
            f"magnitude={magnitude:g} could smooth; leave both at 0"
        )
