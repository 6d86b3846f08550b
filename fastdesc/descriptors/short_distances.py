"""One sentence, at the end of a run, on the distances at which a descriptor had nothing but a straight line."""

import warnings

from fastdesc.errors import FastdescWarning


class ShortDistances:
    """How many distances lay below the first knot of the filters; of families without knots none do.

    Attributes
    ----------
    n_short, n_all : int
        Of both directions of each pair.
    """

    def __init__(self, n_short=0, n_all=0):
        self.n_short, self.n_all = n_short, n_all

    @classmethod
    def among(cls, descriptor, rij):
        """Count those among pair vectors (3, n_pairs)."""
        return cls(descriptor.training_hints.count_below_r_min(rij), rij.shape[-1])

    def __add__(self, other):
        return ShortDistances(self.n_short + other.n_short, self.n_all + other.n_all)

    def warn(self, descriptor, where):
        """Issue a FastdescWarning if there are any; `where` says in what, such as "the training frames"."""
        if self.n_short:
            r_min = descriptor.training_hints.r_min
            count = f"{self.n_short // 2} of {self.n_all // 2} distances ({100 * self.n_short / self.n_all:.2g} %)"
            warnings.warn(
                f"{count} in {where} are below r_min = {r_min:g} Å, where filters are straight lines; "
                "lower r_min, or look at those structures",
                FastdescWarning,
                stacklevel=3,
            )


def of_structures(descriptor, structures, at_once=50_000):
    """Count the short distances of Structures; without work for families that have no first knot."""

    found = ShortDistances()
    if descriptor.training_hints.r_min is None:
        return found
    for block in structures.blocks(at_once):
        rij, _, _ = descriptor.prepare(block)
        found += ShortDistances.among(descriptor, rij)
    return found
