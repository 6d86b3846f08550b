"""Trainers that work on the same batches, each on a device of its own: who takes which frames, and sums over all.

Every member holds all frames and parameters and makes the same steps. Of a batch of B frames it takes b; the gradient
of the loss, a mean over frames, is the sum over members of b/B times that of their own frames. The sum is the same,
bit for bit, for all of them, and so are the parameters after the step.
"""

from contextlib import contextmanager, nullcontext

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

    Attributes
    ----------
    asked : bool
        Whether this member was asked to stop; every sum tells the others.
    heard : tuple
        With an array of one number, above 0 where a member had been asked at the last sum; () in a team of one.
    stopped : bool
        Whether all members have stopped at one step, and still answer each other.
    """

    def __init__(self, rank=0, size=1, add=None):
        self.rank, self.size, self._add = rank, size, add
        self.asked, self.heard, self.stopped = False, (), False

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
        flat = xp.concatenate([*(a.astype(np.float64).reshape(-1) for a in arrays), xp.zeros(1)]) * factor
        flat[-1] = float(self.asked)
        self._add(flat)
        self.heard = (flat[-1:],)
        ends = np.cumsum([a.size for a in arrays])
        return [x.reshape(a.shape) for x, a in zip(xp.split(flat[:-1], ends[:-1].tolist()), arrays, strict=True)]

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
            text = "the devices that train together did not arrive at the same numbers; they must be of one kind"
            raise of_all(FastdescError(text))

    def stop(self):
        """End the run of all members, which have come to the same step."""
        self.stopped = True
        raise KeyboardInterrupt

    def take_device(self, device):
        """Choose among several devices of a kind; one process takes what there is."""

    def signals_agreed(self):
        """Context in which a signal that ends the program ends all members at one step; for one, nothing special."""
        return nullcontext()

    def check_alike(self, **about):
        """InputError unless all members name the same plain values."""

    def begin_alike(self, trainer):
        """Bring the trainers of all members to the same numbers."""

    def agreed(self, work):
        """What work() returns, where it does in all members."""
        return work()

    def rest(self):
        """Say that the steps are over: what is left to do member 0 does."""


def of_all(error):
    """Mark an error that all members meet at the same place, so that one of them need tell it."""
    error.of_all = True
    return error


@contextmanager
def met_by_all():
    """Context of work on the same numbers in all members: an error in it is one of all."""
    try:
        yield
    except FastdescError as error:
        raise of_all(error) from None


ALONE = Team()
