"""A cutoff for a data set: what `cutoff = "auto"` means."""

import numpy as np

from fastdesc.errors import InputError
from fastdesc.io.frames import read_frames
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.types import Frames

NEIGHBOURS = 50
"""Of an atom, in the mean. Of published sets lithium and silicon lose much of their accuracy with 5 Å instead of 6 Å,
and nickel gains: what 6, 6 and 5 Å have in common is this number."""
SHORTEST, LONGEST, LONGEST_OF_MOLECULES = 4.0, 6.0, 5.0
"""Å. Molecules are more accurate with 5 Å than with 6 Å (3BPA: 7 % of forces at 600 K)."""
SOME = 64
"""Frames that are looked at, spread over the set."""


def choose_cutoff(frames: Frames) -> float:
    """Return the radius in Å, a multiple of 0.1, within which atoms have 50 neighbours in the mean.

    It lies between 4 and 6 Å, and is at most 5 Å where no frame is periodic. Of many frames some, evenly spread, are
    looked at. Configurations take it where they name no cutoff, or "auto".

    Parameters
    ----------
    frames : path, ase.Atoms or list of ase.Atoms
        Those of training, as of `read_frames`. Frames that stay on the disk
        (fastdesc/training/streamed_frames.py) are taken, too.

    Returns
    -------
    float
        Å.

    Raises
    ------
    InputError
        For what are no frames, and where none has atoms.

    Examples
    --------
    >>> frames = fd.read_frames("train.extxyz")    # doctest: +SKIP
    >>> d = fd.GaussianMoments(species=["Cu"], cutoff=fd.choose_cutoff(frames))    # doctest: +SKIP
    """
    if not hasattr(frames, "files"):
        frames = [atoms for atoms in read_frames(frames) if len(atoms)]
    if not len(frames):
        raise InputError("the frames hold no atoms, which decide the cutoff; give at least one structure with atoms")
    which = np.linspace(0, len(frames) - 1, min(len(frames), SOME)).astype(int)
    if hasattr(frames, "files"):
        parts = [frames.files.rows(k, k + 1).structures for k in frames.frames[which]]
    else:
        parts = [Structures.from_ase(frames[k]) for k in which]
    longest = LONGEST if any(part.pbc.any() for part in parts) else LONGEST_OF_MOLECULES
    distances = [_distances(part, longest) for part in parts]
    nearest = np.sort(np.concatenate(distances))
    n = NEIGHBOURS * sum(len(part.numbers) for part in parts)
    return longest if n >= len(nearest) else float(np.clip(np.round(nearest[n], 1), SHORTEST, longest))


def _distances(structures, longest):
    """Of all pairs, each in both directions, Å."""
    pairs = Pairs.find(structures, longest)
    i = np.repeat(np.arange(len(pairs.row) - 1), np.diff(pairs.row))
    x, cell = structures.positions, structures.cells[0]
    return np.sqrt(((x[pairs.j] - x[i] + pairs.shift @ cell) ** 2).sum(axis=1))
