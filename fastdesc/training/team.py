"""Trainers that work on the same batches, each on a device of its own: who takes which frames, and sums over all.

Every member holds all frames and parameters and makes the same steps. Of a batch of B frames it takes b; the gradient
of the loss, a mean over frames, is the sum over members of b/B times that of their own frames. The sum is the same,
bit for bit, for all of them, and so are the parameters after the step.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.errors import FastdescError


class Team:
    """One of `size` members; alone by default.

    Parameters
    ----------
    rank : int
        Which member this is, from 0.
    size : int
    add : callable
        Replaces a float64 array, NumPy or CuPy as the trainer's, by its sum over all members.
    """

    def __init__(self, rank=0, size=1, add=None):
        self.rank, self.size, self._add = rank, size, add

    def share(self, frames, n_atoms):
        """Frames of a batch that are this member's, such that everyone has about as many atoms; perhaps none.

        Parameters
        ----------
        frames, n_atoms : (n,) int arrays
        """
        if self.size == 1:
            return frames
        middle = np.cumsum(n_atoms) - n_atoms / 2
        owner = np.minimum((middle / n_atoms.sum() * self.size).astype(int), self.size - 1)
        return frames[owner == self.rank]

    def sum(self, arrays, factor=1.0):
        """Sums over all members of `factor` times each of the arrays, in one message; float64."""
        if self.size == 1:
            return arrays
        xp = namespace(arrays[0])
        flat = xp.concatenate([a.astype(np.float64).reshape(-1) for a in arrays]) * factor
        self._add(flat)
        ends = np.cumsum([a.size for a in arrays])
        return [x.reshape(a.shape) for x, a in zip(xp.split(flat, ends[:-1].tolist()), arrays, strict=True)]

    def sum_dict(self, arrays, factor=1.0):
        """`sum` of the values of a dict."""
        return dict(zip(arrays, self.sum(list(arrays.values()), factor), strict=True))

    def any(self, flag, like):
        """Whether any member says so; `like` is an array of the trainer's device."""
        if self.size == 1:
            return flag
        return bool(to_host(self.sum([namespace(like).full(1, float(flag))])[0])[0] > 0)

    def check_same(self, arrays):
        """FastdescError unless all members hold the same numbers, bit for bit."""
        if self.size == 1:
            return
        first = self.sum(arrays, float(self.rank == 0))
        same = all(bool((a == b).all()) for a, b in zip(arrays, first, strict=True))
        if self.any(not same, arrays[0]):
            raise FastdescError(
                "the devices that train together did not arrive at the same numbers; they must be of one kind"
            )


ALONE = Team()
